from __future__ import annotations

import pytest

from deeptaxi.api.build_case import entry_point, related_tables
from deeptaxi.config import EnvironmentConfig
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.table import save_table
from tests.problems import chain, opened


@pytest.mark.parametrize(
    ("name", "kwargs", "related"),
    [
        ("Taxi-v4", {}, {"Taxi-v4 is_rainy=true"}),
        ("Taxi-v4", {"is_rainy": True}, {"Taxi-v4"}),
        ("FrozenLake-v1", {}, {"FrozenLake-v1 is_slippery=false"}),
        ("CliffWalkingSlippery-v1", {}, {"CliffWalking-v1"}),
    ],
)
def test_the_related_problems_have_the_same_size_and_other_dynamics(name, kwargs, related):
    environment = opened(name, **kwargs)
    tables = related_tables(environment)
    assert related <= set(tables)
    assert not any(key.startswith("FrozenLake8x8") or "map_name=8x8" in key for key in tables)
    for table in tables.values():
        assert table.probability.shape[:2] == (environment.states, environment.actions)


def test_what_is_not_of_a_class_with_presets_has_no_related_problems(tmp_path):
    save_table(chain(), tmp_path / "table.npz")
    assert related_tables(open_environment(EnvironmentConfig(str(tmp_path / "table.npz")))) == {}
    assert related_tables(opened("Blackjack-v1")) == {}


def test_an_environment_has_its_class_with_and_without_its_module():
    assert entry_point("FrozenLake-v1") == entry_point("gymnasium:FrozenLake8x8-v1") is not None
    assert entry_point("Nowhere-v0") is None
