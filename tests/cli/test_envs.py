from __future__ import annotations

import json

import pytest

from tests.cli.conftest import refused, run


def test_envs_lists_the_environments_that_can_be_trained() -> None:
    rows = json.loads(run("envs", "--json").stdout)
    by_name = {(row["id"], *row["kwargs"]): row for row in rows}
    assert by_name["Taxi-v4",]["optimal_return"] == pytest.approx(7.93)
    assert by_name["Blackjack-v1",]["states"] == 32 * 11 * 2
    assert by_name["Taxi-v4", "fickle_passenger"]["table"] is False
    assert by_name["CartPole-v1",]["states"] == 16 * 32**3  # in the bins of its preset
    assert not any(name.startswith("MountainCar") for name, *_ in by_name)  # it has none


def test_envs_describes_a_named_environment() -> None:
    result = run("envs", "FrozenLake-v1", "--env-arg", "map_name=8x8", "--env-arg", "is_slippery=false")
    assert "64" in result.stdout
    refused(run("envs", "MountainCar-v0"), 2, "Box", "with --bins 8")
    refused(run("envs", "--env-arg", "is_rainy=true"), 2, "--env-arg needs the environment")
