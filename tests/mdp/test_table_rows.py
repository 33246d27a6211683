from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.mdp.table import TableError, from_rows
from tests.problems import bandit, opened, surely


def test_rows_are_merged_where_next_state_reward_and_end_agree():
    rows = [(0.25, 0, 1, False), (0.25, 0, 2, False), (0.125, 0, 1, True), (0.125, 0, 1, False), (0.25, 0, 1, True)]
    table = from_rows([[[*rows, (0.0, 0, 99, True)]]], [1.0])
    outcomes = np.stack([table.probability, table.next_state, table.reward, table.terminated], axis=-1)[0, 0]
    assert outcomes.tolist() == [[0.375, 0, 1, 0], [0.25, 0, 2, 0], [0.375, 0, 1, 1]]


def test_slippery_cliff_walking_returns_to_its_start_in_two_ways():
    table = opened("CliffWalkingSlippery-v1").table
    # Down in the lower left corner: it slips right off the cliff (−100), or bumps into the border below or left (−1).
    outcomes = {
        (int(s), float(r)): float(p)
        for p, s, r in zip(table.probability[36, 2], table.next_state[36, 2], table.reward[36, 2], strict=True)
        if p > 0
    }
    assert outcomes == pytest.approx({(36, -100): 1 / 3, (36, -1): 2 / 3})


def test_actions_with_fewer_outcomes_are_filled_up_with_impossible_ones():
    table = bandit()
    assert table.probability.tolist() == [[[1.0, 0.0], [0.5, 0.5]]]
    assert table.expected_reward.tolist() == [[1.0, 1.5]]


def test_rows_may_be_arrays():
    table = from_rows(np.array([[[[0.5, 1, 2, 1], [0.5, 0, 3, 0]]], [[[1, 1, 0, 1], [0, 0, 0, 0]]]]), [1, 0])
    assert table.next_state.tolist() == [[[1, 0]], [[1, 0]]]
    assert table.terminated.tolist() == [[[True, False]], [[True, True]]]


@pytest.mark.parametrize(
    "p",
    [
        {},
        0.5,
        {1: {0: surely(0, 0)}},
        {0: {1: surely(0, 0)}},
        {0: {0: [(1.0, 0, 0)]}},
        {0: {0: 1.0}},
        {0: {0: surely("next", 0)}},
        {0: {0: surely(0.7, 0)}},
        [[surely(0, 0), surely(0, 0)], [surely(0, 0)]],
        [[surely(0, 0)], [surely(0, 0), surely(0, 0)]],
        [[[]]],
    ],
)
def test_rows_of_another_form_are_refused(p):
    with pytest.raises(TableError, match=r"P is not of the form|P has states with different|sums to 0, not to 1"):
        from_rows(p, [1.0])
