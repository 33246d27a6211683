from __future__ import annotations

from itertools import islice

import numpy as np

from deeptaxi.config import EnvironmentConfig
from deeptaxi.evaluation.rollout import rollout
from deeptaxi.mdp.environment import environment_over
from tests.problems import build, surely

# 0 → 1 → 2, where action 0 goes on and ends after state 2; action 1 stays for a reward of -1.
ROAD = [[surely(s + 1 if s < 2 else 0, s, s == 2), surely(s, -1)] for s in range(3)]


def rolled(policy, count, limit=None):
    environment = environment_over(build(ROAD), EnvironmentConfig("road"))
    vector = environment.make_vector(2, masks=False)
    states, _ = vector.reset(seed=[0, 1])
    return list(islice(rollout(environment, vector, states, lambda state: np.array(policy)[state], limit), count))


def test_every_step_goes_on_where_the_one_before_led_and_ended_episodes_begin_anew():
    steps = rolled([0, 0, 0], 4)
    assert [step.state.tolist() for step in steps] == [[0, 0], [1, 1], [2, 2], [0, 0]]
    assert [step.next_state.tolist() for step in steps[:2]] == [[1, 1], [2, 2]]
    assert [step.reward.tolist() for step in steps] == [[0, 0], [1, 1], [2, 2], [0, 0]]
    assert [step.over.tolist() for step in steps] == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]
    assert [step.time.tolist() for step in steps] == [[1, 1], [2, 2], [3, 3], [1, 1]]


def test_a_limit_ends_an_episode_without_terminating_it():
    steps = rolled([1, 1, 1], 3, limit=2)
    assert [step.time.tolist() for step in steps] == [[1, 1], [2, 2], [1, 1]]
    assert steps[1].over.all()
    assert not steps[1].terminated.any()


def test_a_consumer_may_end_an_episode_itself():
    environment = environment_over(build(ROAD), EnvironmentConfig("road"))
    vector = environment.make_vector(2, masks=False)
    states, _ = vector.reset(seed=[0, 1])
    steps = rollout(environment, vector, states, lambda state: np.zeros(2, np.int64))
    next(steps).over[0] = True
    assert next(steps).state.tolist() == [0, 1]
