from __future__ import annotations

from pathlib import Path

import pytest

from deeptaxi.artifacts import runs
from deeptaxi.config import resolve
from deeptaxi.errors import UsageError
from deeptaxi.records import Started

STARTED = Started("Taxi-v4", 500, 6, "dueling", "gymnasium", 0, 100, 0.1, None, 1.0)


def test_default_names_tell_the_runs_apart(tmp_path: Path) -> None:
    config = resolve({"environment": {"id": "some/where/My Table.npz"}, "seed": 3})
    models, logs = tmp_path / "models", tmp_path / "logs"
    first = runs.default_folder(config, logs, models)
    first.mkdir(parents=True)
    (logs / f"{first.name}-2").mkdir(parents=True)
    (logs / f"{first.name}-2" / "metrics.jsonl").touch()
    assert first.name == "my-table-dueling-3"
    assert runs.default_folder(config, logs, models).name == "my-table-dueling-3-3"


def test_a_claimed_place_is_given_back_without_a_trace(tmp_path: Path) -> None:
    run = runs.claim(tmp_path / "models" / "a", tmp_path / "logs", force=False)
    with runs.Log(run.log):
        pass
    run.release()
    assert list(tmp_path.iterdir()) == []


def test_giving_back_keeps_what_others_put_there(tmp_path: Path) -> None:
    run = runs.claim(tmp_path / "models" / "a", tmp_path / "logs", force=False)
    (run.folder / "notes.txt").write_text("mine")
    with runs.Log(run.log) as log:
        log.write(STARTED)
    run.release()
    assert (run.folder / "notes.txt").exists()
    assert run.log.exists()


def test_a_taken_log_is_refused_like_a_taken_run(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a" / "metrics.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("{}\n")
    with pytest.raises(UsageError, match=r"metrics\.jsonl exists"):
        runs.claim(tmp_path / "models" / "a", tmp_path / "logs", force=False)
    assert runs.claim(tmp_path / "models" / "a", tmp_path / "logs", force=True).log == log


def test_the_log_is_on_disk_line_by_line(tmp_path: Path) -> None:
    with runs.Log(tmp_path / "log") as log:
        log.write(STARTED)
        assert (tmp_path / "log").read_text().count("\n") == 1
