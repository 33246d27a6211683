from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.tables import FAMILIES, stakes
from deeptaxi.config import EnvironmentConfig, merge, resolve
from deeptaxi.errors import UsageError
from deeptaxi.learning.resolve import (
    OPTIMIZER_OPTIONS,
    RANGE,
    configure,
    eval_every,
    has_pure_optimizer,
    horizon_steps,
    is_random,
    large_eval_every,
    learning_discount,
    mean_value,
    table_rate,
    table_settings,
    value_range,
    why_not_compiled,
)
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.table import save_table
from deeptaxi.presets import preset_named
from tests.learning.helpers import opened_problem
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


def test_q_values_of_endless_episodes_start_at_the_discounted_mean_reward():
    assert mean_value(loop(3.0, discount=0.5)) == pytest.approx(6.0)
    assert mean_value(geometric(0.5)) == 0.0
    two = build([[surely(0, 1), surely(0, 5)]], action_mask=np.array([[True, False]]), discount=0.5)
    assert mean_value(two) == pytest.approx(2.0)  # the forbidden 5 is not looked at


@pytest.mark.parametrize(("asked", "learned"), [(None, 0.99), (0.5, 0.5), (0.999, 0.99), (1.0, 0.99)])
def test_the_derived_discount_is_capped(asked, learned):
    assert table_settings(loop(1.0, discount=asked), "dueling", True)["discount"] == learned


@pytest.mark.parametrize(
    ("win", "learned"),
    [
        (0.4, 0.99),  # bold play is best at every discount
        (0.5, 0.99),  # all policies are equal
        (0.55, 0.9999),  # the best stake is 1, which takes hundreds of steps; at 0.99 one would rather hurry
        (0.53, 0.99999),
    ],
)
def test_the_derived_discount_looks_as_far_as_the_objective_needs(win, learned):
    assert learning_discount(stakes(100, win, discount=1.0)) == learned


def test_a_discount_of_1_without_values_is_capped():
    endless = build([[surely(0, 1), surely(0, -1)]], discount=1.0)  # worth ∞
    assert learning_discount(endless) == 0.99


def test_states_that_are_lost_forever_do_not_count_where_no_episode_starts():
    lost = build([[surely(0, 1, True), surely(1, -1)], [surely(1, -1), surely(1, -1)]], discount=1.0)  # state 1: −∞
    mask = np.array([[True, False], [True, True]])
    assert learning_discount(replace(lost, action_mask=mask)) == 0.99


def test_random_outcomes_need_more_updates():
    sure, random = (table_settings(table, "dueling", True)["updates"] for table in (chain(), geometric(0.5)))
    assert sure < random


def test_an_evaluation_costs_no_more_than_the_updates_between_evaluations():
    assert eval_every(chain(), 20_000) == 250
    large = random_table(0, states=1_000, actions=2, outcomes=10)
    assert eval_every(large, 40_000) > 1_000
    assert eval_every(large, 4_000) == 500  # but there are some


def test_the_learning_rate_of_a_q_table_grows_with_its_size():
    rates = [table_rate(random_table(0, states=size)) for size in (4, 500, 9_000)]
    assert rates[0] == 0.02 < rates[1] < rates[2] == 0.2
    settings = table_settings(chain(), "q-table", True)
    assert settings["optimizer"]["learning_rate"] == 0.02
    assert table_settings(chain(), "mlp", True)["optimizer"]["learning_rate"] == 0.003


def settings_for(table, tmp_path, **asked):
    table.save(tmp_path / "own.npz", force=True)
    return configure(open_environment(EnvironmentConfig(str(tmp_path / "own.npz"))), asked).config


Q_TABLE = {"hidden": [], "dueling": False}


def test_a_table_with_chance_takes_it_out_of_the_target_unless_several_steps_are_asked_for(tmp_path):
    assert settings_for(geometric(0.5), tmp_path).target.backup == "expected"
    assert settings_for(chain(), tmp_path).target.backup == "sample"
    several = settings_for(geometric(0.5), tmp_path, target={"n_step": 3}).target
    assert (several.backup, several.n_step) == ("sample", 3)
    with pytest.raises(UsageError, match="looks one step ahead"):
        settings_for(geometric(0.5), tmp_path, target={"n_step": 3, "backup": "expected"})


@pytest.mark.parametrize(
    ("values", "preset", "message"),
    [
        ({"target": {"backup": "expected"}}, "cartpole", "--backup expected needs a .*; leave out --backup expected$"),
        ({}, "taxi-rainy", "preset taxi-rainy learns from .*; add --backup sample$"),
    ],
)
def test_expected_updates_without_a_table_say_who_asks_for_them(values, preset, message):
    environment = opened("Blackjack-v1")
    with pytest.raises(UsageError, match=message) as refusal:
        configure(environment, values, preset_named(preset, "dueling"))
    assert "and Blackjack-v1 has none: the environment has no transition table" in str(refusal.value)
    without = replace(environment, config=replace(environment.config, discover=False))
    with pytest.raises(UsageError, match=r"leave out --no-discover, or --backup expected$"):
        configure(without, {"target": {"backup": "expected"}})


def test_a_large_table_is_learned_without_hidden_layers_in_as_many_updates_as_values_travel(tmp_path):
    large = random_table(0, states=10_240, actions=4, outcomes=2, discount=0.9)
    found = settings_for(large, tmp_path, network=Q_TABLE)
    assert (found.optimizer.name, found.optimizer.tabular_step, found.optimizer.schedule) == ("sgd", 0.5, "constant")
    assert (found.target.backup, found.target.polyak) == ("expected", 1.0)
    assert (found.exploration.exploring_starts, found.exploration.end) == (1.0, 1.0)
    # 40,960 pairs are each in every tenth minibatch of 4,096, and 0.9^87 = 0.0001: 87 steps of 10 + 1 updates.
    assert horizon_steps(large) == pytest.approx(87.4, abs=0.1)
    assert found.updates == 1_000
    assert found.network.initial_value == pytest.approx(10 * large.expected_reward.min())
    dueling = settings_for(large, tmp_path)
    assert (dueling.network.hidden, dueling.network.dueling) == ((), True)
    assert (dueling.optimizer.tabular_step, dueling.target.polyak) == (0.4, 0.05)
    assert dueling.updates == 3_000  # 87 steps of 10 + 20 updates


@pytest.mark.parametrize(
    ("limit", "updates", "every"),
    [
        (100, 20_000, 2_500),  # an eighth: 2,849 sweeps of 0.097 ms take 0.4 times as long as 1,320 updates of 0.52 ms
        (3_000, 20_000, 2_750),  # 5,749 sweeps, 2,660 updates
        (20_000, 20_000, 5_000),  # a quarter, or early stopping would never see three evaluations in a row
        (3_000, 1_000, 500),
    ],
)
def test_a_large_table_is_evaluated_in_a_share_of_the_time_of_its_updates(limit, updates, every):
    large = random_table(0, states=10_240, actions=4, outcomes=3, discount=0.99)
    assert large_eval_every(replace(large, time_limit=limit), updates) == every


def test_who_asks_for_another_network_or_optimizer_on_a_large_table_gets_it(tmp_path):
    large = random_table(0, states=10_240, actions=4, discount=0.9)
    assert settings_for(large, tmp_path, network={"hidden": [32]}).optimizer.name == "adam"
    assert settings_for(large, tmp_path, optimizer={"name": "adam"}).network.hidden == (64,)
    assert settings_for(large, tmp_path, optimizer={"learning_rate": 0.1}).network.hidden == (64,)
    assert settings_for(large, tmp_path, loop="gymnasium").network.hidden == (64,)


def test_other_loops_get_few_updates_and_no_exploring_starts():
    settings = table_settings(chain(), "dueling", False)
    assert settings.keys() == {"discount", "target", "network"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_settings_of_every_family_are_valid(family, tmp_path):
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


def test_a_complete_configuration_uses_no_preset():
    from deeptaxi.schema import to_mapping

    environment = opened("FrozenLake-v1")
    first = configure(environment, {"environment": {"id": "FrozenLake-v1"}})
    assert first.preset == "frozenlake"
    assert configure(environment, to_mapping(first.config)) == dataclasses.replace(first, preset="none")


def test_a_setting_may_depend_on_one_of_the_preset():
    values = {"network": {"hidden": [], "dueling": False}, "optimizer": {"tabular_step": 0.25}}
    assert configure(opened("Taxi-v4"), values).config.optimizer.tabular_step == 0.25


def test_an_environment_without_table_has_the_plain_defaults():
    found = configure(opened("Blackjack-v1", natural=True, sab=True), {})
    assert found.preset == "none"
    assert found.config.replay == resolve({}).replay


def test_choosing_a_loop_does_not_import_keras():
    code = "import sys, deeptaxi.learning.resolve; print({'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def problem(tmp_path):
    return lambda **settings: opened_problem(chain(), tmp_path, **settings)


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
@pytest.mark.parametrize(
    "optimizer",
    [
        {},
        {"name": "sgd", "options": {"momentum": 0.9, "nesterov": True}},
        {"name": "adam", "tabular_step": None, "learning_rate": 0.1, "options": {"epsilon": 1.0}},
    ],
)
def test_a_table_is_compiled_on_both_compiling_backends(name, optimizer, problem, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", name)
    assert why_not_compiled(*problem(optimizer=optimizer)) is None


def test_without_a_table_nothing_is_compiled():
    config = resolve({"environment": {"id": "Blackjack-v1"}})
    reason = why_not_compiled(config, opened("Blackjack-v1"))
    assert reason.startswith("it needs a transition table, and Blackjack-v1 has none: ")
    assert opened("Blackjack-v1").table_missing in reason


def test_a_backend_that_does_not_compile_is_named(problem, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert why_not_compiled(*problem()) == "it runs on tensorflow and jax, not on KERAS_BACKEND=torch"


@pytest.mark.parametrize(
    ("optimizer", "pure"),
    [
        ({"name": "adam", "options": {"beta_1": 0.5}}, True),
        ({"name": "adam", "options": {"amsgrad": True}}, False),
        ({"name": "sgd", "options": {"weight_decay": 0.1, "momentum": 0.5}}, False),
        ({"name": "rmsprop"}, False),
    ],
)
def test_every_optimizer_of_keras_is_compiled(optimizer, pure, problem):
    config, environment = problem(optimizer={"learning_rate": 0.1, **optimizer})
    assert why_not_compiled(config, environment) is None
    assert has_pure_optimizer(config.optimizer) is pure


def test_the_compiled_optimizers_have_the_options_and_defaults_of_keras():
    import keras

    for name, options in OPTIMIZER_OPTIONS.items():
        theirs = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[name]().get_config()
        assert options == {key: theirs[key] for key in options}


def test_a_mask_known_only_during_episodes_prevents_compilation(problem):
    config, environment = problem(exploration={"action_mask": True})
    assert "in advance" in why_not_compiled(config, environment)
    taxi = resolve({"environment": {"id": "Taxi-v4"}, "exploration": {"action_mask": True}})
    assert why_not_compiled(taxi, opened("Taxi-v4")) is None


def test_the_size_of_the_table_counts_too(problem, monkeypatch):
    config, environment = problem()
    monkeypatch.setattr("deeptaxi.learning.memory.LARGEST_BYTES", 3 * 2 * 25 - 1)
    assert "3 states × 2 actions × 1 outcomes" in why_not_compiled(config, environment)
    monkeypatch.setattr("deeptaxi.learning.memory.LARGEST_BYTES", 3 * 2 * 25)
    assert why_not_compiled(config, environment) is None


def test_the_table_is_checked_first_and_all_reasons_are_given(problem, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    config, environment = problem(optimizer={"name": "rmsprop", "learning_rate": 0.1})
    without = replace(environment, table=None, table_missing="for a reason")
    assert "for a reason" in why_not_compiled(config, without)
    assert "torch" in why_not_compiled(config, environment)
    assert resolve(merge({"optimizer": {"name": "rmsprop"}}, {})).optimizer.name == "rmsprop"


def test_more_environments_than_memory_can_hold_are_refused_before_anything_is_built(problem):
    reason = why_not_compiled(*problem(interaction={"environments": 10**9}, replay={"capacity": 10**9}))
    assert "1,000,000,000 environments" in reason
    assert "more than 8 GiB" in reason
    assert why_not_compiled(*problem(interaction={"environments": 10_000}, replay={"capacity": 10_000})) is None
