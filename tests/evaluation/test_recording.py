"""Recordings: replayed from the table alone, they are the episodes that `watch` plays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.evaluation.recording import (
    MOST_SEEDS,
    MOST_STEPS,
    Recording,
    UnknownOutcomeError,
    is_small,
    record,
    record_seeds,
)
from deeptaxi.evaluation.watching import Show, watch
from deeptaxi.mdp.planning import greedy_policy, value_iteration
from deeptaxi.mdp.table import TransitionTable
from tests.problems import chain, opened


def replayed(table: TransitionTable, policy: np.ndarray, recording: Recording) -> tuple[list[int], float]:
    """The states and the return of a recording."""
    state, states, total, outcomes = recording.start, [recording.start], 0.0, iter(recording.outcomes)
    for _ in range(recording.length):
        row = (state, policy[state])
        possible = np.flatnonzero(table.probability[row] > 0)
        k = possible[0] if len(possible) == 1 else possible[next(outcomes)]
        total += float(table.reward[row][k])
        state = int(table.next_state[row][k])
        states.append(state)
    assert next(outcomes, None) is None
    return states, total


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Taxi-v4", "CliffWalking-v1"])
def test_a_recording_replays_the_episode_that_watch_plays(name):
    environment = opened(name)
    table = environment.table
    policy = greedy_policy(value_iteration(table, 0.99).q)
    for seed in (0, 7):
        steps = list(watch(environment, policy, Show(seed=seed)))
        recording = record(environment, table, policy, seed)
        assert replayed(table, policy, recording) == ([step.state for step in steps], steps[-1].total)
        assert (recording.length, recording.ending) == (steps[-1].step, steps[-1].ending)
        assert bool(recording.outcomes) == (name == "FrozenLake-v1")  # only where there is a choice


def test_an_environment_that_contradicts_its_table_is_not_recorded():
    environment = opened("FrozenLake-v1", is_slippery=False)
    lies = replace(environment.table, reward=environment.table.reward + 1)
    with pytest.raises(UnknownOutcomeError, match=r"in state 0, after action 0, .* does not contain"):
        record(environment, lies, np.zeros(16, int), 0)


def test_seeds_are_recorded_until_there_are_enough_steps():
    lake = opened("FrozenLake-v1", is_slippery=False)
    stays = np.zeros(16, int)  # to the left, against the wall: 100 steps, the time limit
    found = record_seeds(lake, lake.table, {"agent": stays, "best": stays})
    assert list(found) == list(range(MOST_SEEDS))
    assert found[3]["agent"] == Recording(0, (), 100, "truncated")
    many = record_seeds(lake, lake.table, dict.fromkeys(map(str, range(MOST_STEPS // 200)), stays))
    assert list(many) == [0, 1]


def test_a_small_problem_has_few_outcomes():
    assert is_small(chain())
    assert is_small(opened("Taxi-v4").table)
    wide = chain()
    wide.__dict__["probability"] = np.broadcast_to(np.float64(1), (60, 60, 60))
    assert not is_small(wide)
