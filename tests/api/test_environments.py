from __future__ import annotations

import gymnasium
import pytest

from deeptaxi.api.environments import IN_MEMORY, EnvSpec, name_of, open_requested
from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.in_memory import InMemory
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.table import TransitionTable
from tests.problems import chain

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


class Own(TableEnv):
    """An environment of a module."""

    def __init__(self) -> None:
        super().__init__(chain())


def test_an_environment_its_class_and_a_function_are_opened() -> None:
    assert EnvSpec(Own).open().config.id == "tests.api.test_environments:Own"
    assert EnvSpec(Own()).open().config.id == EnvSpec(lambda: Own()).open().config.id == "in-memory/Own"
    assert EnvSpec(Own(), time_limit=3).open().time_limit == 3
    lake = EnvSpec(gymnasium.make("FrozenLake-v1"), {"is_slippery": False}).open()
    assert lake.config == EnvironmentConfig("FrozenLake-v1", {"is_slippery": False})


def test_an_open_environment_in_memory_is_opened_again_with_changes() -> None:
    first = EnvSpec(lambda: Own()).open()
    assert EnvSpec(first, time_limit=3).open().time_limit == 3
    with pytest.raises(UsageError, match="--env-arg render_mode is not passed on"):
        EnvSpec(first, {"render_mode": "ansi"}).open()


def test_what_is_no_environment_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(UsageError, match=r"its class or a function that makes it, received an object of type int$"):
        EnvSpec(3).open()  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"received an object of type SyncVectorEnv$"):
        EnvSpec(gymnasium.make_vec("FrozenLake-v1", 1)).open()  # type: ignore[arg-type]


def test_a_table_in_memory_must_be_given_again(table: TransitionTable) -> None:
    requested = EnvironmentConfig(IN_MEMORY, {}, 7)
    with pytest.raises(UsageError, match="pass the TransitionTable too"):
        open_requested(requested, False, None)
    assert open_requested(requested, False, table).horizon == 7


def test_a_name_comes_with_the_object_that_has_no_file(table: TransitionTable) -> None:
    assert name_of(None) == (None, None)
    assert name_of("Taxi-v4") == ("Taxi-v4", None)
    assert name_of(table) == (IN_MEMORY, table)
    assert name_of(Own) == ("tests.api.test_environments:Own", None)
    name, opened = name_of(Own())
    assert (name, isinstance(opened, InMemory)) == ("in-memory/Own", True)
    with pytest.raises(UsageError, match=r"Own was an object in memory, which no file holds: give it again in Python"):
        open_requested(EnvironmentConfig("in-memory/Own"), False, None)


def test_a_model_is_examined_on_its_own_environment_with_changes_or_on_another() -> None:
    changed = EnvSpec(kwargs={"is_slippery": True}, time_limit=9).open_for(LAKE, "run")
    assert changed.config == EnvironmentConfig("FrozenLake-v1", {"is_slippery": True}, 9)
    assert EnvSpec().open_for(LAKE, "run").config == LAKE
    assert EnvSpec("Taxi-v4").open_for(LAKE, "run").config == EnvironmentConfig("Taxi-v4", {}, None)
    with pytest.raises(UsageError, match=r"x\.keras does not record what it was trained on: specify it with --env"):
        EnvSpec().open_for(None, "x.keras")
