from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.mdp import planning
from deeptaxi.mdp.chains import iterate_values
from deeptaxi.mdp.planning import evaluate_horizon, evaluate_policy, uniform_policy
from tests.problems import geometric, loop, random_table, river_swim

TABLES = [river_swim(), geometric(0.25), loop(3.0), *(random_table(seed, states=9) for seed in range(5))]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99, 0.999])
def test_solving_and_iterating_agree_within_their_bounds(table, discount, monkeypatch):
    policy = uniform_policy(table)
    solved = evaluate_policy(table, policy, discount)
    monkeypatch.setattr(planning, "DIRECT", 0)
    iterated = evaluate_policy(table, policy, discount)
    assert np.abs(solved.value - iterated.value).max() <= solved.bound + iterated.bound
    assert solved.bound <= 1e-9 * (1 + np.abs(solved.value).max())


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("horizon", [10, 37, 512])
def test_squaring_and_stepping_agree(table, horizon, monkeypatch):
    policy = np.zeros(table.states, np.int64)
    squared = evaluate_horizon(table, policy, horizon)
    monkeypatch.setattr(planning, "SQUARED", 0)
    stepped = evaluate_horizon(table, policy, horizon)
    for name in ("returns", "termination", "length"):
        assert getattr(squared, name) == pytest.approx(getattr(stepped, name), rel=1e-11, abs=1e-11)


def test_powers_of_a_matrix_add_up():
    assert iterate_values(np.array([[1.0]]), np.array([[2.0]]), 11) == 22
    assert iterate_values(np.array([[0.5]]), np.array([[1.0]]), 3) == 1.75
    assert iterate_values(np.array([[0.5]]), np.array([[1.0]]), 0) == 0
