from __future__ import annotations

import numpy as np
import pytest

from benchmarks import presets
from benchmarks.tables import FAMILIES, HELD_OUT, TUNED
from deeptaxi.mdp.environment import objective_discount
from deeptaxi.mdp.planning import reachable, value_iteration


@pytest.mark.parametrize("name", FAMILIES)
def test_a_table_is_determined_by_its_seed_and_can_be_learned(name):
    for seed in (1, 2):
        table, again = FAMILIES[name](seed), FAMILIES[name](seed)
        assert np.array_equal(table.probability, again.probability)
        assert np.array_equal(table.reward, again.reward)
        assert reachable(table).sum() > 4
        optimum = value_iteration(table, objective_discount(table))
        assert np.ptp(optimum.q[reachable(table)], axis=1).max() > 0  # actions differ


def test_at_least_three_families_are_held_out():
    assert not TUNED.keys() & HELD_OUT.keys()
    assert len(HELD_OUT) >= 3


def test_river_swim_pays_for_swimming():
    table = FAMILIES["river swim"](0)
    assert value_iteration(table, 0.99).q.argmax(axis=1).tolist() == [1] * 6


def test_a_summary_has_counts_and_shares():
    row = {"optimal": True, "shortfall": 0.0, "score": 1.0, "updates": 10, "seconds": 1.0}
    worse = {"optimal": False, "shortfall": 0.01, "score": 0.5, "updates": 20, "seconds": 3.0}
    summary = presets.summary("a", [row, worse])
    assert [summary[key] for key in ("seeds", "optimal", "near", "good", "updates", "seconds")] == [2, 1, 1, 1, 15, 2]
    assert presets.share([summary]) == 0.5
