"""Runs that the tests of the Python functions share: one in memory, one on a table in memory, one kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import deeptaxi
from deeptaxi.api.run import Run
from deeptaxi.mdp.table import TransitionTable
from tests.cli.conftest import lake_run as lake_run
from tests.problems import chain

QUICK: dict[str, Any] = {"updates": 400, "eval_every": 100, "environments": 8, "batch_size": 32}
LAKE: dict[str, Any] = {"env_args": {"is_slippery": False}, "q_table": True, **QUICK}
CHAIN: dict[str, Any] = {"q_table": True, **QUICK, "seed": 3}


@pytest.fixture(scope="session")
def lake() -> Run:
    """The Q table of a FrozenLake that does not slip, in memory."""
    return deeptaxi.train("FrozenLake-v1", **LAKE)


@pytest.fixture(scope="session")
def table() -> TransitionTable:
    """Three states in a row, with names."""
    return chain(time_limit=20, discount=0.9, state_names=("first", "second", "last"), action_names=("go", "stay"))


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory, table: TransitionTable) -> Run:
    """A run on a table in memory, kept in a folder."""
    folder = tmp_path_factory.mktemp("kept")
    return deeptaxi.train(table, out=folder / "run", logs=folder / "logs", tensorboard=False, **CHAIN)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
