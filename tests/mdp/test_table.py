from __future__ import annotations

import re

import numpy as np
import pytest

from deeptaxi.mdp.table import TableError, from_arrays
from tests.problems import SOUND


def test_expected_rewards_and_continuations_follow_from_the_outcomes():
    table = from_arrays(**SOUND)
    assert (table.states, table.actions) == (2, 1)
    np.testing.assert_array_equal(table.expected_reward, [[5.0], [-1.0]])  # 0.25·8 + 0.75·4 = 5
    np.testing.assert_array_equal(table.continuation, [[[0.0, 0.75]], [[0.0, 0.0]]])


def test_sums_that_are_off_by_rounding_are_put_right():
    table = from_arrays(**{**SOUND, "probability": [[[0.25, 0.75 + 4e-7]], [[1, 0]]], "start": [0.5, 0.5 - 4e-7]})
    assert table.probability.sum(-1).tolist() == [[1.0], [1.0]]
    assert table.start.sum() == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": [[[0.25, np.nan]], [[1, 0]]]}, "probability holds nan at [0, 0, 1]: all numbers must be"),
        ({"probability": [[[0.25, 0.7]], [[1, 0]]]}, "probability of state 0, action 0 sums to 0.95, not to 1"),
        ({"probability": [[[0.25, 0.75]], [[2, -1]]]}, "probability holds -1.0 at [1, 0, 1]: probabilities are at"),
        ({"probability": [0.25, 0.75]}, "probability: expected numbers in 3 dimensions, received float64 [2]"),
        ({"probability": np.ones((0, 1, 1))}, "probability: expected a shape [S, A, K] without zeros"),
        ({"probability": [[["a"]]]}, "probability: expected numbers in 3 dimensions, received <U1 [1, 1, 1]"),
        ({"next_state": [[[0, 2]], [[1, 0]]]}, "next_state holds 2 at [0, 0, 1]: expected 0 to 1"),
        ({"next_state": [[[0, 1]], [[-1, 0]]]}, "next_state holds -1 at [1, 0, 0]: expected 0 to 1"),
        ({"next_state": [[[0, 0.5]], [[1, 0]]]}, "next_state holds 0.5 at [0, 0, 1]: expected int64 values"),
        ({"next_state": [[[0, 1e300]], [[1, 0]]]}, "next_state holds 1e+300 at [0, 0, 1]"),
        ({"next_state": [[[0, np.nan]], [[1, 0]]]}, "next_state holds nan at [0, 0, 1]"),
        ({"next_state": [[[0, 1]]]}, "next_state: expected shape [2, 1, 2], received [1, 1, 2]"),
        ({"reward": [[[8, np.inf]], [[0, 0]]]}, "reward holds inf at [0, 0, 1]: all numbers must be finite"),
        ({"reward": [[[8]], [[0]]]}, "reward: expected shape [2, 1, 2], received [2, 1, 1]"),
        ({"terminated": [[[2, 0]], [[1, 1]]]}, "terminated holds 2 at [0, 0, 0]: expected bool values"),
        ({"start": [0.5, 0.4]}, "start sums to 0.9, not to 1"),
        ({"start": [1.5, -0.5]}, "start holds -0.5 at [1]: probabilities are at least 0"),
        ({"start": [1.0]}, "start: expected shape [2], received [1]"),
        ({"time_limit": 0}, "time_limit: expected 1 or more, received 0"),
        ({"discount": 1.5}, "discount: expected a number between 0 and 1, received 1.5"),
        ({"action_mask": np.ones((1, 2), bool)}, "action_mask: expected shape [2, 1], received [1, 2]"),
        ({"action_mask": np.array([[True], [False]])}, "action_mask excludes every action of state 1"),
        ({"factors": (3, 2)}, "factors [3, 2] make 6 states, not 2"),
        ({"factors": (-1, -2)}, "factors"),
        ({"state_names": ("here",)}, "state_names: expected 2 names, received 1"),
        ({"action_names": ("go", "stay")}, "action_names: expected 1 names, received 2"),
    ],
)
def test_what_is_no_decision_process_is_refused(change, message):
    with pytest.raises(TableError, match=re.escape(message)):
        from_arrays(**{**SOUND, **change})
