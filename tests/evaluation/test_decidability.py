"""Problems where optimality cannot be decided: a distant reward, or no choice."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.evaluation.exact import evaluate_greedy, reference
from deeptaxi.evaluation.solution import solve
from deeptaxi.metrics import to_json
from tests.mdp.test_total_reward import corridor
from tests.problems import bandit, build, gambler, loop, opened, random_table, surely

LENGTH = 1_500  # 0.99^1500 = 3e-7


def verdict(table, action, discount=0.99, horizon=2 * LENGTH):
    q = np.zeros((table.states, table.actions))
    q[:, action] = 1
    return evaluate_greedy(reference(table, horizon, discount, discount), q)


@pytest.fixture(scope="module")
def long_corridor():
    return corridor(LENGTH)


@pytest.mark.parametrize("action", [0, 1])
def test_optimality_is_undecidable_at_the_far_end_of_a_corridor(long_corridor, action):
    found = verdict(long_corridor, action)
    assert found.optimal is None
    assert (found.start_states, found.optimal_start_states) == (1, 0)
    assert found.optimal_unknown["telling_discount"] == 0.999
    assert (
        "from 1 of 1 start states the best policy and the worst differ by less than" in found.optimal_unknown["reason"]
    )
    assert json.loads(to_json(found.to_dict()))["optimal"] is None


@pytest.mark.parametrize("discount", [0.999, 1])
def test_a_larger_discount_makes_optimality_decidable(long_corridor, discount):
    back, on = verdict(long_corridor, 0, discount), verdict(long_corridor, 1, discount)
    assert (back.optimal, on.optimal) == (False, True)
    assert (back.optimal_unknown, on.optimal_unknown) == (None, None)
    if discount == 1:
        assert (back.value, back.value_gap, back.normalized_score) == (-np.inf, np.inf, None)
        assert on.value == pytest.approx(-LENGTH, abs=1e-6)


def test_one_lost_start_decides_and_one_undecidable_start_does_not(long_corridor):
    both = np.zeros(LENGTH)
    both[[0, LENGTH - 1]] = 0.5
    table = replace(long_corridor, start=both)
    assert (verdict(table, 0).optimal, verdict(table, 0).optimal_unknown) == (False, None)
    on = verdict(table, 1)
    assert (on.optimal, on.optimal_start_states, on.optimal_unknown["start_states"]) == (None, 1, 1)


def test_no_discount_is_advised_where_none_would_help():
    # Whatever the discount, a choice that is worth 1 and comes once in 10^9 episodes is worth less than the tolerance.
    table = build([[[(1e-9, 1, 0, False), (1 - 1e-9, 1, 0, True)]] * 2, [surely(1, 1, True), surely(1, 0, True)]])
    found = verdict(table, 0)
    assert (found.optimal, found.optimal_unknown["telling_discount"]) == (None, None)


@pytest.mark.parametrize("discount", [0.99, 1])
def test_nothing_can_be_earned_and_why(discount):
    lake = opened("FrozenLake-v1", is_slippery=False).table
    mask = np.ones((16, 4), bool)
    mask[14, 2] = False
    late = build([[surely(1, 0, True), surely(0, 0)], [surely(1, 1, True), surely(1, 1, True)]])
    apart = build([[surely(0, 0, True), surely(0, 0)], [surely(0, 1, True), surely(1, 0)]])
    for table, why in (
        (replace(lake, action_mask=mask), "the action mask excludes every action that earns or leads to a reward"),
        (late, "rewards are only given after the end, as in state 1"),
        (apart, "no path leads from a start to a reward, as in state 1"),
        (replace(lake, reward=np.zeros_like(lake.reward)), "all rewards are 0"),
    ):
        found = verdict(table, 0, discount, 100)
        assert found.optimal
        assert why in found.all_policies_equal
        assert found.all_policies_equal.startswith("nothing can be earned: ")
        assert solve(table, 100, discount).all_policies_equal == found.all_policies_equal
    assert verdict(lake, 0, discount, 100).all_policies_equal is None


def test_where_there_is_no_choice_every_policy_has_the_same_value():
    found = verdict(loop(2), 0, 0.5)
    assert (found.optimal, found.value) == (True, pytest.approx(4))
    assert found.all_policies_equal == "every policy has the same value: rewards do not depend on the actions"


def test_rewards_below_the_tolerance_decide_nothing():
    found = verdict(bandit(), 1, 1)
    tiny = verdict(replace(bandit(), reward=bandit().reward * 1e-8), 0)
    assert (found.optimal, found.all_policies_equal) == (True, None)
    assert (
        tiny.optimal,
        tiny.all_policies_equal.startswith("every policy has the same value within the tolerance"),
    ) == (
        True,
        True,
    )


def test_decidable_verdicts_are_left_as_they_are():
    for table in (bandit(), random_table(3), opened("Taxi-v4").table, opened("FrozenLake8x8-v1").table):
        target = reference(table, 200, 0.99, 0.99)
        found = evaluate_greedy(target, target.optimum.q)
        assert (found.optimal, found.optimal_unknown, found.all_policies_equal) == (True, None, None)
    table = gambler()
    target = reference(table, 200, 1.0, 1.0)
    found = evaluate_greedy(target, target.optimum.q)
    assert (found.optimal, found.optimal_start_states, found.q_error.max) == (True, 99, 0)
