from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.diagnosis import q_values, setup
from deeptaxi.diagnosis.case import Sample, Unchecked
from deeptaxi.mdp import planning
from deeptaxi.mdp.planning import value_iteration
from tests.diagnosis.cases import case_on, checked, config, history, unseen
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


def test_transitions_of_the_state_that_all_other_observations_share_are_no_time_limit():
    limited = replace(cut([1, 2, 3] * 5, [False, False, True] * 5), shared_state=0)
    assert checked("truncation-as-terminal", unseen(sample=limited)) is None


def test_a_check_without_episodes_says_so():
    assert isinstance(checked("truncation-as-terminal", unseen()), Unchecked)


def test_overestimation_by_maximizing_is_distinguished_from_a_shared_error():
    table = build([[surely(0, 0, True)] * 4])
    coin = [(0.5, 0, 1, True), (0.5, 0, -1, True)]
    lifted = case_on(build([[surely(0, 1, True), *[coin] * 3]]), [[1.0, 3.0, -1.0, -1.0]])
    finding = checked("overestimation", lifted)
    assert finding.evidence["bias_of_greedy_action"] == pytest.approx(3)
    assert finding.evidence["bias_of_all_pairs"] == pytest.approx(0.25)
    assert finding.evidence["by_maximizing"] == pytest.approx(2.75)
    assert "--double" in finding.cure
    shifted = case_on(build([[surely(0, 1, True), surely(0, 0, True)]]), [[4.0, 3.0]])
    assert checked("overestimation", shifted) is None
    assert checked("overestimation", case_on(table, np.ones((1, 4)))) is None  # Q* tells nothing apart
    sure = case_on(build([[surely(0, 1, True), *[surely(0, 0, True)] * 3]]), [[1.0, 3.0, -1.0, -1.0]])
    assert checked("overestimation", sure) is None  # no noise to maximize over


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


def near_tie(gap=0.01):
    """One choice, then the end: arm 0 pays 1 or −1 by a fair coin, arm 1 as well and `gap` more."""
    coin = [(0.5, 0, 1, True), (0.5, 0, -1, True)]
    return build([[coin, [(p, s, r + gap, end) for p, s, r, end in coin]]])


def noisy(q=((0.01, 0.0),), updates=1_000, table=None, visits=((10**6, 10**6),), **settings):
    settings = {"replay": {"batch_size": 10}, **settings}
    known = {"config": config(**settings), "history": history(updates=updates), "visits": np.array(visits)}
    return case_on(near_tie() if table is None else table, q, **known)


def test_actions_that_samples_cannot_tell_apart_are_named_with_expected_updates_as_the_cure():
    # 10,000 samples, 5,000 of each arm, which scatter by 1: the difference is known to within 2 · √(2 / 5,000) = 0.04
    finding = checked("noisy-targets", noisy())
    assert (finding.severity, finding.source, finding.cure) == ("severe", "exact", "--backup expected")
    evidence = {"gap": 0.01, "noise": 1.0, "samples": 5_000, "samples_needed": 80_000}  # 0.01 = 2 · √(2 / 80,000)
    assert {key: finding.evidence[key] for key in evidence} == pytest.approx(evidence)
    assert checked("noisy-targets", noisy(updates=17_000)) is None  # 85,000 of each would do
    few = checked("noisy-targets", noisy(updates=17_000, visits=((100, 100),)))  # but not if they are replayed ones
    assert few.evidence["samples"] == 100
    several = checked("noisy-targets", noisy(target={"n_step": 3}))
    assert several.cure == "--backup expected --n-step 1"


def test_a_constant_step_averages_over_few_samples():
    sgd = {"name": "sgd", "tabular_step": 0.1, "schedule": "constant"}
    table = {"hidden": [], "dueling": False}
    finding = checked("noisy-targets", noisy(updates=17_000, optimizer=sgd, network=table))
    assert finding.evidence["samples"] == pytest.approx(19)
    falling = {**sgd, "schedule": "exponential"}
    assert checked("noisy-targets", noisy(updates=17_000, optimizer=falling, network=table)) is None


def test_noise_is_not_blamed_where_there_is_none_or_where_the_values_have_not_arrived():
    assert checked("noisy-targets", noisy(target={"backup": "expected"})) is None
    assert checked("noisy-targets", noisy(q=((0.0, 0.01),))) is None  # it plays well
    assert checked("noisy-targets", noisy(q=((5.0, 0.0),))) is None  # no noise takes it so far
    sure = build([[surely(0, 1, True), surely(0, 1.01, True)]])
    assert checked("noisy-targets", noisy(q=((1.01, 1.0),), table=sure)) is None


def test_without_a_table_expected_updates_are_not_advised():
    case = unseen(config=config(), history=history(), q=np.zeros((3, 2)))
    assert checked("noisy-targets", case) == Unchecked("there is none")
