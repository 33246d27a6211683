from __future__ import annotations

import re
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.describe import factors, names_of
from deeptaxi.mdp.environment import known_mask, open_environment
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.table import TableError, save_table
from tests.problems import Numbered, chain, loop, opened, registered, rows_of


def open_id(name, **settings):
    return open_environment(EnvironmentConfig(name, **settings))


@pytest.fixture
def table_file(tmp_path):
    """Save a table and return its path as an id."""

    def write(table):
        save_table(table, tmp_path / "own.npz")
        return str(tmp_path / "own.npz")

    return write


def test_taxi_is_opened_with_its_table():
    environment = opened("Taxi-v4")
    assert (environment.states, environment.actions, environment.first_action) == (500, 6, 0)
    assert (environment.time_limit, environment.horizon) == (200, 200)
    assert (environment.table_missing, environment.start_resets) == (None, None)
    assert (environment.table.start > 0).sum() == 300
    assert environment.describe() == {
        "id": "Taxi-v4",
        "kwargs": {},
        "states": 500,
        "actions": 6,
        "time_limit": 200,
    }


def test_blackjack_is_opened_without_a_table():
    environment = opened("Blackjack-v1")
    assert (environment.states, environment.actions) == (704, 2)  # 32 · 11 · 2
    assert environment.table is None
    assert "no transition table" in environment.table_missing


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("", {}, "name an environment: a Gymnasium id, module:Class, or the path of a .npz"),
        ("taxi-v4", {}, "unknown environment 'taxi-v4'; did you mean 'Taxi-v4'"),
        ("Taxi-v44", {}, "unknown environment 'Taxi-v44'; did you mean 'Taxi-v4'"),
        ("FrozenLak-v1", {}, "did you mean 'FrozenLake-v1' or 'FrozenLake8x8-v1'"),
        ("Qqqqqqqq-v0", {}, "unknown environment 'Qqqqqqqq-v0'; `deeptaxi envs` lists"),
        ("Taxi v4", {}, "Taxi v4 could not be created: "),
        ("Taxi-v3", {}, "Taxi-v4"),
        ("CartPole-v1", {}, "CartPole-v1 observes Box("),
        ("Pendulum-v1", {}, "Pendulum-v1 observes Box("),
        ("Taxi-v4", {"rainy": True}, "Taxi-v4 does not take these arguments ({'rainy': True}): "),
        ("FrozenLake-v1", {"map_name": "9x9"}, "map_name=9x9: FrozenLake-v1 knows 4x4 and 8x8; give a map"),
        ("Taxi-v4", {"max_episode_steps": 3}, "--env-arg max_episode_steps is not passed on: use --time-limit"),
        ("Taxi-v4", {"render_mode": "human"}, "--env-arg render_mode is not passed on"),
        ("no_such_module_here:Walk-v0", {}, "there is no module 'no_such_module_here'"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_line(name, kwargs, message):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        open_id(name, kwargs=kwargs)
    assert "\n" not in str(caught.value)


class Handle(TableEnv):
    """Takes a continuous action."""

    def __init__(self, render_mode=None):
        super().__init__(chain(), render_mode)
        self.action_space = Box(-1, 1, (1,))


class Flaky(TableEnv):
    """Fails on every step."""

    def __init__(self, render_mode=None):
        super().__init__(chain(), render_mode)
        self.P, self.initial_state_distrib = rows_of(chain()), chain().start

    def step(self, action):
        raise ZeroDivisionError


class Windowed(TableEnv):
    """Opens a window if it is told to."""

    def __init__(self, render_mode=None):
        assert render_mode != "human"
        super().__init__(chain(), render_mode)


def test_an_environment_that_is_registered_with_a_window_is_opened_without():
    gymnasium.register("Windowed-v0", Windowed, kwargs={"render_mode": "human"})
    try:
        environment = open_id("Windowed-v0")
        assert environment.make().render_mode is None
        assert environment.make(render_mode="ansi").render_mode == "ansi"
    finally:
        del gymnasium.registry["Windowed-v0"]


class Masked(TableEnv):
    """Tells which actions make sense in a state: going on, but nothing at all in the last one."""

    def __init__(self, render_mode=None):
        super().__init__(chain(), render_mode)

    def action_mask(self, state):
        return np.array([state < 2, False], np.int8)


def test_continuous_actions_are_refused():
    message = re.escape("Handle-v0 takes actions from Box(-1.0, 1.0, (1,), float32)")
    with registered("Handle-v0", Handle) as name, pytest.raises(UsageError, match=message):
        open_id(name)


def test_an_environment_that_fails_while_it_is_stepped_is_not_the_users_mistake():
    message = re.escape("the environment Flaky-v0 failed: ZeroDivisionError")
    with registered("Flaky-v0", Flaky) as name, pytest.raises(DeepTaxiError, match=message):
        open_id(name)


def test_spaces_may_start_anywhere():
    with registered("Numbered-v0", Numbered) as name:
        environment = open_id(name)
    assert (environment.states, environment.actions, environment.first_action) == (3, 2, 2)
    assert environment.table.next_state.tolist() == chain().next_state.tolist()


@pytest.mark.parametrize(
    ("name", "asked", "limit", "horizon"),
    [("Taxi-v4", 50, 50, 50), ("CliffWalking-v1", None, None, 5_000), ("CliffWalking-v1", 30, 30, 30)],
)
def test_the_time_limit_is_the_users_or_the_environments_own(name, asked, limit, horizon):
    environment = opened(name, time_limit=asked)
    assert (environment.time_limit, environment.horizon) == (limit, horizon)


@pytest.mark.parametrize(("own", "asked", "limit"), [(None, None, None), (4, None, 4), (4, 3, 3), (None, 3, 3)])
def test_the_time_limit_of_a_table_is_the_users_or_its_own(table_file, own, asked, limit):
    environment = open_id(table_file(loop(1, time_limit=own)), time_limit=asked)
    assert (environment.time_limit, environment.horizon) == (limit, limit or 5_000)
    env = environment.make()
    env.reset(seed=0)
    truncated = [env.step(0)[3] for _ in range(limit or 10)]
    assert truncated == [False] * (len(truncated) - 1) + [limit is not None]


def test_copies_are_stepped_together_and_reset_by_the_caller(table_file):
    environment = open_id(table_file(chain()))
    vector = environment.make_vector(2)
    vector.reset(seed=[1, 2])
    for _ in range(2):
        vector.step(np.array([0, 1]))
    observation, reward, terminated, truncated, _ = vector.step(np.array([0, 1]))
    assert (observation.tolist(), reward.tolist()) == ([2, 0], [1, 0])
    assert (terminated.tolist(), truncated.tolist()) == ([True, False], [False, False])
    observation, _ = vector.reset(over=terminated)
    assert observation.tolist() == [0, 0]  # the first is at its start again, the second has not moved
    vector.close()


def test_a_table_file_is_an_environment(table_file):
    name = table_file(chain(action_mask=np.array([[True, True], [True, False], [True, True]])))
    environment = open_id(name)
    assert (environment.states, environment.actions, environment.table_missing) == (3, 2, None)
    assert known_mask(environment).tolist() == [[True, True], [True, False], [True, True]]
    assert environment.make(render_mode="ansi").render_mode == "ansi"


def test_a_table_file_takes_no_arguments_and_must_be_sound(table_file, tmp_path):
    with pytest.raises(UsageError, match="a transition table takes no arguments, received a, b"):
        open_id(table_file(chain()), kwargs={"a": 1, "b": 2})
    with pytest.raises(UsageError, match=r"no transition table at nowhere.npz"):
        open_id("nowhere.npz")
    (tmp_path / "own.npz").write_bytes(b"damaged")
    with pytest.raises(TableError, match=r"own.npz is not a readable .npz file"):
        open_id(str(tmp_path / "own.npz"))


MODULE = """
import gymnasium
from tests.problems import ToldEnv, chain, rows_of

gymnasium.register("Walk-v0", lambda render_mode=None: ToldEnv(chain(), rows_of(chain()), chain().start))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Put a module that registers ``Walk-v0`` in the current folder; return its name."""
    name = "deeptaxi_walk_of_a_test"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)
    gymnasium.registry.pop("Walk-v0", None)


def test_a_module_of_the_current_folder_can_be_named(module):
    path = list(sys.path)
    environment = open_id(f"{module}:Walk-v0")
    assert environment.table.next_state.tolist() == chain().next_state.tolist()
    assert sys.path == path
    environment.make().close()  # copies are made without the folder on the path


def test_a_module_that_is_not_trusted_is_not_imported(module):
    with pytest.raises(UsageError, match=f"names the environment module '{module}'.*pass --trust-env"):
        open_environment(EnvironmentConfig(f"{module}:Walk-v0"), trust_module=False)
    assert module not in sys.modules


def test_an_id_of_gymnasium_needs_no_trust():
    assert open_environment(EnvironmentConfig("CliffWalking-v1"), trust_module=False).states == 48


def test_the_known_mask_of_taxi_is_the_one_that_its_steps_tell():
    environment = opened("Taxi-v4")
    mask = known_mask(environment)
    env = environment.make()
    state, info = env.reset(seed=0)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(5_000):
        assert mask[state].tolist() == info["action_mask"].tolist()
        seen.add(state)
        state, _, terminated, truncated, info = env.step(rng.choice(np.flatnonzero(mask[state])))
        if terminated or truncated:
            state, info = env.reset()
    assert len(seen) > 300
    assert not mask.all()


def test_a_state_in_which_all_is_excluded_counts_as_unrestricted():
    with registered("Masked-v0", Masked) as name:
        assert known_mask(open_id(name)).tolist() == [[True, False], [True, False], [True, True]]


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Blackjack-v1"])
def test_most_environments_have_no_mask(name):
    assert known_mask(opened(name)) is None


class Plain(TableEnv):
    """An environment as most people write one: no arguments at all, and a noisy end."""

    def __init__(self):
        super().__init__(chain())
        self.P = rows_of(chain())
        self.initial_state_distrib = chain().start

    def close(self):
        raise RuntimeError("closing failed")


class Exits(TableEnv):
    def __init__(self):
        raise SystemExit(3)


def test_an_environment_need_not_take_a_render_mode_nor_close_well():
    with registered("Plain-v0", Plain) as name:
        assert open_id(name).table is not None


def test_an_environment_that_exits_is_told_like_any_failure():
    message = "Exits-v0 could not be created: SystemExit"
    with registered("Exits-v0", Exits) as name, pytest.raises(UsageError, match=message):
        open_id(name)


def test_an_id_without_version_is_the_newest():
    assert open_id("CliffWalking").config.id == "CliffWalking-v1"


class Shop(gymnasium.Env):
    """Takes an array of two orders, and observes the pieces of two products by their names."""

    observation_space = Dict(pens=Discrete(3), ink=Box(0, 3, (1,), np.int8))
    action_space = MultiDiscrete([2, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.stock = [0, 0]
        return self.look(), {}

    def look(self):
        return {"ink": np.array([self.stock[1]], np.int8), "pens": self.stock[0]}

    def step(self, action):
        assert self.action_space.contains(action)
        self.stock = [min(self.stock[i] + int(action[i]), 2 + i) for i in (0, 1)]
        return self.look(), 1.0, self.stock == [2, 3], False, {}


class Strict(TableEnv):
    """Takes Python's integers only."""

    def __init__(self, render_mode=None):
        super().__init__(chain(), render_mode)

    def step(self, action):
        assert type(action) is int
        return super().step(action)


def test_actions_of_several_parts_are_numbers_to_all_but_the_environment():
    with registered("Shop-v0", Shop) as name:
        environment = open_id(name, time_limit=9)
        assert (environment.states, environment.actions, environment.first_action) == (12, 4, 0)
        env, vector = environment.make(), environment.make_vector(2)
        env.reset(seed=0), vector.reset(seed=0)
        assert env.step(np.int64(3))[0] == {"ink": np.array([1]), "pens": 1}
        assert vector.step(np.array([1, 2]))[0].tolist() == [1, 4]  # 0·4 + 1, 1·4 + 0
        assert environment.decode_action(2).tolist() == [1, 0]
        names = names_of(environment)
    assert names.actions == ("(0, 0)", "(0, 1)", "(1, 0)", "(1, 1)")
    assert names.state(6) == "pens 1, ink 2"


def test_an_environment_gets_pythons_integers():
    with registered("Strict-v0", Strict) as name:
        environment = open_id(name)
        env, vector = environment.make(), environment.make_vector(2)
        env.reset(seed=0), vector.reset(seed=0)
        assert env.step(np.int64(0))[0] == 1
        assert vector.step(np.zeros(2, np.int64))[0].tolist() == [1, 1]


def test_real_numbers_are_seen_in_bins():
    environment = open_id("Pendulum-v1", bins=(3, 3, 5), action_bins=(3,))
    assert (environment.states, environment.actions, environment.time_limit) == (45, 3, 200)
    assert [environment.decode_action(action).tolist() for action in range(3)] == [[-2], [0], [2]]
    assert factors(environment) == (3, 3, 5)
    assert environment.asked_settings() == {"network": {"encoding": "factored"}}
    env, vector = environment.make(), environment.make_vector(2)
    assert environment.codec.encode(env.reset(seed=0)[0]) == vector.reset(seed=0)[0][0]
    assert environment.codec.encode(env.step(2)[0]) == vector.step(np.array([2, 0]))[0][0]


def test_the_fault_of_a_later_step_is_told_with_its_number():
    class Late(Strict):
        def step(self, action):
            return (7 if self.state == 1 else super().step(action)[0]), 0.0, False, False, {}

    with registered("Late-v0", Late) as name:
        env = open_id(name).make()
        env.reset(seed=0), env.step(0)
        with pytest.raises(
            DeepTaxiError, match=r"failed: at step 2 of an episode, step\(0\) returned the observation 7: e"
        ):
            env.step(0)


def test_a_table_has_nothing_to_divide(table_file):
    for name, value in (("bins", (3,)), ("action_bins", (3,)), ("observation", "one-hot")):
        with pytest.raises(
            UsageError, match=f"--{name.replace('_', '-')}: the states and actions of a transition table"
        ):
            open_id(table_file(chain()), **{name: value})


class OldDiscrete(Discrete):
    """A space that the module of another package makes, as the old `gym` is one."""

    __module__ = "gym.spaces.discrete"


class HalfOld(TableEnv):
    """A class of Gymnasium's, with an action space of the old one."""

    def __init__(self, render_mode=None):
        super().__init__(chain(), render_mode)
        self.action_space = OldDiscrete(2)


def test_spaces_of_the_old_gym_are_told_from_gymnasiums():
    message = "HalfOld-v0: its action_space is one of 'gym', the old one: import spaces from gymnasium"
    with registered("HalfOld-v0", HalfOld) as name, pytest.raises(UsageError, match=re.escape(message)):
        open_environment(EnvironmentConfig(name))
