from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.run import Run
from deeptaxi.errors import CallbackError, UsageError
from deeptaxi.learning.callbacks import each_record
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.metrics import Finished, Started
from tests.api.conftest import CHAIN, LAKE, QUICK
from tests.cli.conftest import run as command
from tests.problems import chain


def test_it_gives_what_the_command_gives(lake: Run, lake_run: Path) -> None:
    kept = json.loads(command("evaluate", lake_run, "--episodes", 0, "--json").stdout)
    assert lake.exact == kept["exact"]
    assert lake.optimal is True
    assert deeptaxi.load(lake_run).weights_digest == lake.weights_digest
    described = deeptaxi.load(lake_run).to_dict()
    assert {**lake.to_dict(), **dict.fromkeys(["run", "model", "log", "train_seconds", "compile_seconds"])} == {
        **described,
        **dict.fromkeys(["run", "model", "log", "train_seconds", "compile_seconds"]),
    }


def test_without_out_nothing_is_written_and_nothing_is_said(empty: Path, capfd: pytest.CaptureFixture[str]) -> None:
    records: list[Any] = []
    run = deeptaxi.train("FrozenLake-v1", callbacks=[each_record(records.append)], **LAKE)
    assert not list(empty.iterdir())
    assert capfd.readouterr() == ("", "")
    assert isinstance(records[0], Started)
    assert isinstance(records[-1], Finished)
    assert run.history is not None
    assert tuple(records) == run.history.records
    assert run.folder is None
    assert run.to_dict()["run"] is None


def test_with_out_it_leaves_the_folder_and_the_log_of_the_command(empty: Path) -> None:
    run = deeptaxi.train("FrozenLake-v1", out=True, tensorboard=False, **LAKE)
    assert run.folder == Path("models/frozenlake-v1-q-table-0")
    assert sorted(path.name for path in Path("logs/frozenlake-v1-q-table-0").iterdir()) == [
        "metrics.jsonl",
        "visits.npz",
    ]
    again = deeptaxi.load(run.folder)
    assert again.config == run.config
    assert again.history is not None
    assert run.history is not None
    assert again.history.records[1:] == run.history.records[1:]
    with pytest.raises(UsageError, match="exists"):
        deeptaxi.train("FrozenLake-v1", out=run.folder, **LAKE)


def test_a_table_in_memory_is_kept_beside_the_model(kept: Run, table: TransitionTable, tmp_path: Path) -> None:
    assert kept.optimal
    assert kept.folder is not None
    assert kept.environment.config.id == str(kept.folder / "table.npz")
    moved = tmp_path / "elsewhere"
    kept.folder.rename(moved)
    try:
        again = deeptaxi.load(moved)
        assert again.environment.config.id == str(moved / "table.npz")
        assert again.exact == kept.exact
        assert again.environment.table is not None
        np.testing.assert_array_equal(again.environment.table.reward, table.reward)
    finally:
        moved.rename(kept.folder)


def test_a_table_in_memory_trains_as_its_file_does(kept: Run, table: TransitionTable, empty: Path) -> None:
    table.save("three.npz")
    run = deeptaxi.train("three.npz", **CHAIN)
    assert run.weights_digest == kept.weights_digest
    assert deeptaxi.train(deeptaxi.load(kept.folder or "").environment, **CHAIN).weights_digest == run.weights_digest
    assert deeptaxi.train(table, **CHAIN).name == "transition-table-q-table-3"


def test_an_environment_that_is_open_is_trained_on_as_it_is(lake: Run) -> None:
    run = deeptaxi.train(lake.environment, **{**LAKE, "env_args": None})
    assert run.weights_digest == lake.weights_digest
    assert run.config == lake.config
    shorter = deeptaxi.train(
        lake.environment, time_limit=5, loop="gymnasium", **{**LAKE, "updates": 2, "eval_every": 2}
    )
    assert shorter.config is not None
    assert shorter.config.environment.kwargs == {"is_slippery": False}
    assert (shorter.environment.horizon, shorter.exact and shorter.exact["horizon"]) == (5, 5)


def test_settings_come_from_a_file_a_mapping_or_another_run_and_what_is_given_lies_over_them(
    kept: Run, table: TransitionTable
) -> None:
    assert kept.config is not None
    assert kept.folder is not None
    few = {"updates": 2, "eval_every": 2, "loop": "gymnasium", "exploring_starts": 0}
    for config in (kept.config, kept.folder / "config.toml", {**QUICK_CONFIG, "run": {"log": "x"}}):
        run = deeptaxi.train(table, config=config, **few)
        assert run.config is not None
        assert (run.config.updates, run.config.interaction.environments) == (2, 8)
    assert deeptaxi.train(config=kept.config, **few).environment.table is not None  # by the file that the run keeps


QUICK_CONFIG: dict[str, Any] = {
    "interaction": {"environments": 8},
    "replay": {"batch_size": 32},
    "network": {"hidden": [], "dueling": False},
}


def test_numbers_of_numpy_are_numbers(table: TransitionTable) -> None:
    numbers = {"updates": np.int64(3), "learning_rate": np.float32(0.5)}
    run = deeptaxi.train(table, q_table=True, loop="gymnasium", **{**QUICK, **numbers})
    assert run.config is not None
    assert (run.config.updates, run.config.optimizer.learning_rate) == (3, 0.5)


def test_stop_ends_a_training_with_what_it_has(table: TransitionTable) -> None:
    run = deeptaxi.train(table, stop=lambda: True, early_stop=False, **CHAIN)
    assert run.finished is not None
    assert run.finished.stopped == "interrupted"
    assert run.finished.updates < 400


def test_what_is_wrong_is_told_in_one_line_before_anything_is_done(empty: Path) -> None:
    for arguments, message in (
        ({"env": "Taxi-v4", "learning_rat": 0.1}, "unknown setting 'learning_rat'; did you mean 'learning_rate'"),
        ({"env": "Taxi-v4", "q_table": True, "hidden": (8,)}, "neither hidden layers"),
        ({"env": "taxi-v4"}, "did you mean 'Taxi-v4'"),
        ({"env": "Taxi-v4", "preset": "lake"}, "unknown preset 'lake'"),
        ({"env": "Taxi-v4", "hidden": "many"}, "expected a list"),
        ({"env": chain(), "env_args": {"size": 3}}, "takes no arguments, received size"),
        ({"env": 3}, "an object of type int"),
        ({"env": dict}, "derive its class from gymnasium.Env"),
        ({"config": {"updats": 3}}, "unknown key 'updats'; did you mean 'updates'"),
        ({"config": {"environment": {"id": "transition-table"}}}, "pass the TransitionTable too"),
        ({"config": "none.toml"}, "cannot read none.toml"),
        ({}, "name an environment"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            deeptaxi.train(**{"out": "run", **arguments})
        assert "\n" not in str(caught.value)
    assert not list(empty.iterdir())


def test_a_training_that_fails_gives_its_place_back(empty: Path, table: TransitionTable) -> None:
    def broken(record: Any) -> None:
        raise RuntimeError(type(record).__name__)

    with pytest.raises(CallbackError, match=r"^callback 'broken' failed at event 'started', .*RuntimeError: Started"):
        deeptaxi.train(table, out="run", callbacks=[broken], **CHAIN)
    assert not Path("run").exists()
