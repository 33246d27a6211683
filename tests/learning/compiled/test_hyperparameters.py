"""Numbers that compiled programs take as arguments: the schedules of the literal loops, and what compiles anew."""

from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.config import EPSILON_SCHEDULES, SCHEDULES, merge, resolve
from deeptaxi.learning.compiled.hyperparameters import hyperparameters_at, numbers_of, settings_of_program
from deeptaxi.learning.schedules import exploration, importance_exponent, learning_rate
from tests.learning.helpers import numbers

SETTINGS = {
    "loop": "compiled",
    "updates": 300,
    "optimizer": {"learning_rate": 0.02, "final_fraction": 0.1},
    "exploration": {"start": 0.8, "end": 0.1, "fraction": 0.4},
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedules_are_those_of_the_literal_loops(kind):
    epsilon = kind if kind in EPSILON_SCHEDULES else "linear"
    changes = {"optimizer": {"schedule": kind}, "exploration": {"schedule": epsilon}}
    config, updates = resolve(merge(SETTINGS, changes)), np.arange(0, 340, 7, dtype=np.int32)
    found = hyperparameters_at(config, numbers_of(config, 3), updates)
    progress = [update / 300 for update in updates.tolist()]
    expected = {
        "learning_rate": [learning_rate(config, 3, p) for p in progress],
        "epsilon": [exploration(config, p) for p in progress],
        "importance_exponent": [importance_exponent(0.4, p) for p in progress],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(numbers(getattr(found, name)), values, rtol=2e-5)


def test_the_numbers_of_a_training_can_be_read_off():
    step = {"optimizer": {"name": "sgd", "tabular_step": 0.5, "learning_rate": None}, "target": {"polyak": 0.75}}
    found = numbers_of(resolve(merge(step, {"replay": {"batch_size": 4}, "updates": 1_000})), actions=3)
    assert found.constant.learning_rate == 0.5 * 3 * 4 / 2
    assert found.constant.log_retention == np.float32(np.log(0.25))
    assert found.constant.clip_norm is None
    assert found.schedules.record == 2
    assert numbers_of(resolve({"target": {"polyak": 1.0}}), 3).constant.log_retention is None


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"discount": 0.5, "seed": 7, "updates": 9, "evaluation": {"every": 3}}, True),
        ({"optimizer": {"learning_rate": 0.5}}, True),
        ({"network": {"initial_value": 9.0}, "replay": {"start": 5}}, True),
        ({"target": {"polyak": 0.5}}, True),
        ({"target": {"polyak": 1.0}}, False),  # a hard copy
        ({"exploration": {"exploring_starts": 0.5}}, False),
        ({"optimizer": {"clip_norm": 1.0}}, False),
        ({"optimizer": {"schedule": "constant"}}, False),
        ({"replay": {"batch_size": 7}}, False),
        ({"network": {"hidden": [5]}}, False),
    ],
)
def test_only_shapes_loops_and_variants_are_part_of_a_program(changes, shared):
    one, other = (settings_of_program(resolve(values)) for values in (SETTINGS, merge(SETTINGS, changes)))
    assert (one == other) is shared
