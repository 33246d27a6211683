from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.tables import FAMILIES
from deeptaxi.config import EnvironmentConfig, resolve
from deeptaxi.learning.resolve import (
    RANGE,
    configure,
    eval_every,
    is_random,
    mean_value,
    table_rate,
    table_settings,
    value_range,
)
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.table import save_table
from tests.problems import bandit, build, chain, geometric, loop, opened, random_table, surely


def test_a_reward_scale_is_a_power_of_two():
    for reward in (1e-4, 0.3, 1.0, 7.0, 1e4):
        scale = table_settings(loop(reward), "dueling", True)["target"]["reward_scale"]
        assert math.log2(scale) == int(math.log2(scale))
        assert value_range(loop(reward)) / scale == pytest.approx(RANGE, rel=0.42)


def test_without_rewards_nothing_is_scaled():
    assert table_settings(loop(0.0), "dueling", True)["target"]["reward_scale"] == 1.0


@pytest.mark.parametrize(
    ("table", "bound"),
    [
        (bandit(), 3.0),  # one reward an episode
        (chain(), 1.0),
        (loop(-2.0), 200.0),  # forever, at discount 0.99
        (loop(2.0, discount=0.5), 4.0),
        (loop(2.0, time_limit=10), 20.0),
        (geometric(0.5), 100.0),  # may go on for long
        (loop(2.0, discount=0.999), 200.0),
        (loop(2.0, discount=1.0), 200.0),
    ],
)
def test_the_range_of_the_values(table, bound):
    assert value_range(table) == pytest.approx(bound)


def test_an_outcome_without_probability_counts_for_nothing():
    table = dataclasses.replace(
        bandit(), probability=np.array([[[1.0, 0.0], [1.0, 0.0]]]), reward=np.array([[[1.0, 99.0], [2.0, 99.0]]])
    )
    assert value_range(table) == 2.0
    assert not is_random(table)


def test_q_values_of_endless_episodes_start_at_the_mean_reward_for_ever():
    assert mean_value(loop(3.0, discount=0.5)) == pytest.approx(6.0)
    assert mean_value(geometric(0.5)) == 0.0
    two = build([[surely(0, 1), surely(0, 5)]], action_mask=np.array([[True, False]]), discount=0.5)
    assert mean_value(two) == pytest.approx(2.0)  # the forbidden 5 is not looked at


@pytest.mark.parametrize(("asked", "learned"), [(None, 0.99), (0.5, 0.5), (0.999, 0.99), (1.0, 0.99)])
def test_no_discount_above_the_longest_is_learned_with(asked, learned):
    assert table_settings(loop(1.0, discount=asked), "dueling", True)["discount"] == learned


def test_chance_asks_for_more_updates():
    sure, random = (table_settings(table, "dueling", True)["updates"] for table in (chain(), geometric(0.5)))
    assert sure < random


def test_an_evaluation_costs_no_more_than_the_updates_between_two():
    assert eval_every(chain(), 20_000) == 250
    large = random_table(0, states=1_000, actions=2, outcomes=10)
    assert eval_every(large, 40_000) > 1_000
    assert eval_every(large, 4_000) == 500  # but there are some


def test_the_rate_of_a_q_table_grows_with_its_size():
    rates = [table_rate(random_table(0, states=size)) for size in (4, 500, 9_000)]
    assert rates[0] == 0.02 < rates[1] < rates[2] == 0.2
    settings = table_settings(chain(), "q-table", True)
    assert settings["optimizer"]["learning_rate"] == 0.02
    assert table_settings(chain(), "mlp", True)["optimizer"]["learning_rate"] == 0.003


def test_outside_of_the_compiled_loop_the_updates_stay_few_and_no_state_is_set():
    settings = table_settings(chain(), "dueling", False)
    assert settings.keys() == {"discount", "target", "network"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_settings_of_every_family_are_sound(family, tmp_path):
    save_table(FAMILIES[family](1), tmp_path / "own.npz")
    environment = open_environment(EnvironmentConfig(str(tmp_path / "own.npz")))
    for network in ({}, {"hidden": [], "dueling": False}):
        found = configure(environment, {"network": network})
        assert found.preset == "table"
        assert found.config.discount <= 0.99
        assert found.config.exploration.exploring_starts > 0
        again = configure(environment, {"network": network, "discount": 0.5, "loop": "gymnasium"})
        assert (again.config.discount, again.config.loop) == (0.5, "gymnasium")
        assert again.config.exploration.exploring_starts == 0


def test_a_complete_configuration_leaves_nothing_to_a_preset():
    from deeptaxi.config import to_mapping

    environment = opened("FrozenLake-v1")
    first = configure(environment, {"environment": {"id": "FrozenLake-v1"}})
    assert first.preset == "frozenlake"
    assert configure(environment, to_mapping(first.config)) == dataclasses.replace(first, preset="none")


def test_a_setting_may_stand_on_what_the_preset_sets():
    values = {"network": {"hidden": [], "dueling": False}, "optimizer": {"tabular_step": 0.25}}
    assert configure(opened("Taxi-v4"), values).config.optimizer.tabular_step == 0.25


def test_an_environment_without_table_has_the_plain_defaults():
    found = configure(opened("Blackjack-v1", natural=True, sab=True), {})
    assert found.preset == "none"
    assert found.config.replay == resolve({}).replay


def test_choosing_does_not_import_keras():
    code = "import sys, deeptaxi.learning.resolve; print({'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
