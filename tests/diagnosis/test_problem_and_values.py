import numpy as np
import pytest

from deeptaxi.diagnosis import q_values, setup
from deeptaxi.diagnosis.setup import promise
from deeptaxi.mdp import planning
from tests.diagnosis.cases import case_on, checked, config
from tests.mdp.test_total_reward import corridor
from tests.problems import build, chain, random_table, surely


def now_or_later(now=1, later=10):
    """Take 1 at once, or 10 after three more steps."""
    wait = [[surely(s + 1, 0), surely(s + 1, 0)] for s in (1, 2)]
    return build([[surely(0, now, True), surely(1, 0)], *wait, [surely(3, later, True), surely(3, later, True)]])


def test_a_discount_at_which_the_best_policy_is_bad_is_named():
    # At 0.4, 10 in three steps is worth 0.64 < 1; at 0.9 it is worth 7.29. The random policy has (1 + 7.29) / 2.
    found = promise(now_or_later(), 0.9, 0.4)
    assert found.score == pytest.approx((1 - 4.145) / (7.29 - 4.145))
    case = case_on(now_or_later(), [[1.0, 0], [0, 0], [0, 0], [0, 0]], training_discount=0.4)
    finding = checked("discount-too-small", case)
    assert (finding.severity, finding.source, finding.cure) == ("severe", "exact", "--discount 0.9")


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99])
def test_a_discount_that_leaves_the_best_policy_as_it_is_is_fine(discount):
    case = case_on(now_or_later(), [[1.0, 0], [0, 0], [0, 0], [0, 0]], training_discount=discount)
    assert checked("discount-too-small", case) is None


def test_differences_that_no_network_can_see_count_as_ties():
    # At 0.01, the way to the end is worth 1e-6 of what is gained there: right in theory only.
    case = case_on(chain(), np.zeros((3, 2)), training_discount=0.001)
    finding = checked("discount-too-small", case)
    assert finding.evidence["score"] == pytest.approx(1)
    assert finding.evidence["score_at_resolution"] < 0.9


def test_overestimation_by_maximizing_is_told_from_an_error_that_all_share():
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
def test_rewards_far_from_what_the_network_can_give_are_named(reward, scale, named):
    table = build([[surely(0, reward, True), surely(0, 0, True)]])
    case = case_on(table, [[0.0, 0.0]], config=config(target={"reward_scale": scale}))
    finding = checked("reward-scale-off", case)
    assert (finding is not None) == named
    if reward == 1e4 and named:
        assert finding.cure == "--reward-scale 512"


def test_a_scale_that_did_no_harm_to_the_values_is_fine():
    table = build([[surely(0, 1e4, True), surely(0, 0, True)]])
    assert checked("reward-scale-off", case_on(table, [[9_900.0, 3.0]])) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_right_values_are_never_called_wrong(seed):
    table = random_table(seed)
    case = case_on(table, planning.value_iteration(table, 0.9).q)
    for check in (*q_values.VALUE_CHECKS, *setup.PROBLEM_CHECKS):
        assert check(case) is None, check.name


def test_a_problem_in_which_nothing_can_be_earned_is_named():
    table = build([[surely(0, 0, True), surely(0, 0)], [surely(0, 1, True), surely(1, 0)]])
    finding = checked("all-policies-equal", case_on(table, np.zeros((2, 2))))
    assert "nothing can be earned: no path leads from a start to a reward, as in state 1" in finding.summary
    assert checked("all-policies-equal", case_on(chain(), np.zeros((3, 2)))) is None


def test_a_discount_at_which_nothing_can_be_told_is_named():
    case = case_on(corridor(200), np.zeros((200, 2)))  # 0.9^200 = 7e-10
    finding = checked("optimality-unknown", case)
    assert (finding.severity, finding.cure) == ("warning", "--discount 0.999 --objective-discount 0.999")
    assert case.harmful is None
    assert checked("optimality-unknown", case_on(corridor(20), np.zeros((20, 2)))) is None


def test_what_ties_allow_is_no_promise_where_no_policy_of_them_ends():
    # Of the actions that are optimal at 0.5, none leads to the end: without a discount they have no value.
    rows = [[surely(2, 0), surely(1, -1), surely(0, -1, True)], [surely(1, 1.5, True)] * 3]
    table = build([*rows, [surely(0, 0), surely(0, 0), surely(0, -1, True)]])
    assert promise(table, 1.0, 0.5) is None
    assert promise(table, 1.0, 0.9).score == pytest.approx(1)
