from __future__ import annotations

import gymnasium
import pytest

from deeptaxi.api.environments import IN_MEMORY, EnvSpec, name_of, open_requested
from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.table import TransitionTable

LAKE = EnvironmentConfig("FrozenLake-v1", {"is_slippery": False}, 50)


def test_a_table_is_opened_without_a_file_and_again_with_another_time_limit(table: TransitionTable) -> None:
    first = EnvSpec(table).open()
    assert (first.config.id, first.horizon, first.table) == (IN_MEMORY, 20, table)
    assert EnvSpec(first).open() is first
    shorter = EnvSpec(first, time_limit=3).open()
    assert (shorter.horizon, shorter.table) == (3, table)
    with pytest.raises(UsageError, match="a transition table takes no arguments, received size"):
        EnvSpec(table, {"size": 3}).open()


def test_an_open_environment_keeps_its_arguments_beside_the_new_ones() -> None:
    sure = EnvSpec("FrozenLake-v1", {"is_slippery": False}).open()
    wide = EnvSpec(sure, {"desc": ("SFF", "FFG")}).open()
    assert wide.config.kwargs == {"is_slippery": False, "desc": ("SFF", "FFG")}
    assert wide.states == 6


def test_what_is_no_environment_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(UsageError, match="received an object of OrderEnforcing: name it by its id, 'FrozenLake-v1'"):
        EnvSpec(gymnasium.make("FrozenLake-v1", disable_env_checker=True).env).open()  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"received an object of int$"):
        EnvSpec(3).open()  # type: ignore[arg-type]


def test_a_table_in_memory_must_be_given_again(table: TransitionTable) -> None:
    requested = EnvironmentConfig(IN_MEMORY, {}, 7)
    with pytest.raises(UsageError, match="pass the TransitionTable too"):
        open_requested(requested, False, None)
    assert open_requested(requested, False, table).horizon == 7


def test_a_name_comes_with_the_object_that_has_no_file(table: TransitionTable) -> None:
    assert name_of(None) == (None, None)
    assert name_of("Taxi-v4") == ("Taxi-v4", None)
    assert name_of(table) == (IN_MEMORY, table)


def test_a_model_is_examined_on_its_own_environment_with_changes_or_on_another() -> None:
    changed = EnvSpec(kwargs={"is_slippery": True}, time_limit=9).open_for(LAKE, "run")
    assert changed.config == EnvironmentConfig("FrozenLake-v1", {"is_slippery": True}, 9)
    assert EnvSpec().open_for(LAKE, "run").config == LAKE
    assert EnvSpec("Taxi-v4").open_for(LAKE, "run").config == EnvironmentConfig("Taxi-v4", {}, None)
    with pytest.raises(UsageError, match=r"x\.keras does not say what it was trained on: name it with --env"):
        EnvSpec().open_for(None, "x.keras")
