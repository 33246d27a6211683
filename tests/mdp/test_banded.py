from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from deeptaxi.mdp import banded, planning
from deeptaxi.mdp.banded import solve_banded_chain
from deeptaxi.mdp.table import from_arrays


def walk(length, chance=0.5):
    """Return P of a walk that goes up with `chance`, else down, and ends beyond either end."""
    return chance * np.eye(length, k=1) + (1 - chance) * np.eye(length, k=-1)


@pytest.mark.parametrize("chance", [0.5, 0.6])
def test_the_gamblers_ruin_whatever_the_order_of_the_states(chance):
    length = 200
    shuffled = np.random.default_rng(0).permutation(length)
    matrix = csr_array(walk(length, chance)[np.ix_(shuffled, shuffled)])
    right = np.zeros((length, 2))
    right[shuffled == length - 1, 0] = chance  # reaching the upper end
    right[:, 1] = 1  # steps
    won, steps = solve_banded_chain(matrix, right)[np.argsort(shuffled)].T
    capital = np.arange(1, length + 1)
    if chance == 0.5:  # Feller, An Introduction to Probability Theory I, 1968, §14.2 f.
        np.testing.assert_allclose(won, capital / (length + 1), rtol=1e-10)
        np.testing.assert_allclose(steps, capital * (length + 1 - capital), rtol=1e-10)
    else:
        ratio = (1 - chance) / chance
        expected = (1 - ratio**capital) / (1 - ratio ** (length + 1))
        np.testing.assert_allclose(won, expected, rtol=1e-10)
        np.testing.assert_allclose(steps, (capital - (length + 1) * expected) / (1 - 2 * chance), rtol=1e-8)


def test_what_does_not_pay_or_cannot_be_solved_is_left_to_others(monkeypatch):
    assert solve_banded_chain(csr_array(np.full((40, 40), 1 / 41)), np.ones(40), most=1_000) is None
    assert solve_banded_chain(csr_array(np.array([[0.0, 1.0], [1.0, 0.0]])), np.ones(2)) is None  # it never ends
    assert solve_banded_chain(csr_array((3, 3)), np.arange(3.0)).tolist() == [0, 1, 2]  # it ends at once
    monkeypatch.setattr(banded, "LARGEST", 10)
    assert solve_banded_chain(csr_array(walk(20)), np.ones(20)) is None


@pytest.mark.parametrize("sparse", [False, True])
def test_a_random_walk_at_a_discount_near_1_is_solved_in_few_sweeps(sparse):
    length, discount = 1_500, 0.99999
    here = np.arange(length)
    to = np.stack([here - 1, here + 1], axis=1)[:, None, :].repeat(12 if sparse else 1, axis=1)  # [S, A, 2]
    ended = (to < 0) | (to == length)
    chance, reward = np.full(to.shape, 0.5), np.where(to == length, 1.0, 0.0)
    table = from_arrays(chance, to.clip(0, length - 1), reward, ended, np.full(length, 1 / length))
    found = planning.evaluate_policy(table, np.zeros(length, np.int64), discount)
    root = np.sqrt(1 - discount**2)
    up, down = (1 + root) / discount, (1 - root) / discount  # γ·(x² + 1)/2 = x; the last step is not discounted
    expected = (up ** (here + 1) - down ** (here + 1)) / (up ** (length + 1) - down ** (length + 1)) / discount
    np.testing.assert_allclose(found.value, expected, rtol=0, atol=found.bound)
    assert found.bound < 1e-8
    assert found.iterations < 1_000  # 1.9 million sweeps
