"""Keras optimizers of a configuration: names, options, schedules."""

from __future__ import annotations

import pytest

from deeptaxi.config import OPTIMIZERS, SCHEDULES, OptimizerConfig
from deeptaxi.learning.keras_optimizer import build_optimizer
from deeptaxi.learning.schedules import Span, anneal
from tests.learning.helpers import numbers


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedules_of_keras_are_the_courses_of_the_pure_function(schedule):
    config = OptimizerConfig(schedule=schedule, final_fraction=0.01)
    rate = build_optimizer(config, learning_rate=0.3, updates=1_000)
    for done in (0, 1, 10, 333, 500, 999, 1_000):
        rate.iterations.assign(done)
        expected = anneal(schedule, Span.of(0.3, 0.003), 1.0, done / 1_000)
        assert float(numbers(rate.learning_rate)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_the_configuration_exists(name):
    optimizer = build_optimizer(OptimizerConfig(name=name, schedule="constant"), learning_rate=0.25, updates=10)
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate) == 0.25


def test_options_reach_the_optimizer():
    config = OptimizerConfig(name="sgd", options={"momentum": 0.9, "nesterov": True})
    optimizer = build_optimizer(config, learning_rate=0.1, updates=10)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
