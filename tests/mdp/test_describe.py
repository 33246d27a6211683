from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.spaces import Discrete, MultiDiscrete, Tuple

from deeptaxi.config import EnvironmentConfig, NetworkConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.describe import encoded_factors, factors
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.table import save_table
from tests.problems import chain, opened, random_table, registered


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("Taxi-v4", {}, (5, 5, 5, 4)),
        ("Taxi-v4", {"is_rainy": True}, (5, 5, 5, 4)),
        ("FrozenLake-v1", {}, (4, 4)),
        ("FrozenLake-v1", {"desc": ["SFF", "FFG"]}, (2, 3)),
        ("CliffWalking-v1", {}, (4, 12)),
        ("Blackjack-v1", {}, (32, 11, 2)),
    ],
)
def test_the_factors_are_read_off_where_they_are_written_down(name, kwargs, expected):
    kwargs = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    environment = open_environment(EnvironmentConfig(name, kwargs))
    assert factors(environment) == expected
    assert np.prod(expected) == environment.states


def test_taxis_factors_are_those_that_it_decodes_its_states_by():
    taxi, sizes = gymnasium.make("Taxi-v4").unwrapped, factors(opened("Taxi-v4"))
    for state in range(500):
        assert tuple(taxi.decode(state)) == np.unravel_index(state, sizes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [((2, 3), (2, 3)), ((3, 2, 1), (3, 2, 1)), (None, None), ((6,), None)],  # one part is the whole state
)
def test_a_table_says_its_factors_itself(given, expected, tmp_path):
    save_table(random_table(0, states=6, factors=given), tmp_path / "own.npz")
    assert factors(open_environment(EnvironmentConfig(str(tmp_path / "own.npz")))) == expected


class Parts(gymnasium.Env):
    """Observes two parts of sizes 2 and 3, one of them counted from 1."""

    observation_space = Tuple((Discrete(2, start=1), MultiDiscrete([3])))
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return (1, np.array([0])), {}

    def step(self, action):
        return (2, np.array([2])), 1.0, True, False, {}


class Whole(Parts):
    """Observes one number of 6."""

    observation_space = Discrete(6)

    def reset(self, *, seed=None, options=None):
        return 3, super().reset(seed=seed)[1]

    def step(self, action):
        return 5, *super().step(action)[1:]


class Shuffled(gymnasium.ObservationWrapper):
    """Numbers the states of the lake otherwise."""

    def observation(self, observation):
        return 15 - observation


class Cheered(gymnasium.RewardWrapper):
    """Leaves observations as they are."""

    def reward(self, reward):
        return reward + 1


@pytest.mark.parametrize(
    ("entry_point", "expected"),
    [
        pytest.param(Parts, (2, 3), id="parts-of-the-observation"),
        pytest.param(Whole, None, id="one-number"),
        pytest.param(lambda: Cheered(FrozenLakeEnv()), (4, 4), id="other-rewards"),
        pytest.param(lambda: Shuffled(FrozenLakeEnv()), None, id="other-numbers"),
    ],
)
def test_of_other_environments_only_what_is_certain_is_told(entry_point, expected):
    with registered("Own-v0", entry_point) as name:
        assert factors(open_environment(EnvironmentConfig(name))) == expected


def test_without_factors_a_factored_encoding_is_refused_with_a_way_out(tmp_path):
    save_table(chain(), tmp_path / "own.npz")
    environment = open_environment(EnvironmentConfig(str(tmp_path / "own.npz")))
    assert encoded_factors(environment, NetworkConfig()) is None
    with pytest.raises(UsageError, match=r"own.npz does not say .* leave out --encoding factored"):
        encoded_factors(environment, NetworkConfig(encoding="factored"))


def test_the_encoding_decides_whether_factors_are_used():
    assert encoded_factors(opened("Taxi-v4"), NetworkConfig(encoding="factored")) == (5, 5, 5, 4)
    assert encoded_factors(opened("Taxi-v4"), NetworkConfig(encoding="joint")) is None
