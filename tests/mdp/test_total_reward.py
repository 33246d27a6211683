"""Values at discount 1, against closed forms, brute force and the limit of discounted values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.errors import UsageError
from deeptaxi.mdp import linear_solvers, total_reward
from deeptaxi.mdp.planning import evaluate_policy, greedy_policy, optimal_actions, uniform_policy, value_iteration
from deeptaxi.mdp.table import from_arrays
from tests.problems import (
    build,
    chain,
    gambler,
    geometric,
    loop,
    opened,
    random_table,
    river_swim,
    stay_or_leave,
    surely,
)

INF = np.inf


def corridor(length, reward=-1.0):
    """0 → … → end: action 1 goes on, action 0 goes back."""
    rows = [
        [surely(max(state - 1, 0), reward), surely(min(state + 1, length - 1), reward, state == length - 1)]
        for state in range(length)
    ]
    return build(rows)


@pytest.mark.parametrize("masked", [True, False])
def test_the_gamblers_problem(masked):
    # Sutton & Barto, example 4.3. A stake of nothing, where it is allowed, is a cycle that earns nothing.
    table = gambler(masked)
    found = value_iteration(table, 1.0, table.action_mask)
    np.testing.assert_allclose(found.value[[25, 50, 75]], [0.16, 0.4, 0.64], atol=1e-12)
    assert table.start @ found.value == pytest.approx(0.399064, abs=5e-7)
    if masked:
        best = optimal_actions(found.q)
        assert [np.flatnonzero(best[capital]).tolist() for capital in (50, 51, 64)] == [[50], [1, 49], [11, 14, 36]]


def test_closed_forms():
    assert value_iteration(chain(), 1.0).value.tolist() == [1, 1, 1]
    assert value_iteration(geometric(0.2), 1.0).value == pytest.approx([5])
    assert value_iteration(corridor(40), 1.0).value.tolist() == [-40 + state for state in range(40)]
    for name, optimum in (("CliffWalking-v1", -13), ("Taxi-v4", 7.93)):
        table = opened(name).table
        assert table.start @ value_iteration(table, 1.0).value == pytest.approx(optimum, abs=1e-9)


@pytest.mark.parametrize("cost", [0.0, 0.001, 0.01])
def test_news_travels_through_a_long_corridor_in_few_policies(cost):
    length = 600
    here, (left, right) = np.arange(length), (1.0, 2.0)  # what leaving by either end earns
    to = np.stack([here - 1, here + 1], axis=1)
    reward = np.full(to.shape, -cost)
    reward[0, 0], reward[-1, 1] = left, right
    start = np.full(length, 1 / length)
    outcomes = [array[:, :, None] for array in (np.ones(to.shape), to.clip(0, length - 1), reward)]
    table = from_arrays(*outcomes, ((to < 0) | (to == length))[:, :, None], start)
    found = value_iteration(table, 1.0)
    np.testing.assert_allclose(found.value, np.maximum(left - cost * here, right - cost * here[::-1]), atol=1e-9)
    assert found.bound < 1e-9
    assert found.iterations <= 5  # 600 before policies were improved some steps ahead


@pytest.mark.parametrize("solver", ["BANDED", "DENSE", "SPARSE"])
def test_larger_problems_are_solved_in_other_ways_to_the_same_values(solver, monkeypatch):
    table = opened("FrozenLake-v1").table
    expected = value_iteration(table, 1.0)
    monkeypatch.setattr(total_reward, "DENSE", 0)
    if solver != "BANDED":
        monkeypatch.setattr(linear_solvers, "LARGEST", 0)
    if solver == "SPARSE":
        monkeypatch.setattr(total_reward, "SPARSE", 0)
    found = value_iteration(table, 1.0)
    np.testing.assert_allclose(found.value, expected.value, atol=1e-9)
    assert np.abs(found.value - expected.value).max() <= found.bound + expected.bound
    monkeypatch.setattr(total_reward, "WORK", 0)
    monkeypatch.setattr(total_reward, "SETTLED", 0)
    if solver == "SPARSE":
        with pytest.raises(UsageError, match="have not settled after 1,000 sweeps; take --objective-discount"):
            value_iteration(table, 1.0)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (loop(1), "no policy ends an episode with certainty from state 0"),
        (river_swim(), "no policy ends an episode with certainty from state 1"),
        (stay_or_leave(), "from state 0, a policy earns without end"),
        # To end costs 5, to wait costs nothing.
        (build([[surely(0, 0), surely(0, -5, True)]]), "from state 0, a policy gains by never ending"),
        # To end earns 1; the other way earns 9 at once, and then nothing forever, in two states.
        (
            build([[surely(0, 1, True), surely(1, 9)], [surely(2, 0), surely(2, 0)], [surely(1, 0), surely(1, 0)]]),
            "from state 0, a policy gains by never ending",
        ),
        # The same, where what follows earns 1 a step.
        (
            build([[surely(0, 1, True), surely(1, 0)], [surely(1, 1), surely(1, 1)]]),
            "no policy ends an episode from state 1, and one may earn there",
        ),
        # Going round earns +1, −1: half a point more than to end, by the limit of discounted values.
        (
            build([[surely(0, 0, True), surely(1, 1)], [surely(0, -1), surely(0, -1)]]),
            "from state 1, a policy may gain by never ending",
        ),
    ],
)
def test_undefined_values_are_explained_in_one_line(table, reason):
    with pytest.raises(UsageError, match="discount 1 is not defined here: ") as raised:
        value_iteration(table, 1.0)
    assert reason in str(raised.value)
    assert "take --objective-discount 0.99" in str(raised.value)


def test_an_absorbing_state_where_nothing_is_earned_is_an_end():
    rows = [[surely(1, -1), surely(0, -1)], [surely(1, 0), surely(1, 0)]]
    assert value_iteration(build(rows), 1.0).value.tolist() == [-1, 0]


def test_an_inescapable_losing_state_is_worth_minus_infinity():
    rows = [[surely(0, 1, True), surely(1, 0)], [surely(1, -1), surely(1, -2)]]
    found = value_iteration(build(rows), 1.0)
    assert found.value.tolist() == [1, -INF]
    assert found.q.tolist() == [[1, -INF], [-INF, -INF]]


def test_improper_policies_are_evaluated():
    table = corridor(4)
    assert evaluate_policy(table, np.array([0, 1, 1, 1]), 1.0).value.tolist() == [-INF, -3, -2, -1]
    assert evaluate_policy(chain(), np.ones(3, np.int64), 1.0).value.tolist() == [0, 0, 0]
    assert evaluate_policy(loop(2), np.zeros(1, np.int64), 1.0).value.tolist() == [INF]
    turns = build([[surely(1, 1)], [surely(0, -1)]])  # 1 − γ + γ² − … tends to 1/2
    np.testing.assert_allclose(evaluate_policy(turns, np.zeros(2, np.int64), 1.0).value, [0.5, -0.5])


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_values_are_the_limit_of_discounted_ones(seed, costly):
    drawn = random_table(seed, states=5, actions=2)
    reward = -np.abs(drawn.reward) if costly else np.where(drawn.terminated, drawn.reward, 0.0)
    table = from_arrays(drawn.probability, drawn.next_state, reward, drawn.terminated, drawn.start)
    uniform = uniform_policy(table)
    near = evaluate_policy(table, uniform, 1 - 1e-9).value
    value = evaluate_policy(table, uniform, 1.0).value
    finite = np.isfinite(value)
    np.testing.assert_allclose(value[finite], near[finite], rtol=1e-4, atol=1e-4)
    assert (np.abs(near[~finite]) > 1e5).all()
    try:
        found = value_iteration(table, 1.0)
    except UsageError:
        return
    policies = np.stack(np.meshgrid(*[[0, 1]] * 5, indexing="ij"), -1).reshape(-1, 5)
    best = np.max([evaluate_policy(table, policy, 1.0).value for policy in policies], axis=0)
    starts = table.start > 0
    np.testing.assert_allclose(found.value[starts], best[starts], atol=1e-8)
    reached = evaluate_policy(table, greedy_policy(found.q), 1 - 1e-9).value
    # At 1 − 1e-9 an episode of hundreds of steps is worth a millionth more or less.
    assert (reached[starts] <= best[starts] + 1e-4 + 1e-5 * np.abs(best[starts])).all()
