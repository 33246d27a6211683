"""Trainings on Dask's workers: the same runs as in this process, in the same folders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import deeptaxi
from deeptaxi.api.remote_jobs import Folders, read_files, save_files
from deeptaxi.experiments.grid import Job
from deeptaxi.storage.logs import LOG_FILE
from deeptaxi.storage.run_folder import CARD_FILE, CARD_JSON, CONFIG_FILE
from tests.dask_processes import DaskProcesses

JOB = Job("lr=1/seed-3", "lr=1", 3, {}, {})


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    processes = DaskProcesses(tmp_path_factory.mktemp("dask"), 1)
    processes.start()
    yield processes
    processes.stop()


def without_places(text: str) -> str:
    """Return a text without the name of the sweep, times and seconds."""
    text = re.sub(r"remote/|local/", "", text)
    return re.sub(r'"made".*|".*seconds".*|\d{4}-\d\d-\d\dT[\d:+]+|[\d.e-]+ s\b', "", text)


@pytest.mark.slow
def test_runs_are_those_of_this_process(dask: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    asked = {"env": "FrozenLake-v1", "grid": {"learning_rate": [0.01, 0.02]}, "seeds": "0-1", "updates": 300}
    local = deeptaxi.sweep(**asked, hidden=(), dueling=False, workers=0, out="models/local")
    remote = deeptaxi.sweep(
        **asked, hidden=(), dueling=False, scheduler=dask.address, out="models/remote", warn=said.append
    )
    assert said == []
    assert not remote.interrupted
    assert [line["weights_digest"] for line in remote.results] == [line["weights_digest"] for line in local.results]
    for ours, theirs in zip(local.results, remote.results, strict=True):
        assert theirs["exact"] == ours["exact"]
        assert theirs["run"] == str(Path("models/remote") / theirs["job"])
        here, there = Path(ours["run"]), Path(theirs["run"])
        assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in here.iterdir())
        for name in (CONFIG_FILE, CARD_FILE, CARD_JSON):
            assert without_places((there / name).read_text()) == without_places((here / name).read_text()), name
        logs = [Path("logs") / run.parents[1].name / run.parent.name / run.name for run in (here, there)]
        assert len(list(logs[0].iterdir())) == len(list(logs[1].iterdir())) == 3
    run = deeptaxi.load(remote.results[0]["run"])
    assert run.weights_digest == local.results[0]["weights_digest"]
    assert run.history.finished is not None
    assert run.history.finished.updates == 300
    assert run.log.coverage is not None


@pytest.mark.slow
def test_a_job_that_fails_says_why_and_where_its_log_is_and_is_tried_again_on_resume(
    dask: DaskProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rates = {"optimizer.learning_rate": [0.01, 1e30]}
    first = deeptaxi.sweep(env="FrozenLake-v1", grid=rates, updates=300, scheduler=dask.address, out="models/two")
    assert [line["status"] for line in first.results] == ["done", "failed"]
    log = Path("logs/two") / first.results[1]["job"]
    assert f"`deeptaxi diagnose {log}` looks at its log" in first.results[1]["reason"]
    assert [path.name for path in log.iterdir()] == ["metrics.failed.jsonl"]
    second = deeptaxi.sweep(resume="models/two", scheduler=dask.address)
    assert second.results[0] == first.results[0], "it is not trained again"
    assert second.results[1]["status"] == "failed"
    assert len((tmp_path / "models" / "two" / "results.jsonl").read_text().splitlines()) == 3


def test_folders_lie_to_each_other_as_on_the_client(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path / "out" / "sweep", tmp_path / "logs" / "sweep")
    assert folders.layout == ("out/sweep", "logs/sweep")
    inside = Folders.of(tmp_path / "sweep", tmp_path / "sweep" / "logs")
    assert inside.layout == (".", "logs")


def test_files_are_replaced_with_what_was_left_of_an_earlier_run(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path / "runs", tmp_path / "logs")
    run, log = folders.runs / JOB.name, folders.logs / JOB.name
    old = "events.out.tfevents.1.deeptaxi"
    save_files(
        folders, JOB, {"run/model.keras": b"1", "run/card.json": b"{}", "log/metrics.jsonl": b"", f"log/{old}": b""}
    )
    new = old.replace(".1.", ".2.")
    save_files(
        folders, JOB, {"run/model.keras": b"2", "run/card.json": b"{}", "log/metrics.jsonl": b"", f"log/{new}": b""}
    )
    assert (run / "model.keras").read_bytes() == b"2"
    assert read_files(log, "") == {LOG_FILE: b"", new: b""}


def test_a_failed_job_leaves_what_was_there(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path / "runs", tmp_path / "logs")
    save_files(folders, JOB, {})
    assert not list(folders.runs.rglob("seed-3")), "no empty folders"
    save_files(folders, JOB, {"log/metrics.failed.jsonl": b"x"})
    assert (folders.logs / JOB.name / "metrics.failed.jsonl").read_bytes() == b"x"


def test_files_go_nowhere_else(tmp_path: Path) -> None:
    folders = Folders.of(tmp_path / "runs", tmp_path / "logs")
    save_files(folders, JOB, {"run/../../../stray": b"x"})
    assert (folders.runs / JOB.name / "stray").exists()
    assert not list(tmp_path.glob("stray"))
