from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.mdp.planning import value_iteration
from deeptaxi.mdp.table import TableError, from_arrays, from_rows
from tests.problems import bandit, build, opened, surely


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
        [[[]]],
    ],
)
def test_rows_of_another_form_are_refused(p):
    with pytest.raises(TableError, match=r"P is not of the form"):
        from_rows(p, [1.0])


@pytest.mark.parametrize(
    "p",
    [
        {0: {0: surely(1, 0), 1: surely(0, -1)}, 1: {1: surely(1, 5, True)}},
        {0: {0: surely(1, 0), 1: surely(0, -1)}, 1: {0: [], 1: surely(1, 5, True)}},
        [[surely(1, 0), surely(0, -1)], {1: surely(1, 5, True)}],
    ],
)
def test_an_action_that_a_state_lacks_is_excluded(p):
    table = from_rows(p, [1, 0])
    assert table.action_mask.tolist() == [[True, True], [False, True]]
    assert table.reward[:, :, 0].tolist() == [[0, -1], [0, 5]]
    assert value_iteration(table, 0.5, table.action_mask).value.tolist() == [2.5, 5]  # on, then the end for 5


def test_a_row_of_a_list_may_be_shorter():
    table = from_rows([[surely(1, 0), surely(0, -1)], [surely(1, 5, True)]], [1, 0])
    assert table.action_mask.tolist() == [[True, True], [True, False]]


def test_a_state_without_actions_is_the_end():
    table = from_rows({0: {0: surely(1, 3), 1: surely(0, 0)}, 1: {}}, [1, 0])
    assert table.action_mask is None
    assert table.terminated[1].all()
    assert value_iteration(table, 0.5, None).value.tolist() == [3, 0]


def test_a_given_mask_is_kept_beside_the_missing_actions():
    rows = [[surely(0, 1), surely(0, 2), surely(0, 3)], [surely(0, 1)]]
    table = from_rows(rows, [1, 0], action_mask=[[1, 1, 0], [1, 1, 1]])
    assert table.action_mask.tolist() == [[True, True, False], [True, False, False]]


MINUS = float("-inf")


@pytest.mark.parametrize("how", ["reward", "mask", "nan"])
def test_a_reward_of_minus_infinity_excludes_an_action_as_a_mask_does(how):
    # QuantEcon's example: s = 0, a = 0 gives 5, a = 1 gives 10 and leads to state 1 for good, where a = 0 costs 1.
    probability = [[[0.5, 0.5], [1, 0]], [[1, 0], [1 if how == "reward" else float("nan") if how == "nan" else 0, 0]]]
    arrays = {
        "probability": probability,
        "next_state": [[[0, 1], [1, 0]], [[1, 0], [0, 0]]],
        "reward": [[[5, 5], [10, 10]], [[-1, -1], [MINUS if how == "reward" else 0] * 2]],
        "terminated": np.zeros((2, 2, 2), bool),
        "start": [1, 0],
    }
    mask = {} if how == "reward" else {"action_mask": [[True, True], [True, False]]}
    table = from_arrays(**arrays, **mask)
    assert table.action_mask.tolist() == [[True, True], [True, False]]
    value = value_iteration(table, 0.95, table.action_mask).value
    assert value == pytest.approx([-8.5714286, -20])  # Puterman (2005), section 3.1
    assert np.isfinite(table.expected_reward).all()


def test_only_minus_infinity_at_pairs_that_may_be_is_a_mask():
    with pytest.raises(TableError, match=r"action_mask excludes every action of state 0"):
        build([[[(0.5, 0, MINUS, False), (0.5, 0, 1, False)]]])
    with pytest.raises(TableError, match=r"reward holds inf at \[0, 0, 0\]"):
        build([[surely(0, float("inf"))]])
    with pytest.raises(TableError, match="probability of state 0, action 1 sums to 0, not to 1"):
        from_arrays([[[1], [0]]], [[[0], [0]]], [[[0], [0]]], [[[1], [1]]], [1])
