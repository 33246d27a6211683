"""The faults of the benchmark are what they say; no training is made here."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import unseen_faults
from benchmarks.unseen_faults import Problem, Row
from deeptaxi.diagnosis.run_checks import CHECKS
from deeptaxi.mdp.planning import value_iteration

TABLES = {"maze": unseen_faults.maze(), "ladder": unseen_faults.ladder()}


def test_every_right_name_is_a_finding():
    names = {check.name for check in CHECKS}
    for setting in unseen_faults.SETTINGS:
        assert set(setting.causes) <= names, setting.name
    table = TABLES["ladder"]
    for name, causes, _ in unseen_faults.broken_tables(table):
        assert set(causes) <= names, name


def test_tuning_and_held_out_problems_have_nothing_in_common():
    assert not {one.name for one in unseen_faults.TUNING} & {one.name for one in unseen_faults.HELD_OUT}
    assert not set(unseen_faults.SEEDS["tuning"]) & set(unseen_faults.SEEDS["held-out"])


def test_the_right_rule_learns_the_optimum():
    table = TABLES["ladder"]
    q = unseen_faults.learn(table, "right", 0.9, seed=0)
    assert q == pytest.approx(value_iteration(table, 0.9).q, abs=0.2)


def test_a_fault_is_counted_by_the_cause_that_is_named_first():
    maze = TABLES["maze"]
    swapped = value_iteration(maze, 0.97).q[:, [1, 0, 2, 3]]
    problem = Problem("maze", lambda: maze, {})
    row = unseen_faults.of_model(problem, ("swapped", ("actions-permuted",), swapped), "tuning", 0)
    assert (row.named, row.right, row.harmful, row.exit_code) == ("actions-permuted", True, True, 3)
    other = Row("tuning", "maze", 0, "other", ("no-bootstrap",), named="actions-permuted", findings=("x:severe",))
    counts = unseen_faults.summary([row, other])
    assert (counts["harmful"], counts["true_cause_first"], counts["false_cause_first"]) == (2, 1, 1)


def test_a_goal_that_does_not_end_pays_again():
    table = TABLES["ladder"]
    gain = table.reward * (table.probability > 0)
    again = unseen_faults.after_the_end(table, gain == gain.max())
    top = table.states - 1
    assert not again.terminated[top].any()
    assert (again.next_state[top] == top).all()
    assert np.allclose(again.expected_reward[top], 5)
