from __future__ import annotations

import gymnasium
import pytest

from deeptaxi.api.environments import IN_MEMORY, environment_config, name_of, open_place, open_requested
from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.table import TransitionTable

LAKE = EnvironmentConfig("FrozenLake-v1", {"is_slippery": False}, 50)


def test_a_table_is_opened_without_a_file_and_again_with_another_time_limit(table: TransitionTable) -> None:
    first = open_place(table)
    assert (first.config.id, first.horizon, first.table) == (IN_MEMORY, 20, table)
    assert open_place(first) is first
    shorter = open_place(first, time_limit=3)
    assert (shorter.horizon, shorter.table) == (3, table)
    with pytest.raises(UsageError, match="a transition table takes no arguments, received size"):
        open_place(table, {"size": 3})


def test_an_open_environment_keeps_its_arguments_beside_the_new_ones() -> None:
    sure = open_place("FrozenLake-v1", {"is_slippery": False})
    wide = open_place(sure, {"desc": ("SFF", "FFG")})
    assert wide.config.kwargs == {"is_slippery": False, "desc": ("SFF", "FFG")}
    assert wide.states == 6


def test_what_is_no_environment_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(UsageError, match="received an object of OrderEnforcing: name it by its id, 'FrozenLake-v1'"):
        open_place(gymnasium.make("FrozenLake-v1", disable_env_checker=True).env)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"received an object of int$"):
        open_place(3)  # type: ignore[arg-type]


def test_a_table_in_memory_must_be_given_again(table: TransitionTable) -> None:
    requested = EnvironmentConfig(IN_MEMORY, {}, 7)
    with pytest.raises(UsageError, match="name the TransitionTable too"):
        open_requested(requested, False, None)
    assert open_requested(requested, False, table).horizon == 7


def test_a_name_comes_with_the_object_that_has_no_file(table: TransitionTable) -> None:
    assert name_of(None) == (None, None)
    assert name_of("Taxi-v4") == ("Taxi-v4", None)
    assert name_of(table) == (IN_MEMORY, table)


def test_a_model_is_examined_on_its_own_environment_with_changes_or_on_another() -> None:
    assert environment_config(LAKE, "run", None, {"is_slippery": True}, 9) == EnvironmentConfig(
        "FrozenLake-v1", {"is_slippery": True}, 9
    )
    assert environment_config(LAKE, "run", "Taxi-v4", None, None) == EnvironmentConfig("Taxi-v4", {}, None)
    with pytest.raises(UsageError, match=r"x\.keras does not say what it was trained on: name it with --env"):
        environment_config(None, "x.keras", None, None, None)
