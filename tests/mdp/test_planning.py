from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.errors import UsageError
from deeptaxi.mdp import planning
from deeptaxi.mdp.planning import (
    bellman,
    evaluate_horizon,
    evaluate_policy,
    greedy_policy,
    improve_policy,
    optimal_actions,
    optimal_horizon,
    reachable,
    uniform_policy,
    value_iteration,
)
from tests.problems import (
    bandit,
    build,
    chain,
    geometric,
    loop,
    opened,
    random_table,
    river_swim,
    rows_of,
    stay_or_leave,
    surely,
)

quick = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
DISCOUNTS = st.sampled_from([0.0, 0.3, 0.9, 0.99])
SOUTH = np.zeros(500, np.int64)


def policies(table):
    """Return every deterministic policy of a table."""
    return [np.array(policy) for policy in product(range(table.actions), repeat=table.states)]


def solve(table, policy, discount):
    """Return the discounted values of the probabilities `policy` `[S, A]` from (I − γP)·V = R."""
    transitions = np.zeros((table.states, table.states))
    for s, a, k in np.ndindex(table.probability.shape):
        transitions[s, table.next_state[s, a, k]] += policy[s, a] * table.continuation[s, a, k]
    rewards = (policy * table.expected_reward).sum(axis=1)
    return np.linalg.solve(np.eye(table.states) - discount * transitions, rewards)


def play_out(table, plan, state):
    """Return the expected return of following ``plan[0]``, then ``plan[1]``, … from `state`, outcome by outcome."""
    if not plan:
        return 0.0
    rows = rows_of(table)[state][plan[0][state]]
    return sum(p * (r + (0.0 if end else play_out(table, plan[1:], s))) for p, s, r, end in rows)


@pytest.mark.parametrize(
    ("table", "discount", "values"),
    [
        (loop(2), 0.9, [20]),  # 2 / (1 − 0.9)
        (loop(-1), 0.99, [-100]),
        (loop(3), 0, [3]),
        (loop(0), 0.9, [0]),
        (loop(1e9), 0.999, [1e12]),
        (chain(), 0.5, [0.25, 0.5, 1]),  # γ², γ, 1
        (chain(), 0.99, [0.9801, 0.99, 1]),
        (bandit(), 0.9, [1.5]),  # max(1, (3 + 0)/2)
        (geometric(0.25), 0.9, [1 / 0.325]),  # 1 / (1 − 0.9·0.75)
        (stay_or_leave(), 0.5, [3]),  # leaving, 3, beats staying, 1 + 0.5·3 = 2.5
        (stay_or_leave(), 0.9, [10]),  # staying, 1 / (1 − 0.9), beats leaving
    ],
)
def test_optimal_values_are_within_their_bound_of_the_closed_form(table, discount, values):
    optimum = value_iteration(table, discount)
    assert np.abs(optimum.value - values).max() <= optimum.bound
    assert optimum.bound <= 1e-10 * (1 + np.abs(values).max())
    policy = greedy_policy(optimum.q)
    evaluation = evaluate_policy(table, policy, discount)
    assert np.abs(evaluation.value - values).max() <= evaluation.bound
    assert evaluation.bound <= 1e-10 * (1 + np.abs(values).max())


def test_a_stochastic_policy_has_the_mean_of_its_actions():
    assert evaluate_policy(bandit(), np.array([[0.5, 0.5]]), 0.9).value == pytest.approx([1.25])
    # On the chain, going on every other time, γ = 1/2: V₂ = 1/2 + V₂/4 = 2/3, and V_s = V_{s+1}/4 + V_s/4.
    assert evaluate_policy(chain(), uniform_policy(chain()), 0.5).value == pytest.approx([2 / 27, 2 / 9, 2 / 3])


@given(SEEDS, DISCOUNTS)
@quick
def test_policy_evaluation_agrees_with_the_linear_system(seed, discount):
    table = random_table(seed, states=5)
    stochastic = np.random.default_rng(seed).dirichlet(np.ones(table.actions), table.states)
    deterministic = stochastic.argmax(axis=1)
    for policy, weights in ((stochastic, stochastic), (deterministic, np.eye(table.actions)[deterministic])):
        evaluation, solved = evaluate_policy(table, policy, discount), solve(table, weights, discount)
        assert np.abs(evaluation.value - solved).max() <= evaluation.bound + 1e-12 * (1 + np.abs(solved).max())
        assert evaluation.bound <= 1e-9


@given(SEEDS, DISCOUNTS)
@quick
def test_the_optimum_is_the_best_of_all_policies(seed, discount):
    table = random_table(seed, states=3, actions=2)
    optimum = value_iteration(table, discount)
    best = np.max([solve(table, np.eye(2)[policy], discount) for policy in policies(table)], axis=0)
    assert np.abs(optimum.value - best).max() <= optimum.bound + 1e-12 * (1 + np.abs(best).max())
    np.testing.assert_allclose(optimum.q, bellman(table, best, discount), atol=1e-9)


@pytest.mark.parametrize("discount", [1.5, -0.1, float("nan")])
def test_an_invalid_discount_is_refused(discount):
    with pytest.raises(UsageError, match="expected a discount between 0 and 1, received"):
        value_iteration(chain(), discount)
    with pytest.raises(UsageError, match="expected a discount between 0 and 1, received"):
        evaluate_policy(chain(), np.zeros(3, np.int64), discount)


def test_the_bellman_operator_cuts_on_termination_and_honors_the_mask():
    # V = [1, 2, 3], γ = 1/2. Going on: V(next)/2, and 1 + 0 on the last step. Staying: V/2.
    q = [[1, 0.5], [1.5, 1], [1, 1.5]]
    value = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(bellman(chain(), value, 0.5), q)
    mask = np.array([[True, True], [False, True], [True, False]])
    np.testing.assert_array_equal(bellman(chain(), value, 0.5, mask), np.where(mask, q, -np.inf))


def test_a_masked_optimum_takes_allowed_actions_only():
    mask = np.array([[True, False]])
    optimum = value_iteration(bandit(), 0.9, mask)
    assert optimum.value.tolist() == [1]
    assert optimum.q.tolist() == [[1, -np.inf]]
    assert optimal_horizon(bandit(), 5, mask).returns.tolist() == [1]


def test_the_greedy_policy_takes_the_first_best_allowed_action():
    q = np.array([[1.0, 3, 3], [2, 1, 2]])
    assert greedy_policy(q).tolist() == [1, 0]
    assert greedy_policy(q, np.array([[True, False, True], [False, True, False]])).tolist() == [2, 1]


def test_actions_within_the_tolerance_of_the_best_are_optimal():
    # The best is −99, so the tolerance is 1e-6 · (1 + 99) = 1e-4.
    q = np.array([[-99, -99.00005, -99.0002, -np.inf]])
    assert optimal_actions(q).tolist() == [[True, True, False, False]]


def test_the_uniform_policy_spreads_over_allowed_actions():
    mask = np.array([[True, True], [False, True], [True, True]])
    assert uniform_policy(chain(), mask).tolist() == [[0.5, 0.5], [0, 1], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("table", "horizon", "returned", "termination", "length"),
    [
        (geometric(0.5), 3, 1.75, 0.875, 1.75),  # 1 + 1/2 + 1/4 steps, unfinished with (1/2)³
        (loop(2), 7, 14, 0, 7),
        (chain(), 1, 0, 0, 1),
        (chain(), 2, 0, 0, 2),
        (chain(), 3, 1, 1, 3),
        (chain(), 10**9, 1, 1, 3),  # nothing is left to add after three steps
        (geometric(0.5), 10**9, 2, 1, 2),
    ],
)
def test_the_return_of_a_policy_within_a_horizon(table, horizon, returned, termination, length):
    found = evaluate_horizon(table, np.zeros(table.states, np.int64), horizon)
    assert (found.returns[0], found.termination[0], found.length[0]) == pytest.approx((returned, termination, length))
    assert found.bound <= 1e-12 * horizon


@given(SEEDS)
@quick
def test_a_horizon_is_walked_outcome_by_outcome(seed):
    table = random_table(seed, states=3, actions=2)
    policy = np.random.default_rng(seed).integers(0, 2, 3)
    found = evaluate_horizon(table, policy, 4)
    expected = [play_out(table, [policy] * 4, state) for state in range(3)]
    np.testing.assert_allclose(found.returns, expected, atol=1e-13)


def test_the_best_return_may_need_a_policy_that_watches_the_clock():
    # Three steps: stay, stay and leave make 1 + 1 + 3; to stay forever makes 3, to leave at once 3.
    assert optimal_horizon(stay_or_leave(), 3).returns.tolist() == [5]
    stationary = [evaluate_horizon(stay_or_leave(), policy, 3).returns[0] for policy in policies(stay_or_leave())]
    assert stationary == [3, 3]


@given(SEEDS)
@quick
def test_backward_induction_is_the_best_of_all_plans(seed):
    table = random_table(seed, states=2, actions=2)
    plans = list(product(policies(table), repeat=3))
    best = [max(play_out(table, plan, state) for plan in plans) for state in range(2)]
    np.testing.assert_allclose(optimal_horizon(table, 3).returns, best, atol=1e-13)


def test_a_policy_that_never_terminates_is_evaluated_all_the_same():
    table = opened("Taxi-v4").table
    starts = np.flatnonzero(table.start)
    evaluation = evaluate_policy(table, SOUTH, 0.99)
    assert np.abs(evaluation.value[starts] + 100).max() <= evaluation.bound  # −1 / (1 − 0.99)
    found = evaluate_horizon(table, SOUTH, 200)
    assert set(found.returns[starts]) == {-200}
    assert set(found.termination[starts]) == {0}
    assert set(found.length[starts]) == {200}


def test_the_optimal_policy_of_river_swim_is_to_swim_right():
    table = river_swim()
    optimum = value_iteration(table, 0.95)
    assert greedy_policy(optimum.q).tolist() == [1] * 6
    right = solve(table, np.eye(2)[[1] * 6], 0.95)
    assert np.abs(optimum.value - right).max() <= optimum.bound + 1e-12 * right.max()


@pytest.mark.parametrize(
    ("name", "kwargs", "optimum"),
    [
        ("Taxi-v4", {}, 7.93),
        ("Taxi-v4", {"is_rainy": True}, 3.9546),
        ("FrozenLake-v1", {}, 0.7442),
        ("FrozenLake8x8-v1", {}, 0.9132),
        ("FrozenLake-v1", {"map_name": "8x8", "time_limit": 200}, 0.9132),
        ("CliffWalking-v1", {}, -13),
        ("CliffWalkingSlippery-v1", {}, -64.7092),
    ],
)
def test_the_best_returns_of_the_known_environments(name, kwargs, optimum):
    environment = opened(name, **kwargs)
    returns = optimal_horizon(environment.table, environment.horizon).returns
    assert environment.table.start @ returns == pytest.approx(optimum, abs=1e-4)


@pytest.mark.parametrize(("name", "returned"), [("FrozenLake-v1", 0.7402), ("FrozenLake8x8-v1", 0.8630)])
def test_the_policy_of_the_discounted_optimum_may_return_less_than_the_best(name, returned):
    environment = opened(name)
    table = environment.table
    policy = greedy_policy(value_iteration(table, 0.99).q)
    returns = evaluate_horizon(table, policy, environment.horizon).returns
    assert table.start @ returns == pytest.approx(returned, abs=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_a_table_is_planned_on_once_and_the_values_are_the_callers_own(monkeypatch, masked):
    table = random_table(7)
    mask = np.arange(table.actions) > 0 if masked else None
    mask = None if mask is None else np.broadcast_to(mask, (table.states, table.actions))
    plans = {
        "q": lambda: value_iteration(table, 0.9, mask),
        "value": lambda: planning.evaluate_uniform(table, 0.9, mask),
        "returns": lambda: optimal_horizon(table, 20, mask),
    }
    first = {name: plan() for name, plan in plans.items()}
    expected = {name: getattr(found, name).copy() for name, found in first.items()}
    for name, found in first.items():
        getattr(found, name)[:] = 7.0
    monkeypatch.setattr(planning, "bellman", None)
    monkeypatch.setattr(planning, "evaluate_policy", None)
    for name, plan in plans.items():
        np.testing.assert_array_equal(getattr(plan(), name), expected[name])
    with pytest.raises(TypeError):
        value_iteration(table, 0.91, mask)


def test_reachable_states_are_the_non_terminal_ones_of_episodes():
    # 0 → 1 or, by action 1, the end in 2; 1 → 3 with probability 0, else itself; 4 is cut off.
    table = build(
        [
            [surely(1, 0), surely(2, 0, True)],
            [[(1.0, 1, 0, False)]] * 2,
            [surely(2, 0)] * 2,
            [surely(3, 0)] * 2,
            [surely(0, 0)] * 2,
        ]
    )
    assert reachable(table).tolist() == [True, True, False, False, False]
    mask = np.ones((5, 2), bool)
    mask[0, 0] = False
    assert reachable(table, mask).tolist() == [True, False, False, False, False]


def test_the_reachable_states_of_taxi():
    # 500 less the 100 in which the passenger waits at its destination. Four of these end an episode: nobody goes on.
    table = opened("Taxi-v4").table
    assert reachable(table).sum() == 400


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("discount", [0.5, 0.9999])
def test_policy_iteration_ends_at_the_optimum(seed, discount):
    table = random_table(seed, states=7, actions=4)
    mask = np.random.default_rng(seed).random((7, 4)) < 0.6
    mask[:, 0] = True
    policy = improve_policy(table, discount, np.zeros(7, int), mask)
    assert mask[np.arange(7), policy].all()
    optimum = value_iteration(table, discount, mask)
    assert evaluate_policy(table, policy, discount).value == pytest.approx(optimum.value)


def test_policy_iteration_looks_further_ahead_than_a_step(monkeypatch):
    corridor = build([[surely(min(s + 1, 199), -1, s == 199), surely(s, -1)] for s in range(200)])
    evaluated: list[int] = []
    evaluate = planning.evaluate_policy
    monkeypatch.setattr(planning, "evaluate_policy", lambda *given: evaluated.append(0) or evaluate(*given))
    assert not improve_policy(corridor, 0.999, np.ones(200, int)).any()  # action 1 stays
    assert len(evaluated) <= 6
