from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from deeptaxi.backend import keras_backend, xla
from deeptaxi.config import AGGREGATIONS, NetworkConfig
from deeptaxi.layers import encode
from deeptaxi.network import functional
from deeptaxi.network.build import build_q_network
from deeptaxi.network.tabulate import tabulate

STATES, ACTIONS, FACTORS = 6, 3, (3, 2)
HEADS = [{"dueling": False}, *({"dueling": True, "aggregation": name} for name in AGGREGATIONS)]
NETWORKS = [NetworkConfig(hidden=hidden, **head) for hidden in ((), (8,), (8, 5)) for head in HEADS]
NETWORKS += [NetworkConfig(hidden=(8,), activation="tanh"), NetworkConfig(hidden=(4,), activation="elu", dueling=False)]
FACTORED = [NetworkConfig(hidden=(), encoding="factored"), NetworkConfig(hidden=(8, 5), encoding="factored")]
everywhere = pytest.mark.parametrize(
    "config", NETWORKS + FACTORED, ids=lambda config: f"{config.hidden}-{config.kind}-{config.aggregation}"
)


def factors(config):
    return FACTORS if config.encoding == "factored" else None


def network(config, seed=0):
    """Build the network with weights from a seed, biases that are not 0 included."""
    built = build_q_network(
        STATES, ACTIONS, config.hidden, config.dueling, config.aggregation, config.activation, 0, factors(config)
    )
    rng = np.random.default_rng(seed)
    built.set_weights([rng.normal(size=weight.shape) for weight in built.get_weights()])
    return built


@everywhere
def test_the_pure_function_computes_the_q_values_of_the_model(config):
    model = network(config)
    kernel, rest = functional.weights_of(model, config)
    z = kernel[ops.convert_to_numpy(encode(np.arange(STATES), factors(config)))].sum(axis=1)
    parts = functional.unravel(rest, functional.shapes(config, ACTIONS))
    found = ops.convert_to_numpy(functional.q_values(z, parts, config))
    np.testing.assert_allclose(found, tabulate(model), rtol=1e-5, atol=1e-5)


@everywhere
def test_weights_are_copied_between_networks_unchanged(config):
    one, other = network(config, seed=1), network(config, seed=2)
    functional.assign(other, config, functional.weights_of(one, config))
    for old, new in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_weights_of_a_small_network_can_be_laid_out_by_hand():
    # Kernels transposed, one after the other; the head's columns are V, A_0, A_1, A_2, and its biases follow.
    model, config = build_q_network(2, 3, (2,), dueling=True), NetworkConfig(hidden=(2,))
    model.get_layer("hidden_0").set_weights([np.array([[1, 2], [3, 4]]), np.array([5, 6])])
    model.get_layer("value").set_weights([np.array([[7], [8]]), np.array([9])])
    model.get_layer("advantage").set_weights([np.array([[10, 11, 12], [13, 14, 15]]), np.array([16, 17, 18])])
    weights = functional.weights_of(model, config)
    assert weights.kernel.tolist() == [[1, 2], [3, 4]]
    assert weights.rest.tolist() == [5, 6, 7, 8, 10, 13, 11, 14, 12, 15, 9, 16, 17, 18]
    assert functional.shapes(config, 3) == [(2,), (4, 2), (4,)]


def test_a_q_table_network_has_no_dense_weights():
    config = NetworkConfig(hidden=(), dueling=False)
    assert functional.shapes(config, 3) == []
    assert functional.weights_of(network(config), config).rest.shape == (0,)


def test_unravel_is_the_inverse_of_ravel():
    parts = [np.arange(6.0).reshape(2, 3), np.array([9.0]), np.zeros((2, 0)), np.arange(2.0)]
    again = functional.unravel(functional.ravel(parts), [part.shape for part in parts])
    for old, new in zip(parts, again, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(new), old)
    assert functional.ravel([]).shape == (0,)


def test_the_gradient_of_the_product_is_that_of_a_matrix_product():
    rng = np.random.default_rng(0)
    x, kernel, upstream = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 4), (3, 4), (5, 3)))

    def step(x, kernel, upstream):
        result, back = xla.pullback(functional.product, (x, kernel))
        return result, *back(upstream)

    found = [ops.convert_to_numpy(array) for array in keras_backend.compiled(step, [])(x, kernel, upstream)]
    # Q = X Kᵀ with dE/dQ = G: dE/dX = G K, dE/dK = Gᵀ X.
    for one, other in zip(found, (x @ kernel.T, upstream @ kernel, upstream.T @ x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_relu_and_its_gradient_are_those_of_keras_to_the_bit():
    x = np.array([-np.inf, -2, -2e-38, -0.0, 0, 2e-38, 2, np.inf, np.nan], np.float32)
    upstream = np.array([3, np.nan, -np.inf, 5, 6, 7, -0.0, np.nan, 10], np.float32)

    def step(x, upstream):
        found = []
        for function in (functional.relu, ops.relu):
            result, back = xla.pullback(function, (x,))
            found += [result, *back(upstream)]
        return tuple(found)

    found = [ops.convert_to_numpy(array) for array in keras_backend.compiled(step, [])(x, upstream)]
    for one, other in zip(found[:2], found[2:], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found[0], np.maximum(x, 0))
    np.testing.assert_array_equal(found[1], [0, 0, 0, 0, 0, 7, -0.0, np.nan, 0])
