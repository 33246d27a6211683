from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.diagnose import Diagnosed
from deeptaxi.errors import UsageError
from deeptaxi.mdp.table import save_table
from tests.cli.conftest import LAKE, refused, run
from tests.problems import random_table
from tests.report.outline import Outline, check_sound

LITTLE = ["--updates", "6", "--no-early-stop", "--eval-every", "3", "--environments", "4", "--batch-size", "8"]
LITTLE += ["--loop", "gymnasium"]  # compiled in a moment; `lake_run` is of the compiled loop


def trained(folder: Path, *words: object) -> Path:
    result = run("train", *words, *LITTLE, "--out", folder, "--logs", folder.parent / "logs", "--json")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def bad_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the same lake that has learned nothing yet."""
    return trained(tmp_path_factory.mktemp("bad") / "little", *LAKE, "--q-table", "--seed", 1)


@pytest.fixture(scope="module")
def blackjack_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("cards") / "blackjack", "Blackjack-v1", "--q-table")


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Report on a run, once for all tests."""
    pages: dict[Path, Path] = {}

    def page(folder: Path) -> Path:
        if folder not in pages:
            pages[folder] = tmp_path_factory.mktemp("pages") / "page.html"
            result = run("report", folder, "-o", pages[folder])
            assert (result.exit_code, result.stderr) == (0, "")
        return pages[folder]

    return page


def report(tmp_path: Path, *runs: Path) -> tuple[Outline, str]:
    """Write a report; return what is in it, and what was said on standard error."""
    result = run("report", *runs, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    return check_sound((tmp_path / "page.html").read_text(encoding="utf-8")), result.stderr


def leaves(values, prefix):
    """The numbers of a nested JSON value, by their path."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        name = f"{prefix}.{key}"
        if isinstance(value, dict | list):
            yield from leaves(value, name)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


@pytest.mark.parametrize("name", ["lake_run", "bad_run", "blackjack_run"])
def test_the_numbers_on_the_page_are_those_of_evaluate(name, request, page_of):
    folder = request.getfixturevalue(name)
    outline = check_sound(page_of(folder).read_text(encoding="utf-8"))
    verdict = json.loads(run("evaluate", folder, "--json").stdout)
    part = "exact" if verdict["exact"] else "episodes"
    expected = dict(leaves(verdict[part], part))
    if expected.get("exact.worst_start.value_gap") == 0:
        del expected["exact.worst_start.state"]  # nobody loses anything
    if part == "episodes":
        assert (expected.pop("episodes.asked"), expected.pop("episodes.cut"), expected.pop("episodes.endless")) == (
            expected["episodes.count"],
            0,
            0,
        )  # all were played to their end, of which the page says nothing
    assert {key: float(value) for key, value in outline.data.items()} == expected


def test_an_optimal_run_is_called_optimal(lake_run, bad_run, page_of):
    good, bad = (Outline(page_of(folder).read_text(encoding="utf-8")) for folder in (lake_run, bad_run))
    assert "Optimal" in [element[2][0] for element in good.all("h2")]
    assert good.title.endswith("Optimal")
    assert bad.title.endswith("Not optimal")
    assert any("state 0 (row 0, column 0)" in "".join(text) for _, _, text in bad.all("p"))


def test_the_json_lists_the_written_files(lake_run, tmp_path):
    result = run("report", lake_run, "--out", tmp_path / "a.html", "--figures", tmp_path / "figures", "--json")
    said = json.loads(result.stdout)
    assert said["report"] == str(tmp_path / "a.html")
    assert said["bytes"] == (tmp_path / "a.html").stat().st_size < 400_000
    assert said["runs"] == [str(lake_run)]
    outline = Outline((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert set(said["sections"]) <= set(outline.ids())
    assert {"verdict", "curves", "policy", "q", "visits", "configuration", "reproduce"} <= set(said["sections"])
    names = {a["id"].removeprefix("chart-") for _, a, _ in outline.all("figure")}
    assert {Path(path).name for path in said["figures"]} == {f"{n}.{end}" for n in names for end in ("png", "svg")}
    assert all(Path(path).read_bytes()[:4] in (b"\x89PNG", b"<?xm") for path in said["figures"])


def test_the_same_run_gives_the_same_page(lake_run, page_of, tmp_path):
    assert run("report", lake_run, "-o", tmp_path / "again.html").exit_code == 0
    assert (tmp_path / "again.html").read_bytes() == page_of(lake_run).read_bytes()


def test_several_runs_share_their_charts_and_the_worst_is_examined(lake_run, bad_run, tmp_path):
    outline, _ = report(tmp_path, lake_run, bad_run)
    assert outline.title.endswith("1 of 2 runs are optimal")
    rows = {"".join(text) for _, _, text in outline.all("code")}
    assert {str(lake_run), str(bad_run)} <= rows
    worst = json.loads(run("evaluate", bad_run, "--episodes", 0, "--json").stdout)["exact"]
    assert float(outline.data["exact.value"]) == worst["value"]
    text = outline.text("desc", id="value-text")
    assert re.search(r" \(0 to 0\.\d+\)", text)  # the range in the end, from the bad to the optimal run


def test_runs_without_a_table_are_ranked_by_their_episodes(blackjack_run, tmp_path):
    other = blackjack_run.with_name("copy")  # from where its log is found as well
    shutil.copytree(blackjack_run, other)
    outline, said = report(tmp_path, blackjack_run, other)
    assert "No exact verdict" in outline.title
    assert "mean return" in ["".join(text) for _, _, text in outline.all("th")]
    assert said == ""


def test_runs_that_cannot_be_compared_are_refused_in_one_line(lake_run, bad_run, tmp_path):
    slippery = tmp_path / "slippery"
    shutil.copytree(lake_run, slippery)
    config = slippery / "config.toml"
    config.write_text(config.read_text().replace("is_slippery = false", "is_slippery = true"))
    refused(run("report", lake_run, slippery), 2, "is_slippery=true", "is_slippery=false")
    config.write_text(
        (lake_run / "config.toml").read_text().replace("objective_discount = 0.99", "objective_discount = 0.5")
    )
    refused(run("report", lake_run, slippery), 2, "objective discount 0.5")
    refused(run("report", lake_run, bad_run, lake_run.parent / "." / lake_run.name), 2, "given twice")
    refused(run("report", lake_run / "model.keras"), 2, "--env")
    refused(run("report", tmp_path / "none"), 2, "no model at")


def test_a_page_shows_what_cures_reached_and_the_run_stays_as_it_is(bad_run, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in bad_run.rglob("*")}
    result = run("report", bad_run, "--cure", "--budget", 30, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert "Trying cures for at most 30 seconds" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in bad_run.rglob("*")} == before
    outline = check_sound((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "cures" in outline.ids()
    assert any("".join(text) == "✓ optimal" for _, _, text in outline.all("td"))
    commands = ["".join(text) for _, _, text in outline.all("pre")]
    assert any(text.startswith(f"deeptaxi train --config {bad_run / 'config.toml'} --") for text in commands)


def test_cures_are_tried_for_one_run_and_with_a_budget_only_if_asked_for(lake_run, bad_run, tmp_path):
    refused(run("report", lake_run, bad_run, "--cure"), 2, "--cure is for one run")
    assert "add --cure" in run("report", lake_run, "--budget", 5).stderr
    assert run("report", lake_run, "--budget", 5).exit_code == 2
    lake, bad = deeptaxi.load(lake_run), deeptaxi.load(bad_run)
    with pytest.raises(UsageError, match="a diagnosis is of one run, and there are 2"):
        lake.report(tmp_path / "p.html", beside=[bad], diagnosis=Diagnosed())


def test_a_run_that_was_diagnosed_is_not_diagnosed_again(bad_run, tmp_path):
    run = deeptaxi.load(bad_run)
    found = deeptaxi.diagnose(run)
    assert found.findings
    run.report(tmp_path / "page.html", diagnosis=replace(found, findings=found.findings[:1]))
    page = check_sound((tmp_path / "page.html").read_text(encoding="utf-8"))
    shown = "\n".join("".join(text) for _, _, text in page.elements)
    said = [finding.summary[1:] for finding in found.findings]  # the page begins them with a capital
    assert [summary in shown for summary in said] == [True] + [False] * (len(said) - 1)


def test_nothing_is_overwritten_unless_forced(lake_run, tmp_path):
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    page.write_text("mine")
    refused(run("report", lake_run, "-o", page), 2, "--force")
    assert page.read_text() == "mine"
    assert run("report", lake_run, "-o", page, "--force").exit_code == 0
    assert page.read_text().startswith("<!doctype html>")
    figures.mkdir()
    (figures / "mine.png").write_text("mine")
    refused(run("report", lake_run, "-o", tmp_path / "b.html", "--figures", figures), 2, "mine.png")
    refused(run("report", lake_run, "-o", tmp_path / "b.html", "--figures", page), 2, "is a file")
    refused(run("report", lake_run, "-o", figures, "--force"), 2, "something else")
    refused(
        run("report", lake_run, "-o", tmp_path / "new", "--figures", tmp_path / "new" / "below"), 2, "cannot be both"
    )
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "b.html").exists()


def test_a_report_of_a_run_without_a_log_says_so_and_has_the_rest(bad_run, tmp_path):
    lonely = tmp_path / "lonely"
    shutil.copytree(bad_run, lonely)
    config = lonely / "config.toml"
    config.write_text(re.sub(r'log = ".*"', 'log = "gone/metrics.jsonl"', config.read_text()))
    outline, said = report(tmp_path, lonely)
    assert len(said.splitlines()) == 1
    assert "has no log" in said
    charts = {a["id"] for _, a, _ in outline.all("figure")}
    assert charts == {"chart-policy", "chart-q-scatter", "chart-q-error"}
    assert any("There are no learning curves" in "".join(text) for _, _, text in outline.all("p"))


@pytest.fixture
def own_log(bad_run, tmp_path):
    """A copy of the bad run, with a log of its own that a test may spoil."""
    folder = tmp_path / "models" / "copy"
    shutil.copytree(bad_run, folder)
    log = tmp_path / "logs" / "copy"
    shutil.copytree(bad_run.parent / "logs" / bad_run.name, log)
    config = folder / "config.toml"
    config.write_text(re.sub(r'log = ".*"', f'log = "{log / "metrics.jsonl"}"', config.read_text()))
    return folder, log


def test_corrupt_lines_of_a_log_are_skipped_and_reported(own_log, tmp_path):
    folder, log = own_log
    lines = (log / "metrics.jsonl").read_text().splitlines()
    lines[1] = lines[1][:20]
    (log / "metrics.jsonl").write_text("\n".join(lines))
    outline, said = report(tmp_path, folder)
    assert "1 corrupt lines, which are skipped: 2" in said
    assert "chart-value" in outline.ids()
    assert any("corrupt" in "".join(text) for _, _, text in outline.all("p"))


def test_an_unreadable_log_counts_as_missing(own_log, tmp_path):
    folder, log = own_log
    (log / "metrics.jsonl").write_text("garbage\n")
    outline, said = report(tmp_path, folder)
    assert "contains no deeptaxi records" in said
    assert "chart-value" not in outline.ids()


def test_damaged_visits_are_left_out(own_log, tmp_path):
    folder, log = own_log
    (log / "visits.npz").write_bytes(b"PK")
    outline, said = report(tmp_path, folder)
    assert "visits.npz is damaged" in said
    assert "chart-visits" not in outline.ids()
    assert "chart-coverage" in outline.ids()


def test_names_from_a_file_are_escaped(tmp_path):
    evil = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$x_{$ & {{ 7 * 7 }}", "z" * 1000)
    table = random_table(3, states=4, actions=2, state_names=evil, action_names=("<b>", "{% raw %}"), time_limit=20)
    path = tmp_path / "<b>&.npz"
    save_table(table, path)
    outline, _ = report(tmp_path, trained(tmp_path / "<i>run", path, "--q-table"))
    cells = ["".join(text) for _, _, text in outline.all("td")]
    assert evil[0] in cells
    assert evil[2] in cells
    assert "z" * 159 + "…" in cells
    assert not any("alert" in str(a) for _, a, _ in outline.elements)


def test_disallowed_actions_are_never_compared(tmp_path):
    mask = np.array([[True, True], [True, False], [True, True], [True, True]])
    save_table(random_table(4, states=4, actions=2, action_mask=mask, time_limit=20), tmp_path / "masked.npz")
    outline, said = report(tmp_path, trained(tmp_path / "run", tmp_path / "masked.npz", "--q-table"))
    assert said == ""
    assert outline.text("desc", id="q-scatter-text").startswith("7 pairs")


def test_help_is_quick_and_says_what_a_report_is():
    text = run("report", "--help").stdout
    assert "MODEL..." in text
    assert "--figures" in text


def test_the_last_line_of_a_training_makes_the_page_with_its_player(type_in):
    result = type_in("train", *LAKE, "--q-table", *LITTLE, "--out", "models/a run")
    assert result.exit_code == 0, result.output
    name, command = re.split(r" {2,}", result.stdout.strip().splitlines()[-1].strip())
    assert (name, command) == ("See and play", "deeptaxi report 'models/a run'")
    assert type_in(*shlex.split(command)[1:]).exit_code == 0
    outline = check_sound(Path("a run.html").read_text(encoding="utf-8"))
    data = json.loads(outline.text("script", type="application/json"))
    assert data["watch"] == "deeptaxi watch 'models/a run'"
    assert [one["seed"] for one in data["recordings"]] == list(range(10))
    assert data["snapshots"]["updates"] == [3, 6]
    assert all(len(policy) == 16 for policy in data["snapshots"]["policies"])


def test_the_policy_of_the_snapshot_that_was_kept_is_the_one_that_is_played(page_of, lake_run):
    data = json.loads(Outline(page_of(lake_run).read_text(encoding="utf-8")).text("script", type="application/json"))
    snapshots = data["snapshots"]
    kept = snapshots["policies"][snapshots["updates"].index(snapshots["kept"])]
    assert [int(action, 36) for action in kept] == deeptaxi.load(lake_run).policy.tolist()


def test_a_page_says_why_it_has_no_player(page_of, blackjack_run):
    outline = check_sound(page_of(blackjack_run).read_text(encoding="utf-8"))
    assert not outline.all("script")
    assert any("There is no player, as " in "".join(text) for _, _, text in outline.all("p"))


def test_the_page_of_a_rainy_taxi_has_a_player_and_keeps_its_size(tmp_path):
    folder = trained(tmp_path / "rainy", "Taxi-v4", "--env-arg", "is_rainy=true", "--q-table")
    outline, _ = report(tmp_path, folder)
    data = json.loads(outline.text("script", type="application/json"))
    assert (data["states"], len(data["q"])) == (500, 3_000)
    assert not any("left out" in "".join(text) for _, _, text in outline.all("p"))
