from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.network.gradients import (
    advantage_gradient_nested,
    advantage_gradient_shared,
    central_difference,
    check_gradients,
    head_gradients,
    jacobian,
    largest,
    random_gradients,
    value_gradient,
)


@pytest.mark.parametrize("aggregation", ["mean", "max", "none"])
@pytest.mark.parametrize("actions", [1, 2, 3, 6, 17, 64])
def test_the_closed_form_agrees_with_every_other_gradient(actions, aggregation):
    check = check_gradients(actions, aggregation, batch=2, seed=actions)
    assert check.actions == actions
    assert check.autodiff <= 1e-6
    assert check.finite_differences <= 1e-6
    if aggregation == "mean":
        assert check.shared_sum <= 1e-6
    else:
        assert check.shared_sum is None


def test_actions_not_taken_get_their_share_of_the_mean():
    # N = 4 and g = 8 at action 1 alone, as the overwrite rule leaves it: (1 − 1/4)·8 = 6 there, −8/4 = −2 elsewhere.
    g = np.array([[0.0, 8.0, 0.0, 0.0]])
    total = value_gradient(g)
    expected = [[-2.0, 6.0, -2.0, -2.0]]
    np.testing.assert_array_equal(total, [[8.0]])
    np.testing.assert_array_equal(advantage_gradient_shared(g, total), expected)
    np.testing.assert_array_equal(advantage_gradient_nested(g, np.zeros((1, 4))), expected)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("mean", [[1 / 2, -1 / 2], [-1 / 2, 1 / 2]]),
        ("max", [[1.0, -1.0], [0.0, 0.0]]),  # Q = V + (A_0 − A_1, 0)
        ("none", [[1.0, 0.0], [0.0, 1.0]]),
    ],
)
def test_the_jacobian_of_two_actions_is_known(aggregation, expected):
    np.testing.assert_array_equal(jacobian(np.array([[3.0, 7.0]]), aggregation), [expected])


def test_with_max_the_best_action_gets_the_whole_shared_sum():
    # Σ g = 6, taken from action 2, the best: 4 − 6 = −2.
    g, advantage = np.array([[1.0, 1.0, 4.0]]), np.array([[0.0, 5.0, 9.0]])
    np.testing.assert_array_equal(advantage_gradient_nested(g, advantage, "max"), [[1.0, 1.0, -2.0]])


def test_with_max_tied_best_actions_split_the_shared_sum():
    # Σ g = 6, half of it from each of actions 1 and 2: 1 − 3 and 4 − 3.
    g, advantage = np.array([[1.0, 1.0, 4.0]]), np.array([[0.0, 9.0, 9.0]])
    np.testing.assert_array_equal(advantage_gradient_nested(g, advantage, "max"), [[1.0, -2.0, 1.0]])


def test_central_differences_find_the_gradient_of_a_known_function():
    # f = x² + 3xy + sin(z) has the gradient (2x + 3y, 3x, cos z).
    x = np.array([[1.0, 2.0, 0.5]])
    gradient = central_difference(lambda v: v[0, 0] ** 2 + 3 * v[0, 0] * v[0, 1] + np.sin(v[0, 2]), x)
    np.testing.assert_allclose(gradient, [[8.0, 3.0, np.cos(0.5)]], atol=1e-8)
    np.testing.assert_array_equal(x, [[1.0, 2.0, 0.5]])


def test_the_largest_discrepancy_is_over_all_entries_of_all_arrays():
    one = [np.array([[1.0]]), np.array([[1.0, 2.0]])]
    other = [np.array([[1.5]]), np.array([[1.0, -1.0]])]
    assert largest(one, other) == 3.0


def test_given_gradients_are_used_as_they_are():
    g = np.array([[0.0, 8.0, 0.0, 0.0]])
    found = random_gradients(4, batch=1, g=g)
    np.testing.assert_array_equal(found.g, g)
    np.testing.assert_allclose(found.autodiff[1], [[-2.0, 6.0, -2.0, -2.0]], atol=1e-12)
    np.testing.assert_allclose(found.differences[0], [[8.0]], atol=1e-8)
    np.testing.assert_allclose(found.q_values, found.value + found.advantage - found.advantage.mean(), atol=1e-12)
    assert found.check.largest <= 1e-6


def test_the_discrepancy_is_relative_to_a_large_gradient():
    found = head_gradients(np.array([[1e9, 0.0]]), np.array([[1.0]]), np.array([[2.0, 3.0]]))
    assert largest(found.nested, found.differences) > 1e-6
    assert found.check.largest <= 1e-6


def test_a_wrong_shared_sum_is_a_discrepancy(monkeypatch):
    monkeypatch.setattr("deeptaxi.network.gradients.advantage_gradient_shared", lambda g, total: g - total)
    assert check_gradients(3).largest > 0.01
