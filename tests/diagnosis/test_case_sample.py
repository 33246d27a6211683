from __future__ import annotations

import time

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from deeptaxi.api.environments import EnvSpec
from deeptaxi.config import EnvironmentConfig
from deeptaxi.diagnosis import case
from deeptaxi.diagnosis.case import COPIES, play_random_sample, play_sample
from deeptaxi.mdp.environment import open_environment
from tests.problems import opened


@pytest.fixture(scope="module")
def lake():
    return opened("FrozenLake-v1", is_slippery=False)


def test_half_of_the_episodes_follow_the_policy_and_half_are_random(lake):
    table = lake.table
    policy = np.full(16, 2)  # right, until a hole or the edge
    sample = play_sample(lake, policy, None, 20, seed=0)
    assert min(sample.episodes) >= 20
    assert (sample.action[sample.greedy] == 2).all()
    assert set(sample.action[~sample.greedy]) == {0, 1, 2, 3}
    # FrozenLake that does not slip has one outcome for each pair: each transition is that of the table.
    for column, expected in (
        (sample.next_state, table.next_state),
        (sample.reward, table.reward),
        (sample.terminated, table.terminated),
    ):
        outcome = table.probability[sample.state, sample.action].argmax(axis=1)
        np.testing.assert_array_equal(column, expected[sample.state, sample.action, outcome])


def test_time_counts_the_steps_of_each_episode_from_1(lake):
    sample = play_sample(lake, None, None, COPIES, seed=1)
    assert not sample.greedy.any()
    assert sample.episodes[0] == 0
    time, over = sample.time.reshape(-1, COPIES), (sample.terminated | sample.truncated).reshape(-1, COPIES)
    assert (time[0] == 1).all()
    np.testing.assert_array_equal(time[1:], np.where(over[:-1], 1, time[:-1] + 1))


def test_random_actions_are_allowed_ones(lake):
    allowed = np.zeros((16, 4), bool)
    allowed[:, 1:3] = True
    assert set(play_sample(lake, None, allowed, 4, seed=2).action) == {1, 2}


def test_equal_seeds_give_equal_samples(lake):
    one, other = (play_sample(lake, None, None, 4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.state, other.state)
    np.testing.assert_array_equal(one.action, other.action)


def test_a_sample_knows_the_state_that_all_other_observations_share(lake):
    assert play_sample(lake, None, None, 4, seed=3).shared_state is None
    numbered = open_environment(EnvironmentConfig("FrozenLake-v1", state_capacity=5))
    assert play_sample(numbered, None, None, 4, seed=3).shared_state == 4


def test_the_time_of_random_play_begins_once_its_copies_are_made(monkeypatch):
    class Slow(gymnasium.Env):
        observation_space, action_space = Discrete(1), Discrete(1)

        def __init__(self):
            time.sleep(0.03)

        def reset(self, *, seed=None, options=None):
            return 0, {}

        def step(self, action):
            return 0, 0.0, False, False, {}

    monkeypatch.setattr(case, "SECONDS", 0.2)  # sixteen copies take 0.5
    monkeypatch.setattr(case, "STEPS", 320)
    assert len(play_random_sample(EnvSpec(Slow, discover=False).open(), None, seed=0).state) == 320
