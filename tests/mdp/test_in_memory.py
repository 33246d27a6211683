from __future__ import annotations

import copy
import functools
import re
import threading

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit, TransformReward

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.in_memory import InMemory, alike, is_object, resolve_object
from deeptaxi.mdp.simulate import TableEnv
from tests.problems import ToldEnv, chain, registered, rows_of


class Walk(ToldEnv):
    """The chain; `length` is only remembered."""

    def __init__(self, length=3):
        super().__init__(chain(), rows_of(chain()), chain().start)
        self.length = length


class Sized(Walk):
    """Needs an argument."""

    def __init__(self, size):
        super().__init__(size)


class Locked(Walk):
    """Holds what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.parts = [{"lock": threading.Lock()}]


class Shared(Walk):
    """All instances stand in the same state."""

    at = [0]  # noqa: RUF012

    def reset(self, **arguments):
        self.at[0] = 0
        return super().reset(**arguments)[0], {}

    def step(self, action):
        self.at[0] = (self.at[0] + 1) % 3
        return self.at[0], 0.0, False, False, {}


class Remade(Walk):
    """Copies itself by making a new one, as `gymnasium.utils.EzPickle` does."""

    def __deepcopy__(self, memo):
        return type(self)()


class Unseeded(Walk):
    """Draws chance from outside its seed."""

    rng = np.random.default_rng(0)

    def step(self, action):
        return int(self.rng.integers(3)), 0.0, False, False, {}


def opened(env, **settings):
    found = resolve_object(env)
    if isinstance(found, InMemory):
        return found.open(EnvironmentConfig(found.id, **settings))
    assert isinstance(found, EnvironmentConfig)
    return open_environment(found)


def walk():
    return Walk()


def test_what_can_be_imported_is_as_good_as_its_name():
    assert resolve_object(Walk) == "tests.mdp.test_in_memory:Walk"
    assert resolve_object(walk) == "tests.mdp.test_in_memory:walk"


def test_a_class_in_memory_is_made_with_its_arguments():
    class Local(Sized):
        pass

    environment = opened(Local, kwargs={"size": 7})
    assert (environment.config.id, environment.table.states) == ("in-memory/Local", 3)
    assert environment.make().unwrapped.length == 7
    with pytest.raises(UsageError, match=r"in-memory/Local needs the argument size: add env_args={'size': …}"):
        opened(Local)


@pytest.mark.parametrize("make", [lambda: Walk(5), functools.partial(Walk, 5), lambda length=5: Walk(length)])
def test_a_function_in_memory_is_called_for_each_instance(make):
    environment = opened(make)
    one, other = environment.make(), environment.make()
    assert environment.config.id == "in-memory/Walk"
    assert one.unwrapped.length == other.unwrapped.length == 5
    assert one.unwrapped is not other.unwrapped


def test_a_function_with_arguments_gets_them():
    assert opened(lambda length: Walk(length), kwargs={"length": 4}).make().unwrapped.length == 4
    with pytest.raises(UsageError, match="needs the argument length"):
        opened(lambda length: Walk(length))


def test_a_function_that_returns_one_object_is_copied():
    one = Walk()
    environment = opened(lambda: one)
    assert environment.make().unwrapped is not one


def test_an_environment_is_copied_as_it_is_wrapped_and_left_alone():
    mine = TimeLimit(Walk(9), 4)
    mine.reset(seed=1)
    mine.step(0)
    environment = opened(mine)
    assert (environment.time_limit, environment.table_missing) == (4, None)
    copied = environment.make()
    copied.reset(seed=0)
    assert [copied.step(1)[3] for _ in range(4)] == [False, False, False, True]
    assert copied.unwrapped.length == 9
    assert mine.step(0)[0] == 2  # where it stood
    assert opened(mine, time_limit=2).time_limit == 2
    assert opened(Walk(), time_limit=6).time_limit == 6


def test_a_wrapper_of_a_kind_of_its_own_stays():
    environment = opened(TransformReward(Walk(), lambda reward: 2 * reward))
    env = environment.make()
    env.reset(seed=0)
    assert [env.step(0)[1] for _ in range(3)] == [0, 0, 2]
    assert "calls impossible what it did" in environment.table_missing  # its P tells the reward as it was


def test_an_environment_takes_no_arguments_any_more():
    with pytest.raises(UsageError, match="is made already and takes no arguments, received length: give its class"):
        opened(Walk(), kwargs={"length": 3})


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Locked(), "the environment Locked cannot be copied: its attribute parts[0]['lock'] is of type lock"),
        (TimeLimit(Locked(), 3), "its attribute env.parts[0]['lock'] is of type lock"),
        (Shared(), "a copy of the environment Shared shares state with it, step 1 after reset(seed="),
        (Remade(5), "a copy of the environment Remade is not equal to it, as when it copies itself by making a new"),
    ],
)
def test_what_cannot_be_copied_is_refused_by_name(env, message):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        resolve_object(env)
    assert str(caught.value).endswith("give its class, or a function that makes it")


def test_chance_from_outside_the_seed_does_not_count_against_copies():
    assert opened(Unseeded()).states == 3


def test_what_makes_no_environment_is_refused():
    with pytest.raises(UsageError, match="makes no environment but an object of int: derive its class"):
        resolve_object(lambda: 3)
    with pytest.raises(UsageError, match="is a vector of environments: give what makes one of them"):
        resolve_object(lambda: gymnasium.make_vec("FrozenLake-v1", 2))
    assert not any(map(is_object, (3, "Taxi-v4", None, {}, [])))


@pytest.mark.parametrize(
    ("name", "kwargs", "limit"),
    [
        ("FrozenLake-v1", {"is_slippery": False}, None),
        ("CliffWalking-v1", {}, 7),
        ("Taxi-v4", {}, None),
        ("Blackjack-v1", {"sab": False}, None),
    ],
)
def test_one_of_gymnasium_is_made_again_by_its_id(name, kwargs, limit):
    mine = gymnasium.make(name, max_episode_steps=limit, render_mode="ansi" if name == "Taxi-v4" else None, **kwargs)
    mine.reset(seed=1)
    assert opened(mine).config == EnvironmentConfig(name, kwargs, limit)


def test_one_of_gymnasium_that_was_changed_is_copied():
    lake = gymnasium.make("FrozenLake-v1")
    lake.unwrapped.P[0][0] = [(1.0, 15, 1.0, True)]
    environment = opened(lake)
    assert environment.config.id == "in-memory/FrozenLakeEnv"
    assert environment.table.reward[0, 0].max() == 1
    assert opened(TransformReward(gymnasium.make("FrozenLake-v1"), abs)).config.id == "in-memory/FrozenLakeEnv"


def test_an_id_of_elsewhere_comes_with_its_module():
    with registered("Walk-v0", Walk):
        found = opened(gymnasium.make("Walk-v0", length=4))
        assert found.config == EnvironmentConfig("tests.mdp.test_in_memory:Walk-v0", {"length": 4})
    with registered("Walk-v0", lambda: Walk()):
        assert opened(gymnasium.make("Walk-v0")).config.id == "in-memory/Walk"


def test_frames_are_drawn_by_what_is_in_memory():
    assert opened(lambda: gymnasium.make("FrozenLake-v1")).make(render_mode="ansi").unwrapped.render_mode == "ansi"
    assert opened(TableEnv(chain())).make(render_mode="ansi").render_mode == "ansi"


def test_values_are_alike_in_all_their_parts():
    rng = np.random.default_rng(0)
    one = {"a": [1, (2.0, float("nan"))], "b": np.arange(3), "c": rng, "d": Walk(3), "e": np.array([{1}], object)}
    one["self"] = one
    other = copy.deepcopy(one)
    assert alike(one, other)
    rng.random()
    assert not alike(one, other)
    assert not alike(Walk(3), Walk(4))
    assert not alike(np.arange(3), np.arange(3.0))
    assert not alike([1], [True])
    assert alike(one["d"], object()) is False
    assert (alike(object(), object()), alike(object(), object(), doubt=True)) == (False, True)
