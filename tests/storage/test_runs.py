from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deeptaxi.config import resolve
from deeptaxi.errors import UsageError
from deeptaxi.io.locks import InUseError
from deeptaxi.metrics import Started
from deeptaxi.storage import runs
from deeptaxi.storage.logs import Log

STARTED = Started("Taxi-v4", 500, 6, "dueling", "gymnasium", 0, 100, 0.1, None, 1.0)


def test_default_names_distinguish_the_runs(tmp_path: Path) -> None:
    config = resolve({"environment": {"id": "some/where/My Table.npz"}, "seed": 3})
    models, logs = tmp_path / "models", tmp_path / "logs"
    first = runs.default_folder(config, logs, models)
    first.mkdir(parents=True)
    (logs / f"{first.name}-2").mkdir(parents=True)
    (logs / f"{first.name}-2" / "metrics.jsonl").touch()
    assert first.name == "my-table-dueling-3"
    assert runs.default_folder(config, logs, models).name == "my-table-dueling-3-3"


def test_a_reserved_folder_is_released_without_a_trace(tmp_path: Path) -> None:
    run = runs.reserve(tmp_path / "models" / "a", tmp_path / "logs", force=False)
    with Log(run.log.parent, run.folder):
        pass
    run.release()
    assert list(tmp_path.iterdir()) == []


def test_releasing_a_folder_keeps_foreign_files(tmp_path: Path) -> None:
    run = runs.reserve(tmp_path / "models" / "a", tmp_path / "logs", force=False)
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
        runs.reserve(tmp_path / "models" / "a", tmp_path / "logs", force=False)
    run = runs.reserve(tmp_path / "models" / "a", tmp_path / "logs", force=True)
    assert run.log == log
    run.release()


def test_force_takes_over_only_the_log_of_this_run(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    run = runs.reserve(tmp_path / "models" / "y", logs, force=False)
    with Log(run.log.parent, run.folder) as log:
        log.write(STARTED)
    run.release()
    run.folder.mkdir(parents=True)  # a run that is empty was given back
    again = runs.reserve(tmp_path / "models" / "y", logs, force=True)
    assert again.log == run.log
    again.release()
    with pytest.raises(UsageError, match=r"y/metrics\.jsonl is the log of .*models/y: choose another --out or --logs"):
        runs.reserve(tmp_path / "other" / "y", logs, force=True)
    assert not (tmp_path / "other").exists()
    run.folder.rmdir()  # a run that is gone needs no log
    again = runs.reserve(tmp_path / "other" / "y", logs, force=True)
    assert again.log == run.log
    again.release()


def test_a_reserved_folder_is_refused(tmp_path: Path) -> None:
    run = runs.reserve(tmp_path / "models" / "a", tmp_path / "logs", force=False)
    for force in (False, True):
        with pytest.raises(InUseError, match=r"models/a is in use by this process \(deeptaxi train, since"):
            runs.reserve(tmp_path / "models" / "a", tmp_path / "more" / "logs", force)
        with pytest.raises(InUseError, match=r"logs/a is in use by .*: wait for it, or choose another --out or --logs"):
            runs.reserve(tmp_path / "other" / "a", tmp_path / "logs", force)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "models"]  # nothing is left of the refused
    run.release()
    assert list(tmp_path.iterdir()) == []


def test_trainings_that_start_together_get_different_default_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve({"environment": {"id": "Taxi-v4"}})
    monkeypatch.setattr(runs, "free_folders", lambda *_: iter([tmp_path / "m" / name for name in "abc"]))
    places = [runs.reserve_free(config, tmp_path / "logs") for _ in range(3)]  # each saw all the names free
    assert [place.folder.name for place in places] == ["a", "b", "c"]
    for place in reversed(places):
        place.release()
    assert list(tmp_path.iterdir()) == []


# Claims the first free name again and again, and leaves it as a run, or as if the training had failed.
CLAIM = """
import os, random, sys; from pathlib import Path
from deeptaxi.storage import runs; from deeptaxi.config import resolve
config, draw = resolve({"environment": {"id": "Taxi-v4"}}), random.Random(int(sys.argv[1]))
for _ in range(60):
    place = runs.reserve_free(config, Path("logs"))
    os.close(os.open(place.folder / "model.keras", os.O_CREAT | os.O_EXCL)); os.mkdir(place.log.parent / "only one")
    os.rmdir(place.log.parent / "only one")
    if draw.random() < 0.8:
        os.unlink(place.folder / "model.keras")
    place.release()
"""


def test_concurrent_processes_never_share_a_folder(tmp_path: Path) -> None:
    words = [sys.executable, "-c", CLAIM]
    processes = [subprocess.Popen([*words, str(seed)], cwd=tmp_path) for seed in range(3)]
    assert [process.wait() for process in processes] == [0] * 3
    # A folder that one process was about to remove when another locked it stays, empty.
    files = [[path.name for path in folder.iterdir()] for folder in (tmp_path / "models").iterdir()]
    assert all(names in ([], ["model.keras"]) for names in files)
    assert ["model.keras"] in files
    assert not list(tmp_path.rglob(".lock"))


def test_an_impossible_folder_is_refused_and_leaves_nothing_locked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, logs in (("file", "logs"), ("file/run", "logs"), ("run", "file"), ("run", "file/logs")):
        with pytest.raises(UsageError, match="file of that name is in the way"):
            runs.reserve(tmp_path / folder, tmp_path / logs, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_log_beside_the_model_shares_its_lock(tmp_path: Path) -> None:
    place = runs.reserve(tmp_path / "both", tmp_path, force=False)
    assert [path.name for path in (tmp_path / "both").iterdir()] == [".lock"]
    place.release()
    assert list(tmp_path.iterdir()) == []
