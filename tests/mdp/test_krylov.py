from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg

from deeptaxi.mdp import banded, krylov, planning, sparse_rows
from deeptaxi.mdp.krylov import approach
from deeptaxi.mdp.table import from_arrays
from tests.problems import random_table


@pytest.mark.parametrize("discount", [0.5, 0.99, 0.999])
@pytest.mark.parametrize("seed", range(4))
def test_the_values_are_those_of_the_linear_equations(seed, discount):
    table = random_table(seed, states=40)
    policy = planning.uniform_policy(table)
    expected = planning.evaluate_policy(table, policy, discount)
    rows = sparse_rows.fix_policy(sparse_rows.rows_of(table), policy)
    value, products = approach(rows, discount, np.zeros(table.states))
    np.testing.assert_allclose(value, expected.value, atol=1e-9 * (1 + np.abs(expected.value).max()))
    assert 0 < products < 400


@pytest.mark.parametrize("result", [np.nan, np.inf, 1e9])
def test_what_is_no_better_than_the_start_is_not_taken(monkeypatch, result):
    table = random_table(0, states=40)
    rows = sparse_rows.fix_policy(sparse_rows.rows_of(table), planning.uniform_policy(table))
    broken = lambda _matrix, right, *_, **__: (np.full(len(right), result), -10)  # noqa: E731
    monkeypatch.setattr(scipy.sparse.linalg, "bicgstab", broken)
    start = np.random.default_rng(0).normal(size=table.states)
    assert np.array_equal(approach(rows, 0.9, start)[0], start)


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
    monkeypatch.setattr(banded, "LARGEST", 0)  # it would be solved directly
    table, policy = ring(2_000), np.zeros(2_000, np.int64)
    found = planning.evaluate_policy(table, policy, 0.999)
    monkeypatch.setattr(krylov, "ROUNDS", 0)
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
