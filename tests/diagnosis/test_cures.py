from __future__ import annotations

import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.diagnosis import cures
from tests.diagnosis.cases import config

TABLE = {"hidden": [], "dueling": False}


@pytest.mark.parametrize(
    "text",
    [
        "--polyak 0.02 --target-period 1",
        "--double",
        "--no-double --updates 4000",
        "--hidden 128,64 --activation elu",
        "--optimizer adam --learning-rate 1e-05",
        "--backup expected --n-step 1",
    ],
)
def test_what_is_printed_is_read_back(text):
    assert cures.format_options(cures.parse_options(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fix the environment",
        "--updates",
        "--updates many",
        "--no-such 3",
        "--env X",
        "keras.layers.Dense(2)",
        "it's",
    ],
)
def test_a_sentence_is_no_cure_to_type(text):
    assert cures.parse_options(text) is None


def test_a_setting_that_the_configuration_has_changes_nothing():
    known = config(target={"polyak": 0.02, "period": 1}, optimizer={"learning_rate": 1 / 3})
    assert cures.differing(known, cures.parse_options("--polyak 0.02 --target-period 1")) == {}
    assert not cures.applies(known, {cures.RATE: 0.3333})  # as it is printed
    assert cures.applies(known, {cures.POLYAK: 0.05})


def test_settings_that_exclude_each_other_are_no_cure():
    assert not cures.applies(config(target={"n_step": 3}), {cures.BACKUP: "expected"})
    assert cures.applies(config(target={"n_step": 3}), {cures.BACKUP: "expected", cures.N_STEP: 1})


def test_the_way_to_what_is_usual_is_every_option_that_differs():
    usual = config(optimizer={"name": "adam", "learning_rate": 0.1}, network=TABLE)
    sgd = {"name": "sgd", "tabular_step": 4.0, "learning_rate": None}
    far = config(optimizer=sgd, network=TABLE, updates=7, replay={"capacity": 3_000})
    back = cures.change(far, cures.to_usual(far, usual))
    assert back == usual
    assert cures.to_usual(usual, usual) == {}
    assert cures.to_usual(far, None) == {}


def test_the_step_of_a_table_stays_its_own():
    sgd = config(optimizer={"name": "sgd", "tabular_step": 0.5, "learning_rate": None}, network=TABLE)
    changed = cures.change(sgd, {cures.DISCOUNT: 0.5})
    assert (changed.optimizer, changed.discount) == (sgd.optimizer, 0.5)


@pytest.mark.parametrize(("now", "usual", "smaller"), [(1.0, 0.003, 0.003), (0.02, None, 0.002), (0.002, 0.003, 2e-4)])
def test_a_smaller_step_is_smaller(now, usual, smaller):
    known = None if usual is None else config(optimizer={"learning_rate": usual})
    assert cures.smaller_step(config(optimizer={"learning_rate": now}), known) == {cures.RATE: smaller}


@pytest.mark.parametrize(("now", "usual", "larger"), [(1e-5, 0.003, 0.003), (1e-5, None, 1e-4), (0.003, 0.003, 0.03)])
def test_a_larger_step_is_larger(now, usual, larger):
    known = None if usual is None else config(optimizer={"learning_rate": usual})
    assert cures.larger_step(config(optimizer={"learning_rate": now}), known) == {cures.RATE: larger}


def test_a_longer_training_has_longer_schedules():
    short = config(updates=100, schedule_updates=50)
    assert cures.more_updates(short, None) == {cures.UPDATES: 400, ("schedule_updates",): 400}
    assert cures.more_updates(short, config(updates=5_000))[cures.UPDATES] == 5_000
    assert cures.more_updates(short, None, at_least=900)[cures.UPDATES] == 900


def test_options_are_said_in_words():
    assert cures.in_words("--learning-rate 0.003 --no-double") == (
        "in the training that made it: learning rate 0.003, no double"
    )
    assert cures.in_words("a linear output") == "a linear output"


def test_a_training_for_an_environment_is_a_command_that_can_be_typed():
    lake = EnvironmentConfig("FrozenLake-v1", {"is_slippery": False}, time_limit=50)
    assert cures.training_command(lake) == "deeptaxi train FrozenLake-v1 --env-arg is_slippery=false --time-limit 50"
    assert cures.training_command(EnvironmentConfig("my table.npz")) == "deeptaxi train 'my table.npz'"
    assert cures.training_command(EnvironmentConfig("in-memory/Room")) == "deeptaxi.train(env)"


def test_a_schedule_that_ended_early_gets_the_length_and_the_shape_that_are_usual():
    early = config(updates=900, schedule_updates=10, optimizer={"schedule": "exponential", "final_fraction": 1e-4})
    usual = config(optimizer={"schedule": "cosine", "final_fraction": 0.01})
    text = cures.format_options(cures.whole_schedule(early, usual))
    assert text == "--schedule-updates 900 --learning-rate-schedule cosine --final-learning-rate-fraction 0.01"
    assert cures.format_options(cures.whole_schedule(early, None)) == "--schedule-updates 900"


@pytest.mark.parametrize(
    ("pairs", "settings", "text"),
    [
        (100, {"updates": 500, "interaction": {"environments": 4}}, "--learning-rate 0.003 --updates 5000"),
        (1_000, {"updates": 500, "interaction": {"environments": 4}},
         "--learning-rate 0.003 --updates 5000 --environments 32"),  # 20 steps for each pair
        (1_000, {"updates": 4_000, "interaction": {"environments": 32}}, "--learning-rate 0.003"),  # as good as usual
    ],
)  # fmt: skip
def test_a_cure_brings_the_usual_length_with_it(pairs, settings, text):
    usual = config(updates=5_000, interaction={"environments": 32})
    bad = config(**settings, optimizer={"learning_rate": 1e-5})
    found = cures.with_usual_length(bad, {cures.RATE: 0.003}, usual, pairs)
    assert cures.format_options(found) == text
    assert cures.with_usual_length(bad, {}, usual, pairs) == {}
    assert cures.with_usual_length(bad, {cures.UPDATES: 700}, usual, 1)[cures.UPDATES] == 700
