from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation import episodes
from deeptaxi.evaluation.episodes import play
from deeptaxi.evaluation.exact import evaluate_greedy, policy_of, reference, uncertainty
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.planning import value_iteration
from deeptaxi.mdp.table import save_table
from deeptaxi.metrics import to_json
from tests.problems import bandit, build, chain, loop, opened, random_table, river_swim, stay_or_leave, surely

INF = np.inf


def verdict(table, q, horizon=3, discount=0.5, training_discount=None, **options):
    """Evaluate a Q array given as a list."""
    return evaluate_greedy(reference(table, horizon, discount, training_discount, **options), np.array(q, float))


def always(action, states, actions=2):
    """The Q array of a policy that takes one action everywhere."""
    return np.eye(actions)[[action] * states]


def test_an_optimal_policy_has_no_gap():
    found = verdict(chain(), always(0, 3))
    assert found.optimal
    assert (found.expected_return, found.optimal_return, found.gap) == (1, 1, 0)
    assert (found.value, found.optimal_value, found.value_gap) == (0.25, 0.25, 0)  # γ² = 1/4
    assert found.normalized_score == 1
    assert (found.termination_probability, found.mean_episode_length) == (1, 3)
    assert (found.start_states, found.optimal_start_states) == (1, 1)


def test_the_worse_arm_of_a_bandit_has_a_known_gap():
    found = verdict(bandit(), [[2, 1]])
    assert not found.optimal
    assert (found.expected_return, found.optimal_return, found.gap) == (1, 1.5, 0.5)
    assert (found.value, found.optimal_value, found.value_gap) == (1, 1.5, 0.5)
    assert found.normalized_score == pytest.approx(-1)  # (1 − 1.25) / (1.5 − 1.25)
    assert (found.worst_start.state, found.worst_start.value_gap) == (0, 0.5)


def test_a_policy_that_never_terminates_is_evaluated():
    found = verdict(chain(), always(1, 3), horizon=7)
    assert (found.expected_return, found.gap, found.value, found.value_gap) == (0, 1, 0, 0.25)
    assert (found.termination_probability, found.mean_episode_length) == (0, 7)
    # The uniform policy is worth 2/27 (see the planning tests): (0 − 2/27) / (1/4 − 2/27) = −8/19.
    assert found.normalized_score == pytest.approx(-8 / 19)


def test_always_south_in_taxi():
    environment = opened("Taxi-v4")
    found = evaluate_greedy(reference(environment.table, 200, 0.99), always(0, 500, 6))
    assert (found.expected_return, found.termination_probability, found.mean_episode_length) == (-200, 0, 200)
    assert found.value == pytest.approx(-100)
    assert found.gap == pytest.approx(207.93)
    assert (found.start_states, found.optimal_start_states) == (300, 0)


@pytest.mark.parametrize("reward", [2, -2])
def test_a_loop_without_choices_is_evaluated(reward):
    # 5,000 steps of the same reward; discounted by 1/2 it is worth twice as much. The random policy does as well.
    found = verdict(loop(reward), [[0]], horizon=5_000)
    assert found.optimal
    assert (found.expected_return, found.gap, found.value_gap) == (5_000 * reward, 0, 0)
    assert found.value == pytest.approx(2 * reward)
    assert found.normalized_score is None
    assert (found.termination_probability, found.mean_episode_length) == (0, 5_000)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_score_runs_from_the_random_policy_to_the_optimum_for_rewards_of_one_sign(sign):
    # Three arms that pay 1, 2 and 6, or cost 6, 2 and 1: in the mean ±3.
    arms = build([[surely(0, sign * reward, True) for reward in (1, 2, 6)]])
    scores = [verdict(arms, [row]).normalized_score for row in np.eye(3)]
    # (1 − 3)/(6 − 3), (2 − 3)/3 and 1; or (−1 + 3)/(−1 + 3), (−2 + 3)/2 and (−6 + 3)/2.
    assert scores == pytest.approx([-2 / 3, -1 / 3, 1] if sign == 1 else [1, 1 / 2, -3 / 2])


def test_ties_between_actions_are_no_fault():
    twins = build([[surely(0, 1, True), surely(0, 1, True)]])
    assert verdict(twins, [[0, 5]]).optimal
    assert verdict(twins, [[5, 0]]).optimal
    assert policy_of(np.array([[5.0, 5.0]])).tolist() == [0]


def test_an_optimal_policy_may_return_less_than_one_that_watches_the_clock():
    # At γ = 0.9 it is best to stay, worth 10. In three steps that returns 3, to leave on the last one 5.
    found = verdict(stay_or_leave(), [[1, 0]], discount=0.9)
    assert found.optimal
    assert (found.expected_return, found.optimal_return, found.gap, found.value_gap) == (3, 5, 2, 0)


def test_the_worst_start_is_the_start_that_loses_most():
    # State s offers 0 or s; action 0 is taken everywhere. State 3 would lose most, but no episode starts there.
    table = build([[surely(0, 0, True), surely(0, s, True)] for s in range(4)], [0.25, 0.25, 0.5, 0])
    found = verdict(table, always(0, 4))
    assert (found.worst_start.state, found.worst_start.value_gap) == (2, 2)
    assert (found.start_states, found.optimal_start_states, found.optimal) == (3, 1, False)
    assert found.value_gap == 1.25  # 0.25·0 + 0.25·1 + 0.5·2


def test_a_start_is_optimal_within_a_millionth():
    # Losses of half and of twice the tolerance 1e-6 · (1 + |−9|) = 1e-5.
    table = build([[surely(0, -9, True), surely(0, -9 - loss, True)] for loss in (5e-6, 2e-5)], [0.5, 0.5])
    found = verdict(table, always(1, 2))
    assert (found.optimal_start_states, found.optimal) == (1, False)


def test_the_agents_mask_is_part_of_its_policy_and_not_of_the_problem():
    found = verdict(bandit(), [[-7, -INF]])
    assert (found.value, found.optimal_value) == (1, 1.5)


def test_the_tables_mask_is_part_of_the_problem():
    masked = bandit(action_mask=np.array([[True, False]]))
    found = verdict(masked, [[0, 5]])  # the greedy action is not allowed
    assert (found.optimal, found.value, found.optimal_value, found.optimal_return) == (True, 1, 1, 1)
    assert found.normalized_score is None  # nor is there another action at random


def test_the_random_policy_keeps_to_the_tables_mask():
    # Of arms that pay 1, 2 and 6 the last is excluded: at random 1.5, at best 2; (1 − 1.5)/(2 − 1.5).
    mask = np.array([[True, True, False]])
    arms = build([[surely(0, reward, True) for reward in (1, 2, 6)]], action_mask=mask)
    assert verdict(arms, [[1, 0, 0]]).normalized_score == -1


@pytest.mark.parametrize(
    ("q", "message"),
    [
        ([[0, np.nan]], "NaN or infinite Q values in 1 of 1 states: the training diverged"),
        ([[0, INF]], "NaN or infinite Q values in 1 of 1 states"),
        ([[-INF, -INF]], "leaves state 0 without any allowed action"),
        ([[0, 1, 2]], r"expected Q values of shape \[1, 2\], received \[1, 3\]"),
    ],
)
def test_q_values_that_give_no_policy_are_refused(q, message):
    with pytest.raises(DeepTaxiError, match=message):
        verdict(bandit(), q)


def test_q_values_that_leave_only_what_the_table_excludes_are_refused():
    masked = bandit(action_mask=np.array([[True, False]]))
    with pytest.raises(DeepTaxiError, match="leaves state 0 without any allowed action"):
        verdict(masked, [[-INF, 5]])


def test_the_q_error_is_against_the_optimum_of_the_training_discount():
    # Q* at 0.5 of the chain: going on 1/4, 1/2, 1, staying half of the state's value: 1/8, 1/4, 1/2.
    q_star = np.array([[1 / 4, 1 / 8], [1 / 2, 1 / 4], [1, 1 / 2]])
    off = np.array([[0.5, 0], [0, -1.5], [0, 0]])
    error = verdict(chain(), q_star + off, discount=0.99, training_discount=0.5).q_error
    assert error.discount == 0.5
    assert error.max == pytest.approx(1.5)
    assert error.mean == pytest.approx(2 / 6)  # six pairs
    assert error.bias == pytest.approx(-1 / 6)


def test_the_q_error_is_over_reachable_states_and_allowed_actions():
    # Starting in 1, state 0 is out of reach; in state 2 the agent's mask excludes staying.
    q = [[99, 99], [1 / 2, 1 / 4], [1, -INF]]
    mask = np.array([[True, True], [True, True], [True, False]])
    error = verdict(chain(start=1), q, training_discount=0.5, agent_mask=mask).q_error
    assert error.max <= 1e-12


def test_the_agents_mask_limits_what_its_q_values_are_compared_with():
    # An agent that may never go on from state 2 is worth nothing anywhere; the problem's optimum stays 1/4.
    mask = np.array([[True, True], [True, True], [False, True]])
    found = verdict(chain(), [[0, 0], [0, 0], [-INF, 0]], training_discount=0.5, agent_mask=mask)
    assert found.q_error.max == 0
    assert found.optimal_value == 0.25


def test_there_is_no_q_error_where_no_optimum_is_known():
    assert verdict(bandit(), [[0, 1]]).q_error is None
    assert verdict(loop(1), [[0]], training_discount=1.0).q_error is None
    assert verdict(bandit(), [[1, 1]], training_discount=1.0).q_error.max == 0.5


def test_single_precision_is_evaluated_too():
    environment = opened("Taxi-v4")
    q = value_iteration(environment.table, 0.97).q.astype(np.float32)
    found = evaluate_greedy(reference(environment.table, 200, 0.99, 0.97), q)
    assert found.optimal
    assert found.expected_return == pytest.approx(7.93)
    assert 0 < found.q_error.max < 1e-5


KEYS = [
    "optimal",
    "horizon",
    "return",
    "optimal_return",
    "gap",
    "discount",
    "value",
    "optimal_value",
    "value_gap",
    "normalized_score",
    "start_states",
    "optimal_start_states",
    "worst_start",
    "termination_probability",
    "mean_episode_length",
    "q_error",
    "starts_estimated_from_resets",
    "optimal_unknown",
    "all_policies_equal",
    "return_uncertainty",
    "value_uncertainty",
    "estimated",
]


def test_the_verdict_as_json_has_these_keys():
    found = evaluate_greedy(reference(chain(), 3, 0.5, 0.5), always(0, 3), start_resets=10_000)
    document = json.loads(to_json(found.to_dict()))
    assert list(document) == KEYS
    assert list(document["worst_start"]) == ["state", "value_gap"]
    assert list(document["q_error"]) == ["discount", "max", "mean", "bias"]
    assert document["starts_estimated_from_resets"] == 10_000


def test_a_mean_over_estimated_starts_is_as_uncertain_as_a_sample_of_them():
    start, values = np.array([0.5, 0.25, 0.25, 0]), np.array([-1.0, -2.0, -4.0, 9.0])
    sample = np.repeat(values, (start * 400).astype(int))
    assert uncertainty(start, values, 400) == pytest.approx(1.96 * sample.std() / 20)
    assert uncertainty(start, values, None) is None  # the distribution is known
    assert uncertainty(start, np.ones(4), 400) is None  # what never came in a reset may be worth anything


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_nothing_beats_the_optimum_and_the_optimum_is_optimal(seed):
    table = random_table(seed)
    target = reference(table, 50, 0.9)
    best = evaluate_greedy(target, target.optimum.q)
    assert best.optimal
    assert (best.value_gap, best.worst_start.value_gap) == (0, 0)
    any_other = evaluate_greedy(target, np.random.default_rng(seed).normal(size=(table.states, table.actions)))
    assert any_other.value_gap >= 0
    assert any_other.gap >= 0
    assert any_other.normalized_score <= 1
    assert any_other.optimal == (any_other.optimal_start_states == any_other.start_states)


@pytest.fixture
def river(tmp_path):
    """RiverSwim, cut after four steps, as an environment."""
    save_table(river_swim(), tmp_path / "river.npz")
    return open_environment(EnvironmentConfig(str(tmp_path / "river.npz"), time_limit=4))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lake", "cliff", "river"])
def test_a_hundred_thousand_episodes_agree_with_the_exact_verdict(river, case, monkeypatch):
    monkeypatch.setattr(episodes, "RESAMPLES", 1)  # of the interval, which nothing here looks at
    # Short-lived policies, so that it is quick: right over the ice, right along a slippery cliff, up the river.
    environment, action = {
        "lake": (opened("FrozenLake-v1", time_limit=10), 2),
        "cliff": (opened("CliffWalkingSlippery-v1", time_limit=3), 1),
        "river": (river, 0),
    }[case]
    q = always(action, environment.states, environment.actions)
    exact = evaluate_greedy(reference(environment.table, environment.horizon, 0.99), q)
    sampled = play(environment, policy_of(q), 100_000, seed=1)
    assert sampled.standard_error > 0
    assert abs(sampled.mean_return - exact.expected_return) <= 4 * sampled.standard_error
    p = exact.termination_probability
    assert abs(sampled.terminated_fraction - p) <= 4 * np.sqrt(p * (1 - p) / 100_000)
    # Lengths spread by 4 steps at most: 4 standard errors are 4·4/√100,000 = 0.05.
    assert sampled.mean_length == pytest.approx(exact.mean_episode_length, abs=0.05)
