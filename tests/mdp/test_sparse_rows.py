from __future__ import annotations

import numpy as np
import pytest

from benchmarks.grids import random_grid
from deeptaxi.diagnosis.case import can_end, only
from deeptaxi.evaluation.decidability import leads_to_choice
from deeptaxi.evaluation.episodes import Endless
from deeptaxi.mdp import sparse_rows

NEVER = 10**12


def test_outcomes_that_agree_are_stored_once(monkeypatch):
    monkeypatch.setattr(sparse_rows, "SMALLEST", 2)
    table = random_grid(10, 0.2)
    rows = sparse_rows.rows_of(table)
    assert rows.matrix.nnz < (table.continuation > 0).sum()
    assert sparse_rows.rows_of(table) is rows


@pytest.mark.parametrize("size", [3, 10, 11])
def test_a_policy_is_fixed_as_a_mixture_of_the_rows_of_its_actions(monkeypatch, size):
    """Blocks of 2 states, the last of which may be filled up by repeating a state."""
    monkeypatch.setattr(sparse_rows, "SMALLEST", 2)
    monkeypatch.setattr(sparse_rows, "GREATEST", 2)
    table = random_grid(size, 0.2)
    policy = np.random.default_rng(size).dirichlet(np.ones(4), table.states)
    value = np.random.default_rng(size + 1).normal(size=table.states)
    q = table.expected_reward + 0.9 * (table.continuation * value[table.next_state]).sum(axis=-1)
    rows = sparse_rows.rows_of(table)
    np.testing.assert_allclose(rows.backup(value, 0.9), q, atol=1e-12)
    fixed = sparse_rows.fix_policy(rows, policy).backup(value, 0.9)
    np.testing.assert_allclose(fixed[:, 0], (policy * q).sum(axis=1), atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_what_leads_where_is_found_by_one_search_on_large_tables(monkeypatch, seed):
    table = random_grid(12, 0.2 * (seed % 2), seed=seed, walls=0.45)
    policy = np.random.default_rng(seed).integers(4, size=table.states)
    matters = np.random.default_rng(seed).random(table.states) < 0.02

    def compute():
        endless = Endless(table, policy)
        return [
            can_end(table, only(policy, 4)),
            can_end(table, np.ones((table.states, 4), bool)),
            leads_to_choice(table, matters),
            np.array([state in endless for state in range(table.states)]),
        ]

    monkeypatch.setattr(sparse_rows, "SPARSE_FROM", NEVER)
    dense = compute()
    monkeypatch.setattr(sparse_rows, "SPARSE_FROM", 0)
    for found, expected in zip(compute(), dense, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert 0 < found.sum() < table.states
