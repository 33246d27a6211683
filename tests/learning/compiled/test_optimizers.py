from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from deeptaxi.learning.compiled.optimizers import Optimizer, power
from tests.learning.helpers import numbers

CASES = [
    pytest.param("sgd", {}, id="sgd"),
    pytest.param("sgd", {"momentum": 0.0, "nesterov": True}, id="nesterov-without-momentum"),
    pytest.param("sgd", {"momentum": 0.9}, id="momentum"),
    pytest.param("sgd", {"momentum": 0.9, "nesterov": True}, id="nesterov"),
    pytest.param("adam", {}, id="adam"),
    pytest.param("adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.01}, id="adam-options"),
    pytest.param("adam", {"beta_1": 0.0}, id="adam-without-momentum"),
]


def step(optimizer, weight, gradient, slots, rate, update):
    """Return the weight and its slots after an update."""
    slots = optimizer.slots_after(slots, gradient, rate)
    return weight + optimizer.step(slots, gradient, rate, update), slots


@pytest.mark.parametrize(("name", "options"), CASES)
def test_many_steps_agree_with_keras(name, options):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3)).astype(np.float32)
    optimizer = Optimizer(name, options)
    weight, slots = start, tuple(np.zeros_like(start) for _ in optimizer.decays)
    theirs = keras.Variable(start)
    oracle = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[name](learning_rate=0.05, **options)
    for update in range(1, 101):
        gradient = rng.normal(size=start.shape).astype(np.float32) * (rng.random(start.shape) < 0.5)
        weight, slots = step(optimizer, weight, gradient, slots, 0.05, update)
        oracle.apply([ops.convert_to_tensor(gradient)], [theirs])
        if update in (1, 2, 100):
            np.testing.assert_allclose(numbers(weight), numbers(theirs), rtol=1e-5, atol=1e-5)


def test_the_first_steps_of_momentum_are_known():
    # g = 1 and η = 1, from 0, μ = ½: u = −1, then −½ − 1 = −1.5; so w = −1, −2.5.
    # Nesterov: w ← w + ½ u − 1: −1.5, then −1.5 − 0.75 − 1 = −3.25.
    for nesterov, expected in ((False, [-1.0, -2.5]), (True, [-1.5, -3.25])):
        optimizer = Optimizer("sgd", {"momentum": 0.5, "nesterov": nesterov})
        one, weight, slots, seen = np.ones(1, np.float32), np.zeros(1, np.float32), (np.zeros(1, np.float32),), []
        for update in (1, 2):
            weight, slots = step(optimizer, weight, one, slots, 1.0, update)
            seen.append(float(weight[0]))
        assert seen == expected


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate():
    gradient = np.array([5.0, -0.001], np.float32)
    zeros = np.zeros(2, np.float32)
    weight, _ = step(Optimizer("adam", {}), zeros, gradient, (zeros, zeros), 0.1, 1)
    np.testing.assert_allclose(numbers(weight), [-0.1, 0.1], rtol=1e-2)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_slots_of_idle_rows_decay_as_with_zero_gradients(name, options):
    # Of three rows the first has been idle for no update, the second for one, the third for seven.
    rng = np.random.default_rng(1)
    optimizer = Optimizer(name, options)
    slots = tuple(rng.random((3, 2), np.float32) for _ in optimizer.decays)
    found = [numbers(slot) for slot in optimizer.decayed(slots, np.array([0, 1, 7], np.int32))]
    nothing = np.zeros((3, 2), np.float32)
    for row, idle in enumerate((0, 1, 7)):
        expected = slots
        for update in range(1, idle + 1):
            _, expected = step(optimizer, nothing, nothing, expected, 0.1, update)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[row], numbers(other)[row], rtol=1e-5)


@pytest.mark.parametrize("base", [0.0, 0.5, 0.99, 1.0])
def test_power_agrees_with_python(base):
    exponents = np.array([0, 1, 2, 10, 500], np.float32)
    np.testing.assert_allclose(numbers(power(base, exponents)), base**exponents, rtol=1e-4, atol=1e-30)
