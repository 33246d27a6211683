from __future__ import annotations

from pathlib import Path

import pytest

from deeptaxi.api.run_data import BARE, find_log_file, history_of, read_training_log, training_now
from deeptaxi.errors import UsageError
from deeptaxi.io.locks import lock
from deeptaxi.metrics import Started, to_line
from deeptaxi.storage.logs import FAILED_FILE, LOG_FILE
from deeptaxi.storage.run_folder import MODEL_FILE

STARTED = Started("table.npz", 3, 2, "q-table", "compiled", 0, 100, 0.1, None, 1.0)


def write_log(folder: Path, name: str = LOG_FILE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(to_line(STARTED) + "\n", encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", [LOG_FILE, FAILED_FILE])
def test_a_log_is_found_by_its_file_or_its_folder(tmp_path: Path, name: str) -> None:
    log = write_log(tmp_path / "logs", name)
    assert find_log_file(log) == find_log_file(log.parent) == log
    assert history_of(log).started == history_of(log.parent).started == STARTED


def test_a_folder_with_a_model_is_a_run_and_not_a_log(tmp_path: Path) -> None:
    log = write_log(tmp_path / "run")
    (log.parent / MODEL_FILE).touch()
    assert find_log_file(log.parent) is None
    assert find_log_file(tmp_path) is None


def test_what_a_missing_log_leaves_unknown_has_its_reason(tmp_path: Path) -> None:
    found = read_training_log(tmp_path / "nowhere")
    assert (found.history, found.coverage) == (None, None)
    assert set(found.missing) == set(BARE.missing)
    with pytest.raises(UsageError, match="nowhere"):
        history_of(tmp_path / "nowhere")


def test_only_a_log_that_is_being_written_has_a_process(tmp_path: Path) -> None:
    log = write_log(tmp_path / "logs")
    assert training_now(None) is training_now(log) is None
    with lock(log.parent, "a test"):
        assert training_now(log) is not None
        assert training_now(log.parent / FAILED_FILE) is None
