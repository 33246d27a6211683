from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.errors import UsageError
from deeptaxi.network.build import build_q_network, with_mask
from deeptaxi.network.plain import joining_matrix, plain_network
from deeptaxi.network.tabulate import tabulate

S, A = 24, 3
MASK = np.arange(S * A).reshape(S, A) % 4 != 0
KINDS = {
    "q-table": {},
    "mlp": {"hidden": (8, 5), "activation": "tanh"},
    "dueling": {"hidden": (8,), "dueling": True},
    "dueling none": {"hidden": (8,), "dueling": True, "aggregation": "none"},
    "dueling max": {"hidden": (8,), "dueling": True, "aggregation": "max"},
    "dueling tables": {"dueling": True},
    "factored": {"hidden": (8,), "dueling": True, "factors": (2, 3, 4)},
    "factored linear": {"dueling": True, "factors": (2, 3, 4)},
}


def shaken(masked: bool = False, **kind: object) -> keras.Model:
    """A network all of whose weights, biases too, are large random numbers."""
    network = build_q_network(S, A, seed=1, **kind)
    rng = np.random.default_rng(2)
    network.set_weights([rng.normal(0, 3, weight.shape).astype("float32") for weight in network.get_weights()])
    return with_mask(network, MASK) if masked else network


def all_states(network: keras.Model) -> np.ndarray:
    return keras.ops.convert_to_numpy(network(np.arange(S)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_plain_network_is_the_same_function_without_custom_layers(kind: dict[str, object], masked: bool) -> None:
    network = shaken(masked, **kind)
    plain, expected = plain_network(network), tabulate(network)
    found = all_states(plain)
    assert np.array_equal(np.isneginf(found), np.isneginf(expected))
    finite = np.isfinite(expected)
    assert np.abs(found[finite] - expected[finite]).max() <= 1e-6 * np.abs(expected[finite]).max()
    # Keras' addition takes a second operand of B rows for a bias where there are as many actions.
    np.testing.assert_allclose(keras.ops.convert_to_numpy(plain(np.arange(A))), found[:A], rtol=1e-5, atol=1e-5)
    assert all(type(layer).__module__.startswith("keras.") for layer in plain.layers)


def test_a_linear_head_becomes_one_dense_layer_and_two_tables_become_one() -> None:
    names = [type(layer).__name__ for layer in plain_network(shaken(**KINDS["dueling"])).layers]
    assert names == ["InputLayer", "Embedding", "Activation", "Dense"]
    names = [type(layer).__name__ for layer in plain_network(shaken(**KINDS["dueling tables"])).layers]
    assert names == ["InputLayer", "Embedding"]


def test_a_dueling_head_folded_by_hand() -> None:
    # Q = V + A - mean(A): V = 10, A = (1, 2, 6), mean 3
    assert (np.array([10, 1, 2, 6]) @ joining_matrix(3, "mean")).tolist() == pytest.approx([8, 9, 13])
    assert (np.array([10, 1, 2, 6]) @ joining_matrix(3, "none")).tolist() == [11, 12, 16]


@given(st.integers(1, 64), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_joining_matrix_gives_every_action_the_value_and_takes_the_mean_off(actions: int, seed: int) -> None:
    value, *advantage = np.random.default_rng(seed).normal(size=actions + 1)
    found = np.array([value, *advantage]) @ joining_matrix(actions, "mean")
    np.testing.assert_allclose(found, value + advantage - np.mean(advantage), atol=1e-12)


def test_streams_with_an_activation_are_written_out_not_folded() -> None:
    from deeptaxi.layers import Dueling, OneHotDense

    state = keras.Input((), dtype="int32")
    x = OneHotDense(8, S, "tanh")(state)
    value, advantage = keras.layers.Dense(1, "tanh")(x), keras.layers.Dense(A)(x)
    network = keras.Model(state, Dueling()([value, advantage]))
    np.testing.assert_allclose(all_states(plain_network(network)), all_states(network), atol=1e-6)


def test_an_unknown_layer_is_refused_by_name() -> None:
    class Mine(keras.layers.Dense):
        pass

    network = build_q_network(S, A, (8,))
    strange = keras.Model(network.input, Mine(A, name="odd")(network.output))
    with pytest.raises(UsageError, match="layer odd is a Mine"):
        plain_network(strange)
