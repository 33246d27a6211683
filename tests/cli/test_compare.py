"""`deeptaxi compare` and `deeptaxi report` on folders of runs, as they are typed; the runs of `sweep` are trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import deeptaxi
from tests.cli.conftest import LAKE, refused, run
from tests.report.outline import check_sound
from tests.written_runs import rate, write_group, write_run

QUICK = ["--q-table", "--eval-every", "2", "--environments", "8", "--batch-size", "32",
         "--no-tensorboard", "--no-checkpoints", "--quiet"]  # fmt: skip


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred updates and two, from two seeds each; two are not enough."""
    folder = tmp_path_factory.mktemp("sweep")
    for value in ("200", "2"):
        for seed in (0, 1):
            place = ["--out", folder / "runs" / value / f"seed-{seed}", "--logs", folder / "logs" / value]
            done = run("train", *LAKE, *QUICK, "--updates", value, "--seed", seed, *place)
            assert done.exit_code == 0, done.output
    return folder / "runs"


def test_a_sweep_is_a_table_with_its_verdict_first(sweep: Path) -> None:
    done = run("compare", sweep, "--by", "updates")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("These seeds do not tell 200 from 2: 2 of 2 against 0 of 2 solved, p = 0.12.")
    rows = {line.split()[0]: line for line in lines if line.startswith(("200 ", "2 "))}
    assert "normalized score (random 0, optimum 1)" in done.stdout
    assert rows.keys() == {"200", "2"}
    assert "fewer than 5 seeds" in done.stderr


def test_its_json_is_one_document(sweep: Path) -> None:
    done = run("compare", sweep, "--json")
    found = json.loads(done.stdout)
    assert found["by"] == ["updates"]
    assert [(one["label"], one["optimal"]) for one in found["groups"]] == [("2", 0), ("200", 2)]
    assert found["groups"][0]["updates_to_optimum"]["censored"] == 2
    assert "Note: The runs are grouped by updates, in which they differ." in done.stderr


@pytest.mark.parametrize("words", [["compare", "-o"], ["report", "--out"]])
def test_a_page_has_the_groups_and_the_best_run(sweep: Path, tmp_path: Path, words: list[str]) -> None:
    page = tmp_path / "page.html"
    done = run(words[0], sweep, words[1], page)
    assert done.exit_code == 0, done.output
    assert f"Wrote {page}" in done.stdout
    html = page.read_text(encoding="utf-8")
    outline = check_sound(html)
    assert {"groups", "chart-shares", "chart-optimal", "chart-values", "chart-profiles", "curves", "policy"} <= set(
        outline.ids()
    )
    assert "These seeds do not tell 200 from 2" in html
    assert f"Everything below is about the best run: <code>{sweep}/200/seed-" in html
    refused(run(words[0], sweep, words[1], page), 2, "page.html", "--force")


@pytest.mark.parametrize(("part", "counted"), [("", "4 runs in 2 groups,"), ("200", "2 runs in 1 group,")])
def test_a_page_counts_its_groups(sweep: Path, tmp_path: Path, part: str, counted: str) -> None:
    assert run("report", sweep / part, "-o", tmp_path / "page.html").exit_code == 0
    assert counted in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_report_on_a_folder_of_runs_takes_no_environment(sweep: Path, tmp_path: Path) -> None:
    refused(run("report", sweep, "--env", "Taxi-v4", "-o", tmp_path / "x.html"), 2, "holds runs")


def test_a_report_on_runs_of_different_problems_says_how_to_compare_them(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", env="CliffWalking-v1")
    refused(run("report", tmp_path / "runs", "-o", tmp_path / "x.html"), 2, "`deeptaxi compare … --by env`")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--by", "learning_rte"], ["--by learning_rte: there is no such setting; did you mean 'learning_rate'?"]),
        (["--by", "schedule"], ["optimizer.schedule or exploration.schedule"]),
        (["--by", "seed", "--by", "seed"], ["given twice"]),
    ],
)
def test_a_setting_that_does_not_exist_is_refused(tmp_path: Path, words: list[str], parts: list[str]) -> None:
    refused(run("compare", write_run(tmp_path / "run"), *words), 2, *parts)


def test_logs_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and logs of which neither is near the other, nor near the folder that either command is typed in."""
    work, elsewhere = tmp_path / "work" / "here", tmp_path / "elsewhere"
    work.mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(work)
    place = ["--out", "../../runs/sweep/one/seed-0", "--logs", "records/one"]
    trained = json.loads(run("train", *LAKE, *QUICK, "--updates", "200", *place, "--json").stdout)
    assert trained["log"] == "records/one/seed-0/metrics.jsonl"
    monkeypatch.chdir(elsewhere)
    compared = run("compare", "../runs/sweep", "--json")
    assert json.loads(compared.stdout)["groups"][0]["updates_to_optimum"]["reached"] == 1
    assert "no log says them" not in compared.stderr
    shown = json.loads(run("logs", "../runs/sweep/one/seed-0", "--json").stdout)
    assert shown["log"] == "../work/here/records/one/seed-0/metrics.jsonl"
    assert deeptaxi.load("../runs/sweep/one/seed-0").to_dict()["log"] == shown["log"]


def test_paths_without_runs_are_refused(tmp_path: Path) -> None:
    refused(run("compare", tmp_path), 2, "holds no runs: `deeptaxi train ENV --out")
    refused(run("compare", tmp_path / "none"), 2, "does not exist: name a run folder")


def test_different_problems_are_refused_and_compared_each_by_env(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 5, 5, kwargs={"is_slippery": False})
    write_group(tmp_path / "b", 5, 2, env="CliffWalking-v1")
    refused(run("compare", tmp_path), 2, "FrozenLake-v1 is_slippery=false", "CliffWalking-v1", "--by env")
    done = run("compare", tmp_path, "--by", "env")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("There is one group, and nothing to compare it with.") == 2


def test_a_sweep_on_several_problems_is_compared_on_each(tmp_path: Path) -> None:
    for env, value, optimal in (("CliffWalking-v1", 0.1, 5), ("CliffWalking-v1", 0.2, 0), ("FrozenLake-v1", 0.1, 2)):
        write_group(tmp_path / f"{env}-{value}", 5, optimal, env=env, optimizer={"learning_rate": value})
    typed = ["compare", tmp_path, "--by", "learning_rate", "--json"]
    refused(run(*typed), 2, "is on CliffWalking-v1")
    (tmp_path / "sweep.toml").write_text('environments = ["CliffWalking-v1", "FrozenLake-v1"]\n')
    for words in (typed, ["compare", tmp_path, "--json"]):
        done = run(*words)
        assert done.exit_code == 0, done.output
        document = json.loads(done.stdout)
        assert document["by"] == ["env", "learning_rate"]
        assert [one["optimal"] for one in document["groups"]] == [5, 0, 2]
        assert list(document["verdicts"]) == ["CliffWalking-v1", "FrozenLake-v1"]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 5, 5)
    write_run(tmp_path / "b", seed=9, stopped="interrupted")
    done = run("compare", tmp_path)
    assert f"Left out: {tmp_path / 'b'}: its training was ended early, after 1,000 updates" in done.stderr


def test_many_groups_stay_readable(tmp_path: Path) -> None:
    for number in range(1, 13):
        write_group(tmp_path / str(number), 2, number % 3, optimizer=rate(number / 100))
    done = run("compare", tmp_path, "--by", "learning_rate")
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 200
