from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from deeptaxi.evaluation import resampling
from deeptaxi.evaluation.exact import evaluate_greedy, reference
from deeptaxi.evaluation.resampling import Estimate, describe_log, improve, resample
from deeptaxi.evaluation.solution import solve
from deeptaxi.mdp.logged import LoggedData, arrange
from deeptaxi.mdp.planning import evaluate_policy, value_iteration
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.metrics import describe_estimate
from tests.problems import chain, random_table


def estimate(rows, states, actions, prior=0.0):
    log = LoggedData.from_array(np.array(rows, float), prior)
    found = arrange(log, states, actions)
    probability, reward, start = found.weighted(np.ones(log.episodes))
    mask = None if found.mask.all() else found.mask
    return TransitionTable(probability, found.next_state, reward, found.terminated, start, action_mask=mask, logged=log)


def coin(heads, tails):
    """One throw an episode, which earns 1 or 0."""
    return estimate([[e, 0, 0, 0, e < heads, 1] for e in range(heads + tails)], 1, 1)


def test_the_value_of_a_coin_has_its_beta_distribution(monkeypatch):
    """With Dirichlet weights the mean of k ones among n is Beta(k, n − k)."""
    monkeypatch.setattr(resampling, "RESAMPLES", 4_000)
    found = resample(coin(12, 8), np.array([0]), 0.9)
    assert found.value_interval == pytest.approx(stats.beta(12, 8).ppf([0.025, 0.975]), abs=0.015)
    low, high = stats.beta(12, 8).ppf([0.025, 0.975])
    both = (min(low, 1.2 - high), max(high, 1.2 - low))  # and turned over around 12/20
    assert found.optimal_value_interval == pytest.approx(both, abs=0.015)
    assert (found.optimal_in, found.resamples) == (1.0, 4_000)
    assert found.optimism == pytest.approx(0, abs=0.01)  # nothing was chosen


def test_a_policy_that_is_better_by_chance_is_optimal_in_some_resamples():
    # Two arms, each tried 40 times: 24 and 22 successes.
    rows = [[e, 0, e % 2, 0, e // 2 < (24, 22)[e % 2], 1] for e in range(80)]
    table = estimate(rows, 1, 2)
    found = resample(table, np.array([0]), 0.9)
    chance = 1 - stats.norm.cdf(-2 / np.sqrt(40 * (0.6 * 0.4 + 0.55 * 0.45)))
    assert found.optimal_in == pytest.approx(chance, abs=0.1)
    other = resample(table, np.array([1]), 0.9)
    assert other.optimal_in == pytest.approx(1 - found.optimal_in)
    assert other.optimal_value_interval == found.optimal_value_interval
    assert other.value_interval[0] < found.value_interval[0]


def test_the_best_of_many_equal_arms_is_found_to_be_overestimated():
    # Ten fair coins, each thrown 20 times: the best seems to be worth some 0.67, and is worth 0.5.
    rng = np.random.default_rng(1)
    table = estimate([[e, 0, e % 10, 0, rng.random() < 0.5, 1] for e in range(200)], 1, 10)
    found = solve(table, 1, 0.9)
    assert found.optimal_value > 0.6
    assert found.estimated.optimism > 0.05
    assert found.estimated.optimal_value_interval[0] < 0.5 < found.optimal_value


def test_an_exact_table_has_no_intervals():
    assert resample(chain(), np.array([0, 0, 0]), 0.9) is None
    assert describe_log(chain()) is None
    assert solve(chain(), 10, 0.9).estimated is None


def test_what_cannot_be_resampled_says_why(monkeypatch):
    assert resample(coin(1, 0), np.array([0]), 0.9).interval_unavailable == "the log is one episode"
    monkeypatch.setattr(resampling, "LARGEST", 0)
    assert resample(coin(1, 1), np.array([0]), 0.9).interval_unavailable == "the table has more than 0 entries"


def test_values_that_do_not_exist_without_a_discount_have_no_interval():
    rows = [[e, 0, 0, 0, 1, 0] for e in range(3)]  # earns forever
    found = resample(estimate(rows, 1, 1), np.array([0]), 1.0)
    assert found.value_interval is None
    assert found.interval_unavailable == "no optimum exists at discount 1 on all resamples"


def test_a_verdict_and_a_solution_tell_what_they_are_estimated_from():
    table = coin(12, 8)
    target = reference(table, 5, 0.9)
    quick = evaluate_greedy(target, target.optimum.q)
    assert quick.to_dict()["estimated"] == dataclasses.asdict(Estimate(20, 20, 0.0))
    whole = evaluate_greedy(target, target.optimum.q, intervals=True).estimated
    assert whole == solve(table, 5, 0.9).estimated
    assert whole.value_interval[0] < 0.6 < whole.value_interval[1]
    assert "estimated from 20 transitions in 20 episodes" in repr(solve(table, 5, 0.9))
    assert describe_estimate({"transitions": 1, "episodes": 1, "prior": 0.5}) == (
        "estimated from 1 transition in 1 episode with a prior of 0.5"
    )


@pytest.mark.parametrize("discount", [0.5, 0.99, 1.0])
def test_the_optimum_is_found_from_any_policy(discount):
    for table in [chain()] if discount == 1 else map(random_table, range(5)):
        policy = np.zeros(table.states, int)
        value = evaluate_policy(table, policy, discount).value
        best, chosen = improve(table, policy, value, discount)
        assert best == pytest.approx(value_iteration(table, discount).value, abs=1e-7)
        assert evaluate_policy(table, chosen, discount).value == pytest.approx(best, abs=1e-7)
