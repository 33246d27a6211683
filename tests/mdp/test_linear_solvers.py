from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg
from scipy.sparse import csr_array

from deeptaxi.mdp import linear_solvers, planning, sparse_rows
from deeptaxi.mdp.linear_solvers import solve_banded_chain, solve_krylov
from deeptaxi.mdp.table import from_arrays
from tests.problems import random_table


@pytest.mark.parametrize("discount", [0.5, 0.99, 0.999])
@pytest.mark.parametrize("seed", range(4))
def test_the_values_are_those_of_the_linear_equations(seed, discount):
    table = random_table(seed, states=40)
    policy = planning.uniform_policy(table)
    expected = planning.evaluate_policy(table, policy, discount)
    rows = sparse_rows.fix_policy(sparse_rows.rows_of(table), policy)
    value, products = solve_krylov(rows, discount, np.zeros(table.states))
    np.testing.assert_allclose(value, expected.value, atol=1e-9 * (1 + np.abs(expected.value).max()))
    assert 0 < products < 400


@pytest.mark.parametrize("result", [np.nan, np.inf, 1e9])
def test_what_is_no_better_than_the_start_is_not_taken(monkeypatch, result):
    table = random_table(0, states=40)
    rows = sparse_rows.fix_policy(sparse_rows.rows_of(table), planning.uniform_policy(table))
    broken = lambda _matrix, right, *_, **__: (np.full(len(right), result), -10)  # noqa: E731
    monkeypatch.setattr(scipy.sparse.linalg, "bicgstab", broken)
    start = np.random.default_rng(0).normal(size=table.states)
    assert np.array_equal(solve_krylov(rows, 0.9, start)[0], start)


def ring(states):
    """Return a random walk around a ring, whose steps into state 0 pay 5, others −1."""
    here = np.arange(states)
    to = np.stack([(here + 1) % states, (here - 1) % states], axis=1)[:, None]
    reward, ends = np.where(to == 0, 5.0, -1.0), np.zeros(to.shape, bool)
    return from_arrays(np.full(to.shape, 0.5), to, reward, ends, np.full(states, 1 / states))


def test_a_policy_that_sweeps_settle_slowly_is_proven_all_the_same(monkeypatch):
    monkeypatch.setattr(planning, "FEW", 0)
    monkeypatch.setattr(sparse_rows, "SPARSE_FROM", 0)
    monkeypatch.setattr(planning, "DIRECT", 0)
    monkeypatch.setattr(linear_solvers, "LARGEST", 0)  # it would be solved directly
    table, policy = ring(2_000), np.zeros(2_000, np.int64)
    found = planning.evaluate_policy(table, policy, 0.999)
    monkeypatch.setattr(linear_solvers, "ROUNDS", 0)
    swept = planning.evaluate_policy(table, policy, 0.999)
    assert np.abs(found.value - swept.value).max() <= found.bound + swept.bound < 1e-6
    assert found.iterations < swept.iterations / 5


def test_whole_steps_are_not_taken_where_they_would_be_too_many(monkeypatch):
    monkeypatch.setattr(sparse_rows, "SPARSE_FROM", 0)
    table, policy = ring(1_100), np.zeros(1_100, np.int64)
    found = planning.evaluate_policy(table, policy, 0.9999)
    assert found.iterations < 10_000  # instead of 250,000
    assert found.bound < 1e-6
    equations = planning.solve_values(planning.chain(table, policy), 0.9999)
    assert np.abs(found.value - equations[0]).max() <= found.bound + equations[1]


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
    monkeypatch.setattr(linear_solvers, "LARGEST", 10)
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
