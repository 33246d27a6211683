from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from deeptaxi.network.build import (
    build_q_network,
    scale_outputs,
    settings_of,
    sizes,
    streams,
    weights_digest,
    with_mask,
    without_mask,
)
from deeptaxi.network.tabulate import BLOCK, tabulate

NETWORKS = {
    "q-table": {},
    "mlp": {"hidden": (4, 2), "activation": "tanh"},
    "dueling": {"hidden": (4,), "dueling": True},
    "dueling-table": {"dueling": True, "aggregation": "max"},
    "factored": {"hidden": (4,), "dueling": True, "factors": (5, 1)},
    "factored-mlp": {"hidden": (4, 2), "factors": (1, 5)},
    "factored-table": {"dueling": True, "factors": (1, 5, 1)},
}


def with_random_weights(network: keras.Model) -> keras.Model:
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(size=weight.shape) for weight in network.weights])
    return network


def test_the_only_weight_of_the_q_table_network_is_the_q_table():
    network = build_q_network(3, 2)
    (table,) = network.weights
    np.testing.assert_array_equal(ops.convert_to_numpy(table), np.zeros((3, 2)))
    network.set_weights([np.array([[1, 2], [3, 4], [5, 6]])])
    q_values = network(np.array([2, 0], np.int32))
    np.testing.assert_array_equal(ops.convert_to_numpy(q_values), [[5, 6], [1, 2]])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("q-table", 5 * 3),
        ("mlp", (5 * 4 + 4) + (4 * 2 + 2) + (2 * 3 + 3)),
        ("dueling", (5 * 4 + 4) + (4 * 1 + 1) + (4 * 3 + 3)),
        ("dueling-table", 5 * 1 + 5 * 3),
        ("factored", (6 * 4 + 4) + (4 * 1 + 1) + (4 * 3 + 3)),
        ("factored-mlp", (6 * 4 + 4) + (4 * 2 + 2) + (2 * 3 + 3)),
        ("factored-table", 7 * 1 + 7 * 3),
    ],
)
def test_the_number_of_parameters_is_that_of_the_layers(name, parameters):
    assert build_q_network(5, 3, **NETWORKS[name]).count_params() == parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_scaling_the_outputs_multiplies_every_q_value(name):
    network = with_random_weights(build_q_network(5, 3, **NETWORKS[name]))
    before = tabulate(network)
    scale_outputs(network, 4.0)  # a power of two, which rounds nothing
    np.testing.assert_array_equal(tabulate(network), 4 * before)
    scale_outputs(network, 0.1)
    np.testing.assert_allclose(tabulate(network), 0.4 * before, rtol=1e-4, atol=1e-6)


def kernels(**arguments):
    """Return the kernels of a network with layers of equal shapes."""
    return [weight for weight in build_q_network(4, 4, hidden=(4, 4), **arguments).get_weights() if weight.ndim == 2]


@pytest.mark.parametrize("dueling", [False, True])
def test_the_seed_alone_decides_the_initial_weights(dueling):
    first, again, other = (kernels(dueling=dueling, seed=seed) for seed in (1, 1, 2))
    for one, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, different)


def test_joint_layers_start_from_glorots_uniform_numbers():
    # As they did before there were factors: old seeds keep their weights.
    network = build_q_network(5, 3, hidden=(4,), dueling=True, seed=7)
    seeds = np.random.SeedSequence(7).generate_state(3).tolist()
    for weight, seed, shape in zip(network.get_weights()[::2], seeds, [(5, 4), (4, 1), (4, 3)], strict=True):
        expected = keras.initializers.GlorotUniform(seed=seed)(shape)
        np.testing.assert_array_equal(weight, ops.convert_to_numpy(expected))


def test_a_factored_layer_starts_with_the_variance_of_its_active_inputs():
    # Of the 900 rows 2 are summed: each is uniform in ± √(6 / (2 + 400)), of variance 2/402.
    kernel = build_q_network(450**2, 2, hidden=(400,), factors=(450, 450)).get_weights()[0]
    assert kernel.shape == (900, 400)
    assert np.abs(kernel).max() <= np.sqrt(6 / 402)
    assert kernel.var() == pytest.approx(2 / 402, rel=0.02)


def test_a_factored_q_table_is_refused():
    with pytest.raises(ValueError, match="one row of weights per state"):
        build_q_network(6, 2, factors=(2, 3))


@pytest.mark.parametrize("name", ["q-table", "dueling-table", "factored-table"])
def test_tables_start_at_the_initial_value(name):
    network = build_q_network(5, 3, **NETWORKS[name], initial_value=-7.5)
    np.testing.assert_array_equal(tabulate(network), np.full((5, 3), -7.5))


@pytest.mark.parametrize("factors", [None, (2, 3)], ids=["joint", "factored"])
@pytest.mark.parametrize("dueling", [False, True])
def test_with_hidden_layers_the_initial_value_shifts_all_q_values(dueling, factors):
    arguments = {"hidden": (8, 4), "dueling": dueling, "factors": factors, "seed": 3}
    low, high = (tabulate(build_q_network(6, 4, **arguments, initial_value=value)) for value in (0.0, 20.0))
    np.testing.assert_allclose(high, low + 20, atol=1e-5)
    assert low.std() > 0


def test_no_two_layers_start_alike():
    one, two, three = kernels()
    assert not np.array_equal(one, two)
    assert not np.array_equal(two, three)
    assert not np.array_equal(one, three)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_q_values_are_those_of_a_direct_call(name):
    network = with_random_weights(build_q_network(5, 3, **NETWORKS[name]))
    q_values = tabulate(network)
    assert q_values.dtype == np.float32
    np.testing.assert_array_equal(q_values, ops.convert_to_numpy(network(np.arange(5, dtype=np.int32))))


@pytest.mark.parametrize("states", [BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_all_q_values_come_in_order_from_several_blocks(states):
    network = with_random_weights(build_q_network(states, 2))
    np.testing.assert_array_equal(tabulate(network), network.get_weights()[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_numbers_of_states_and_actions_are_read_from_the_network(name):
    network = build_q_network(5, 3, **NETWORKS[name])
    assert sizes(network) == (5, 3)
    assert sizes(with_mask(network, np.ones((5, 3), np.bool_))) == (5, 3)


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), id="no-one-hot-dense"),
        pytest.param(lambda: keras.Sequential([keras.layers.Dense(3)]), id="not-built"),
        pytest.param(
            lambda: keras.Model((q_network := build_q_network(5, 3)).input, [q_network.output, q_network.output]),
            id="two-outputs",
        ),
        pytest.param(
            lambda: keras.Model((q_network := build_q_network(5, 3)).input, ops.max(q_network.output, axis=-1)),
            id="one-value-a-state",
        ),
    ],
)
def test_a_model_with_another_shape_is_refused(foreign):
    with pytest.raises(ValueError, match="expected a network of deeptaxi"):
        sizes(foreign())


def test_a_mask_follows_the_network_and_shares_its_weights():
    network = build_q_network(2, 2)
    masked = with_mask(network, np.array([[True, False], [True, True]]))
    network.set_weights([np.array([[1, 2], [3, 4]])])
    np.testing.assert_array_equal(tabulate(masked), [[1, -np.inf], [3, 4]])
    assert [weight.shape for weight in masked.trainable_weights] == [(2, 2)]


def test_a_mask_can_be_taken_off_again():
    network, mask = with_random_weights(build_q_network(5, 3, (4,), dueling=True)), np.eye(5, 3) == 0
    below, found = without_mask(with_mask(network, mask))
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(tabulate(below), tabulate(network))
    assert without_mask(network) == (network, None)


def test_the_streams_are_what_the_head_joins():
    network, states = with_random_weights(build_q_network(5, 3, (4,), dueling=True)), np.arange(5)
    value, advantage = (ops.convert_to_numpy(x) for x in streams(network)(states))
    assert (value.shape, advantage.shape) == ((5, 1), (5, 3))
    joined = value + advantage - advantage.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(joined, tabulate(network), atol=1e-6)
    assert streams(build_q_network(5, 3, (4,))) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_the_settings_are_read_from_the_network(name):
    asked = NETWORKS[name]
    found = settings_of(build_q_network(5, 3, **asked))
    assert (found["hidden"], found["dueling"]) == (list(asked.get("hidden", ())), asked.get("dueling", False))
    assert found["encoding"] == ("factored" if "factors" in asked else "joint")
    assert found.get("activation") == (asked.get("activation", "relu") if found["hidden"] else None)
    assert found.get("aggregation") == (asked.get("aggregation", "mean") if found["dueling"] else None)


def test_the_digest_is_the_sha256_of_the_weights():
    # head -c 16 /dev/zero | sha256sum
    zeros = "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb"
    assert weights_digest(build_q_network(2, 2)) == zeros

    # 1.0 is 3f800000, −2.0 is c0000000, the lowest byte first; the mask follows as a weight of its own.
    network = build_q_network(1, 2)
    network.set_weights([np.array([[1.0, -2.0]])])
    masked = with_mask(network, np.array([[True, False]]))
    weights = bytes.fromhex("0000803f 000000c0")
    mask = bytes.fromhex("0000803f 00000000")
    assert weights_digest(network) == hashlib.sha256(weights).hexdigest()
    assert weights_digest(masked) == hashlib.sha256(weights + mask).hexdigest()


@pytest.mark.slow
def test_a_saved_network_loads_in_a_process_that_knows_only_its_layers(tmp_path):
    network = with_random_weights(build_q_network(5, 3, hidden=(4,), dueling=True))
    mask = np.random.default_rng(1).random((5, 3)) < 0.7
    masked = with_mask(network, mask)
    masked.save(tmp_path / "model.keras")
    code = (
        "import keras, numpy, deeptaxi.layers\n"
        "network = keras.saving.load_model('model.keras')\n"
        "numpy.save('q.npy', keras.ops.convert_to_numpy(network(numpy.arange(5, dtype='int32'))))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=dict(os.environ), check=True)
    q_values = np.load(tmp_path / "q.npy")
    np.testing.assert_array_equal(np.isfinite(q_values), mask)
    np.testing.assert_array_equal(q_values, tabulate(masked))


def test_the_weights_of_a_q_table_are_the_outputs_of_its_network():
    network = build_q_network(7, 3, (), dueling=False, seed=1)
    answers = keras.ops.convert_to_numpy(network(np.arange(7, dtype="int32")))
    assert np.array_equal(tabulate(network), answers)
