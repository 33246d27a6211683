from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation.comparison import compare, largest_of_each, spread_out, worst_states
from deeptaxi.evaluation.exact import evaluate_greedy, reference
from tests.problems import build, chain, opened, random_table, surely


def fork():
    """0 goes to 1 or to 2; from 1 one ends with 1, from 2 with 1 or with 0; 3 is never reached. Discount 0.5."""
    return build(
        [
            [surely(1, 0), surely(2, 0)],
            [surely(0, 1, True), surely(0, 1, True)],
            [surely(0, 1, True), surely(0, 0, True)],
            [surely(0, 5, True), surely(0, 0, True)],
        ]
    )


# Always action 0, but action 1 in state 2 (wrong) and in state 3 (wrong, but nobody gets there).
Q = np.array([[0.5, 0.2], [1.0, 1.0], [0.0, 0.4], [0.0, 1.0]])


def test_a_wrong_action_in_a_state_that_the_policy_never_visits_is_wrong_but_harmless():
    found = compare(reference(fork(), 10, 0.5, 0.5), Q)
    assert found.policy.tolist() == [0, 0, 1, 1]
    assert found.optimal.tolist() == [[True, True], [True, True], [True, False], [True, False]]
    assert found.reachable.tolist() == [True, True, True, False]
    assert found.met.tolist() == [True, True, False, False]
    assert found.wrong.tolist() == [False, False, True, False]
    assert found.loss.tolist() == [0, 0, 1, 5]


def test_the_error_of_a_state_is_its_largest_and_unreachable_states_have_none():
    found = compare(reference(fork(), 10, 0.5, 0.5), Q)
    # Q* is 0.5 twice; 1 twice; 1 and 0.
    assert found.error == pytest.approx([0.3, 0.0, 1.0, np.nan], nan_ok=True)
    assert compare(reference(fork(), 10, 0.5), Q).error is None  # the training discount is not known


def test_a_wrong_action_in_a_state_that_the_policy_visits_matters():
    found = compare(reference(fork(), 10, 0.5, 0.5), Q[:, ::-1])  # 0 goes to 2, and there to the better end
    assert found.policy.tolist() == [1, 0, 0, 0]
    assert found.met.tolist() == [True, False, True, False]
    assert not found.wrong.any()


@pytest.mark.parametrize("seed", range(20))
def test_a_policy_is_optimal_if_it_is_right_in_every_state_it_visits(seed):
    table = random_table(seed, states=6, outcomes=1)
    target = reference(table, 50, 0.9, 0.9)
    q = np.random.default_rng(seed).normal(size=(6, 3)) + 0.8 * target.optimum.q
    found = compare(target, q)
    assert evaluate_greedy(target, q).optimal == (not (found.wrong & found.met).any())
    assert evaluate_greedy(target, q).q_error.max == pytest.approx(np.nanmax(found.error))


def test_the_optimum_itself_has_no_error():
    target = reference(opened("Taxi-v4").table, 200, 0.99, 0.97)
    found = compare(target, target.optimum.q)
    assert not found.wrong.any()
    assert not found.loss.any()


def test_the_worst_states_are_sorted_by_their_error():
    found = compare(reference(fork(), 10, 0.5, 0.5), Q)
    assert worst_states(found, 3).tolist() == [2, 0, 1]
    assert worst_states(found, 1).tolist() == [2]


def test_an_action_that_the_agent_may_not_take_has_no_error():
    q = np.array([[0.5, 0.0], [-np.inf, 0.0], [0.0, 0.0]])
    found = compare(reference(chain(), 10, 0.9, 0.9, q > -np.inf), q)
    assert found.pairs.tolist() == [[True, True], [False, True], [True, True]]
    assert np.isfinite(found.error).all()


def test_nan_values_are_refused():
    with pytest.raises(DeepTaxiError, match="diverged"):
        compare(reference(chain(), 10, 0.9), np.full((3, 2), np.nan))


@pytest.mark.parametrize("count", [10, 1_000, 100_000])
def test_thinned_out_points_span_the_same_range(count):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, count))
    chosen = spread_out(x, y, 500)
    assert len(chosen) <= 500
    assert len(chosen) == count or len(chosen) > 200
    assert np.array_equal(chosen, spread_out(x, y, 500))
    for values in (x, y):
        assert np.ptp(values[chosen]) > 0.98 * np.ptp(values)


def test_equal_points_become_one():
    assert spread_out(np.ones(1000), np.ones(1000), 10).tolist() == [0]


def test_the_largest_of_each_range_is_found():
    values = np.array([1.0, np.nan, 3.0, 2.0, np.nan, np.nan])
    assert [column.tolist() for column in largest_of_each(values, 3)] == [[0, 2], [1.0, 3.0]]
    assert [column.tolist() for column in largest_of_each(values, 10)] == [[0, 2, 3], [1.0, 3.0, 2.0]]
