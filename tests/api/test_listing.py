from __future__ import annotations

from pathlib import Path

import pytest

import deeptaxi
from deeptaxi.errors import UsageError
from deeptaxi.mdp.table import TransitionTable
from tests.api.helpers import answer, plain


def test_the_listings_agree_with_their_commands(table: TransitionTable) -> None:
    assert plain(deeptaxi.listing.presets()) == answer("presets")
    there = answer("envs", "FrozenLake-v1", "--env-arg", "is_slippery=false")
    assert plain(deeptaxi.listing.envs("FrozenLake-v1", env_args={"is_slippery": False})) == there
    models = Path(__file__).parents[2] / "models"
    assert plain(deeptaxi.listing.zoo(models)) == answer("zoo", models)
    (row,) = deeptaxi.listing.envs(table)
    assert (row["id"], row["states"], row["optimal_return"]) == ("transition-table", 3, 1.0)
    with pytest.raises(UsageError, match="--env-arg needs the environment"):
        deeptaxi.listing.envs(env_args={"size": 3})
