from __future__ import annotations

import re
from dataclasses import replace

import pytest

from deeptaxi.config import merge, resolve
from deeptaxi.errors import UsageError
from deeptaxi.learning.resolve import LARGEST_INDEX, OPTIMIZER_OPTIONS, too_large, why_not_compiled
from tests.learning.helpers import opened_problem
from tests.problems import chain, opened


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
    ("optimizer", "reason"),
    [
        ({"name": "rmsprop"}, "it supports the optimizers sgd and adam, not rmsprop"),
        ({"name": "adam", "options": {"amsgrad": True}}, "its adam has no option amsgrad"),
        ({"name": "sgd", "options": {"weight_decay": 0.1, "momentum": 0.5}}, "its sgd has no option weight_decay"),
    ],
)
def test_an_optimizer_that_it_does_not_have_is_named(optimizer, reason, problem):
    assert why_not_compiled(*problem(optimizer={"learning_rate": 0.1, **optimizer})) == reason


def test_the_options_that_it_has_are_those_of_keras_with_their_defaults():
    import keras

    for name, options in OPTIMIZER_OPTIONS.items():
        theirs = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[name]().get_config()
        assert options == {key: theirs[key] for key in options}


def test_a_mask_that_shows_on_the_way_only_is_a_reason(problem):
    config, environment = problem(exploration={"action_mask": True})
    assert "in advance" in why_not_compiled(config, environment)
    taxi = resolve({"environment": {"id": "Taxi-v4"}, "exploration": {"action_mask": True}})
    assert why_not_compiled(taxi, opened("Taxi-v4")) is None


@pytest.mark.parametrize(
    ("sizes", "large"),
    [
        ((500, 6, 1), False),
        ((LARGEST_INDEX // 25, 1, 1), False),
        ((20_000, 1_000, 20), True),  # 10 GB
        ((1, 1, 8 * 2**30 // 25), False),
        ((1, 1, 8 * 2**30 // 25 + 1), True),
    ],
)
def test_a_table_must_fit_into_memory(sizes, large):
    assert (too_large(*sizes) is not None) == large


def test_what_is_too_large_is_told_with_its_sizes():
    # 20,000 · 1,000 · 20 entries of 25 bytes are 10¹⁰ bytes, 9.3 GiB.
    reason = too_large(20_000, 1_000, 20)
    assert reason.startswith("the table has 20,000 states × 1,000 actions × 20 outcomes, 9.3 GiB when expanded")
    assert reason.endswith("more than 8 GiB")


def test_the_size_of_the_table_counts_too(problem, monkeypatch):
    config, environment = problem()
    monkeypatch.setattr("deeptaxi.learning.resolve.LARGEST_BYTES", 3 * 2 * 25 - 1)
    assert "3 states × 2 actions × 1 outcomes" in why_not_compiled(config, environment)
    monkeypatch.setattr("deeptaxi.learning.resolve.LARGEST_BYTES", 3 * 2 * 25)
    assert why_not_compiled(config, environment) is None


def test_the_table_comes_first_and_no_reason_hides_another(problem, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    config, environment = problem(optimizer={"name": "rmsprop", "learning_rate": 0.1})
    without = replace(environment, table=None, table_missing="for a reason")
    assert "for a reason" in why_not_compiled(config, without)
    assert "torch" in why_not_compiled(config, environment)
    assert resolve(merge({"optimizer": {"name": "rmsprop"}}, {})).optimizer.name == "rmsprop"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beta_1": -0.5}, "beta_1 = -0.5: expected a number from 0 to below 1"),
        ({"beta_2": "x"}, "beta_2 = 'x': expected a finite number, or true or false"),
        ({"epsilon": 0}, "epsilon = 0: expected a number above 0"),
        ({"beta_1": True}, "beta_1 = True: expected a number from 0 to below 1"),
    ],
)
def test_an_option_that_cannot_be_meant_is_a_usage_error(options, told, problem):
    with pytest.raises(UsageError, match=re.escape(told)):
        why_not_compiled(*problem(optimizer={"name": "adam", "learning_rate": 0.1, "options": options}))


def test_more_copies_than_memory_can_hold_are_told_before_anything_is_made(problem):
    reason = why_not_compiled(*problem(interaction={"environments": 10**9}, replay={"capacity": 10**9}))
    assert "1,000,000,000 environments" in reason
    assert "more than 8 GiB" in reason
    assert why_not_compiled(*problem(interaction={"environments": 10_000}, replay={"capacity": 10_000})) is None
