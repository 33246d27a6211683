from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.run import Run
from deeptaxi.api.run_data import BARE, find_log_file, history_of, read_training_log, training_now
from deeptaxi.errors import UsageError
from deeptaxi.io.locks import lock
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.metrics import Started, to_line
from deeptaxi.storage.logs import FAILED_FILE, LOG_FILE
from deeptaxi.storage.run_folder import MODEL_FILE
from tests.api.conftest import QUICK

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


def test_the_streams_are_in_the_units_of_the_rewards(table: TransitionTable) -> None:
    run = deeptaxi.train(table, **QUICK, hidden=(), dueling=True, reward_scale=4.0, optimizer="sgd", tabular_step=0.2)
    assert run.optimal
    streams = run.streams
    assert streams is not None
    value, advantage = streams
    np.testing.assert_allclose(value, run.q_values.mean(axis=1), atol=1e-6)
    joined = value[:, None] + advantage - advantage.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(joined, run.q_values, atol=1e-6)
    # Q* of going on, a quarter of which is learned; staying is tried too seldom to be near.
    np.testing.assert_allclose(joined[:, 0], [0.81, 0.9, 1.0], atol=0.05)
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 1.0


def test_a_model_that_is_not_dueling_has_no_streams(lake: Run, table: TransitionTable, tmp_path: Path) -> None:
    assert lake.streams is None
    np.save(tmp_path / "q.npy", np.zeros((3, 2)))
    assert deeptaxi.load(tmp_path / "q.npy", table).streams is None
