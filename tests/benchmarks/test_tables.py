from __future__ import annotations

import numpy as np
import pytest

from benchmarks import presets
from benchmarks.tables import (
    FAMILIES,
    HELD_OUT,
    PUBLISHED,
    TUNED,
    admissions,
    jacks_cars,
    poisson,
    rent,
    stakes,
    stand_of_trees,
    stock_control,
)
from deeptaxi.mdp.environment import objective_discount
from deeptaxi.mdp.planning import optimal_horizon, reachable, value_iteration


@pytest.mark.parametrize("name", FAMILIES)
def test_a_table_is_determined_by_its_seed_and_can_be_learned(name):
    for seed in (1, 2):
        table, again = FAMILIES[name](seed), FAMILIES[name](seed)
        assert np.array_equal(table.probability, again.probability)
        assert np.array_equal(table.reward, again.reward)
        assert reachable(table).sum() > 4
        q = value_iteration(table, objective_discount(table), table.action_mask).q[reachable(table, table.action_mask)]
        assert (q.max(axis=1) - np.where(np.isfinite(q), q, np.inf).min(axis=1)).max() > 0  # actions differ


def test_at_least_three_families_are_held_out():
    assert not TUNED.keys() & HELD_OUT.keys()
    assert len(HELD_OUT) >= 3
    assert PUBLISHED.keys() <= HELD_OUT.keys()


def test_river_swim_pays_for_swimming():
    table = FAMILIES["river swim"](0)
    assert value_iteration(table, 0.99).q.argmax(axis=1).tolist() == [1] * 6


def test_a_place_that_rents_cars_has_them_by_hand():
    evening, rented = rent(3.0, 2.0, room=2)
    none = np.exp(-3)  # nobody asks for a car
    assert rented == pytest.approx([0, 1 - none, 3 * none + 2 * (1 - 4 * none)])
    back = np.array([1, 2, 0]) * np.exp(-2) + np.array([0, 0, 1 - 3 * np.exp(-2)])  # 0, 1, 2 or more come back
    assert poisson(2.0, 2) == pytest.approx(back)
    assert evening[0] == pytest.approx(back)
    left = np.array([0, back[0], back[1] + back[2]])  # from one car that nobody asked for
    assert evening[1] == pytest.approx(none * left + (1 - none) * back)


def test_jacks_optimal_policy_is_that_of_the_book():
    """The last policy of figure 4.2; and no more cars can be rented than have come back, 3 + 2 a day."""
    table = jacks_cars((3, 4), (3, 2))
    optimum = value_iteration(table, 0.9, table.action_mask)
    moved = optimum.q.argmax(axis=1).reshape(21, 21) - 5
    assert (moved.min(), moved.max()) == (-4, 5)
    assert (moved[20, 0], moved[0, 20], moved[0, 0], moved[10, 10]) == (5, -4, 0, 0)
    assert (np.diff(moved, axis=0) >= 0).all()
    assert (np.diff(moved, axis=1) <= 0).all()
    assert 420 < optimum.value[0] < 10 * 5 * 0.9 / (1 - 0.9)
    assert optimum.value.argmax() == 440


def test_the_gambler_plays_boldly_where_the_odds_are_against_him():
    table = stakes(100, 0.4, discount=1.0)
    value = value_iteration(table, 1.0).value
    assert value[[25, 50, 75]] == pytest.approx([0.4 * 0.4, 0.4, 0.4 + 0.6 * 0.4])  # all or what is missing


def test_the_gambler_who_has_the_odds_stakes_little():
    table = stakes(100, 0.55, discount=1.0)
    optimum = value_iteration(table, 1.0)
    ratio = 0.45 / 0.55  # gambler's ruin (Feller, 1968, section XIV.2)
    money = np.arange(1, 100)
    assert optimum.value[1:] == pytest.approx((1 - ratio**money) / (1 - ratio**100), abs=1e-9)


def test_the_smallest_forest_is_that_of_the_toolbox():
    """The example of pymdptoolbox's policy iteration."""
    optimum = value_iteration(stand_of_trees(3, 4, 2, 0.1, discount=0.9), 0.9)
    assert optimum.value == pytest.approx([26.244, 29.484, 33.484])
    assert optimum.q.argmax(axis=1).tolist() == [0, 0, 0]


def test_puterman_orders_three():
    """The expected rewards of section 3.2.2 and the values of section 4.6.1, a horizon of 3."""
    table = stock_control(np.array([0.25, 0.5, 0.25]), 3, 4.0, 2.0, 1.0, 8.0, discount=0.9)
    assert table.expected_reward[table.action_mask].tolist() == [0, -1, -2, -5, 5, 0, -3, 6, -1, 5]
    assert optimal_horizon(table, 3, table.action_mask).returns * 16 == pytest.approx([67, 129, 194, 227])


def test_a_queue_of_one_has_its_values_by_hand():
    """With W the value once a job is in the system, Z without: Z = ½ (½ W + ½ Z), W = 3 + ½ (½ (½ W + ½ Z) + ½ W)."""
    half = np.array([0.5, 0.5])
    table = admissions(half, half, room=1, price=8.0, hold=1.0, discount=0.5)
    value = value_iteration(table, 0.5, table.action_mask).value
    assert value == pytest.approx([12 / 7, 36 / 7, 36 / 7, 36 / 7])  # (jobs, arrived) = (0, 0), (0, 1), (1, 0), (1, 1)


def test_a_longer_queue_admits_no_more():
    table = FAMILIES["queue"](2)
    q = value_iteration(table, table.discount, table.action_mask).q
    admitted = q.argmax(axis=1).reshape(-1, 5)
    assert admitted[0, 4] > admitted[-2, 4]
    assert (np.diff(admitted, axis=0) <= 0).all()


def test_a_summary_has_counts_and_shares():
    row = {"optimal": True, "shortfall": 0.0, "score": 1.0, "updates": 10, "seconds": 1.0}
    worse = {"optimal": False, "shortfall": 0.01, "score": 0.5, "updates": 20, "seconds": 3.0}
    summary = presets.summary("a", [row, worse])
    assert [summary[key] for key in ("seeds", "optimal", "near", "good", "updates", "seconds")] == [2, 1, 1, 1, 15, 2]
    assert presets.share([summary]) == 0.5
