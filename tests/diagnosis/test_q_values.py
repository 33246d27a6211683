from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.diagnosis import q_values, setup
from deeptaxi.diagnosis.case import Sample, Unchecked
from deeptaxi.mdp import planning
from deeptaxi.mdp.planning import value_iteration
from tests.diagnosis.cases import case_on, checked, config, unseen
from tests.problems import build, random_table, surely

NAMES = ("terminal-states-bootstrapped", "truncation-as-terminal", "wrong-environment")


def named(case):
    return [name for name in NAMES if checked(name, case) is not None]


def endless(table):
    return replace(table, terminated=np.zeros_like(table.terminated))


def wandering():
    """A walk with a cost at every step, on which a time limit matters: ten places, the end beyond the last."""
    rows = [[surely(min(s + 1, 9), -1, s == 9), surely(max(s - 1, 0), -2)] for s in range(10)]
    return build(rows, np.full(10, 0.1))


@pytest.mark.parametrize("seed", range(5))
def test_values_that_bootstrap_past_the_end_are_recognized(seed):
    table = random_table(seed)
    assert named(case_on(table, value_iteration(table, 0.9).q)) == []
    assert "terminal-states-bootstrapped" in named(case_on(table, value_iteration(endless(table), 0.9).q))


def test_one_backup_suffices_where_the_terminal_state_has_a_value():
    table = wandering()
    q = value_iteration(table, 0.9).q
    q[9, 0] = -1 + 0.9 * q[9].max()  # as if state 9 came after the end
    q[9, 0] = -1 / (1 - 0.9)  # and again, forever
    finding = checked("terminal-states-bootstrapped", case_on(table, value_iteration(endless(table), 0.9).q))
    assert finding.source == "exact"


@pytest.mark.parametrize("limit", [10, 20, 50])
def test_a_time_limit_treated_as_the_end_is_named_with_its_length(limit):
    table = wandering()
    q = value_iteration(table, 0.95 * (1 - 1 / limit)).q
    finding = checked("truncation-as-terminal", case_on(table, q, discount=0.95))
    assert finding.evidence["steps"] == limit


def test_neither_fault_is_reported_for_our_own_training_on_this_table():
    table = wandering()
    q = value_iteration(table, 0.9 * 0.9).q
    assert named(case_on(table, q, config=config())) == []


def test_another_problem_of_the_same_size_is_named():
    table, sibling = random_table(1), random_table(2)
    case = case_on(table, value_iteration(sibling, 0.9).q, siblings={"Other-v0 slippery=true": sibling})
    finding = checked("wrong-environment", case)
    assert finding.evidence["sibling"] == "Other-v0 slippery=true"
    right = case_on(table, value_iteration(table, 0.9).q, siblings={"Other-v0": sibling})
    assert checked("wrong-environment", right) is None


def test_the_configuration_reveals_the_environment_of_a_model():
    table = random_table(1)
    elsewhere = config(environment={"id": "Lake-v1", "kwargs": {"slippery": True}})
    finding = checked("wrong-environment", case_on(table, -value_iteration(table, 0.9).q, config=elsewhere))
    assert "trained on Lake-v1 slippery=true" in finding.summary
    same = case_on(
        table,
        value_iteration(table, 0.9).q,
        config=elsewhere,
        environment=EnvironmentConfig("Lake-v1", {"slippery": True}),
    )
    assert checked("wrong-environment", same) is None


def test_other_sizes_are_severe():
    finding = checked("wrong-environment", unseen(misfit="the model has 16 states and 4 actions"))
    assert (finding.severity, "16 states" in finding.summary) == ("severe", True)


def cut(times, terminated):
    """Sampled transitions from state 0 to itself, with the steps at which they came."""
    zeros, ends = np.zeros(len(times), int), np.array(terminated)
    nothing = np.zeros(len(times), bool)
    return Sample(
        zeros, zeros, zeros.astype(float), zeros, ends, nothing, np.array(times), nothing, (0, int(ends.sum()))
    )


def test_transitions_that_end_only_at_one_step_are_a_time_limit():
    limited = cut([1, 2, 3] * 5, [False, False, True] * 5)
    finding = checked("truncation-as-terminal", unseen(sample=limited))
    assert (finding.severity, finding.evidence["step"], finding.source) == ("severe", 3, "episodes")


@pytest.mark.parametrize(
    "sample",
    [cut([1, 2, 3, 1, 2] * 3, [False, False, True, False, True] * 3), cut([1, 2, 3], [False, False, True])],
    ids=["at any step", "too few"],
)
def test_random_ends_are_not_taken_for_a_time_limit(sample):
    assert checked("truncation-as-terminal", unseen(sample=sample)) is None


def test_a_check_without_episodes_says_so():
    assert isinstance(checked("truncation-as-terminal", unseen()), Unchecked)


def test_overestimation_by_maximizing_is_distinguished_from_a_shared_error():
    table = build([[surely(0, 0, True)] * 4])
    lifted = case_on(build([[surely(0, 1, True), *[surely(0, 0, True)] * 3]]), [[1.0, 3.0, -1.0, -1.0]])
    finding = checked("overestimation", lifted)
    assert finding.evidence["bias_of_greedy_action"] == pytest.approx(3)
    assert finding.evidence["bias_of_all_pairs"] == pytest.approx(0.25)
    assert finding.evidence["by_maximizing"] == pytest.approx(2.75)
    assert "--double" in finding.cure
    shifted = case_on(build([[surely(0, 1, True), surely(0, 0, True)]]), [[4.0, 3.0]])
    assert checked("overestimation", shifted) is None
    assert checked("overestimation", case_on(table, np.ones((1, 4)))) is None  # Q* tells nothing apart


@pytest.mark.parametrize(
    ("reward", "scale", "named"), [(1e4, 1.0, True), (1e4, 1024.0, False), (1e-4, 1.0, True), (10.0, 1.0, False)]
)
def test_rewards_out_of_scale_with_the_network_are_named(reward, scale, named):
    table = build([[surely(0, reward, True), surely(0, 0, True)]])
    case = case_on(table, [[0.0, 0.0]], config=config(target={"reward_scale": scale}))
    finding = checked("reward-scale-off", case)
    assert (finding is not None) == named
    if reward == 1e4 and named:
        assert finding.cure == "--reward-scale 512"


def test_a_scale_that_did_not_harm_the_values_is_fine():
    table = build([[surely(0, 1e4, True), surely(0, 0, True)]])
    assert checked("reward-scale-off", case_on(table, [[9_900.0, 3.0]])) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_right_values_are_never_called_wrong(seed):
    table = random_table(seed)
    case = case_on(table, planning.value_iteration(table, 0.9).q)
    for check in (*q_values.VALUE_CHECKS, *setup.PROBLEM_CHECKS):
        assert check(case) is None, check.name
