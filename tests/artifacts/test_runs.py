from __future__ import annotations

from pathlib import Path

import pytest

from deeptaxi.artifacts import runs
from deeptaxi.artifacts.logs import Log
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
    with Log(run.log.parent, run.folder):
        pass
    run.release()
    assert list(tmp_path.iterdir()) == []


def test_giving_back_keeps_what_others_put_there(tmp_path: Path) -> None:
    run = runs.claim(tmp_path / "models" / "a", tmp_path / "logs", force=False)
    (run.folder / "notes.txt").write_text("mine")
    with Log(run.log.parent, run.folder) as log:
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


def test_force_takes_the_log_of_this_run_and_of_no_other(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    run = runs.claim(tmp_path / "models" / "y", logs, force=False)
    with Log(run.log.parent, run.folder) as log:
        log.write(STARTED)
    assert runs.claim(tmp_path / "models" / "y", logs, force=True).log == run.log
    with pytest.raises(UsageError, match=r"y/metrics\.jsonl is the log of .*models/y: choose another --out or --logs"):
        runs.claim(tmp_path / "other" / "y", logs, force=True)
    assert not (tmp_path / "other").exists()
    run.folder.rmdir()  # a run that is gone needs no log
    assert runs.claim(tmp_path / "other" / "y", logs, force=True).log == run.log
