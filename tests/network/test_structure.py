"""That what is taken for a network of ours is one, whatever else stands in its graph."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from deeptaxi.layers import ActionMask, Dueling, OneHotDense
from deeptaxi.network.build import build_q_network, known, scale_outputs, settings_of, sizes, streams, with_mask
from deeptaxi.network.structure import structure_of
from deeptaxi.network.tabulate import tabulate

S, A = 6, 3
MASK = np.eye(S, A) == 0


def table() -> keras.Model:
    network = build_q_network(S, A)
    network.set_weights([np.arange(S * A, dtype="float32").reshape(S, A)])
    return network


def on_state(*layers: keras.Layer) -> keras.Model:
    state = x = keras.Input((), dtype="int32")
    for layer in layers:
        x = layer(x)
    return keras.Model(state, x)


def one_hot(**arguments: object) -> OneHotDense:
    return OneHotDense(A, S, **{"use_bias": False, "kernel_initializer": "glorot_uniform", **arguments})


class Derived(OneHotDense):
    def call(self, inputs, training=None):
        return -super().call(inputs)


class OwnCall(keras.Model):
    def call(self, inputs, training=None):
        return -super().call(inputs)


def before() -> keras.Model:
    state, network = keras.Input((), dtype="int32"), table()
    return keras.Model(state, network.layers[-1](S - 1 - state))


def twice() -> keras.Model:
    state, layer = keras.Input((), dtype="int32"), one_hot()
    return keras.Model(state, layer(state) - 2 * layer(S - 1 - state))


def nested() -> keras.Model:
    state = keras.Input((), dtype="int32")
    return keras.Model(state, ops.negative(table()(state)))


def shifted_mask() -> keras.Model:
    network, layer = table(), ActionMask(S, A)
    masked = keras.Model(network.input, layer([S - 1 - network.input, network.output]))
    layer.mask.assign(MASK)
    return masked


def swapped_streams() -> keras.Model:
    state = keras.Input((), dtype="int32")
    value, advantage = OneHotDense(1, S, use_bias=False)(state), one_hot()(S - 1 - state)
    return keras.Model(state, Dueling()([value, advantage]))


def between() -> keras.Model:
    network = build_q_network(S, A, (4,))
    first, last = network.layers[1:]
    state = keras.Input((), dtype="int32")
    return keras.Model(state, last(ops.negative(first(state))))


OTHERS = {
    "after": lambda: keras.Model((network := table()).input, ops.negative(network.output)),
    "before": before,
    "beside": lambda: keras.Model((network := table()).input, network.output * (S - ops.expand_dims(network.input, 1))),
    "between": between,
    "twice": twice,
    "nested": nested,
    "derived": lambda: on_state(Derived(A, S, use_bias=False, kernel_initializer="glorot_uniform")),
    "own call": lambda: OwnCall((network := table()).input, network.output),
    "sequential": lambda: keras.Sequential([keras.Input((), dtype="int32"), one_hot(), keras.layers.ReLU()]),
    "activated": lambda: on_state(one_hot(activation="softmax")),
    "after the mask": lambda: keras.Model((network := with_mask(table(), MASK)).input, -network.output),
    "another mask": shifted_mask,
    "other streams": swapped_streams,
    "after the head": lambda: keras.Model((network := build_q_network(S, A, dueling=True)).input, 1 - network.output),
    "list": lambda: keras.Model((network := table()).input, [ops.negative(network.output)]),
    "dictionary": lambda: keras.Model((network := table()).input, {"q": ops.negative(network.output)}),
    "float64": lambda: on_state(one_hot(dtype="float64")),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_foreign_graph_is_recognized_and_called_instead_of_read(name):
    network = OTHERS[name]()
    assert structure_of(network) is None
    for ask in (sizes, settings_of, lambda one: scale_outputs(one, 2.0)):
        with pytest.raises(ValueError, match="expected a network of deeptaxi"):
            ask(network)
    assert streams(network) is None
    literal = keras.tree.flatten(network(np.arange(S, dtype="int32"), training=False))[0]
    np.testing.assert_allclose(tabulate(network, S), ops.convert_to_numpy(literal), rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("factors", [None, (2, 3)])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("hidden", [(), (4,), (4, 2)])
def test_built_and_loaded_networks_are_recognized(hidden, dueling, factors, masked, tmp_path):
    if factors and not hidden and not dueling:
        return
    network = build_q_network(S, A, hidden, dueling, factors=factors)
    network = with_mask(network, MASK) if masked else network
    network.save(tmp_path / "model.keras")
    for one in (network, keras.saving.load_model(tmp_path / "model.keras")):
        found = known(one)
        assert (found.first.states, found.actions, found.first.factors) == (S, A, factors)
        assert [layer.units for layer in found.hidden] == list(hidden)
        assert (found.dueling is not None, found.mask is not None) == (dueling, masked)
        assert (found.table is not None) == (not hidden and not dueling and not masked)


def test_the_weights_of_a_half_precision_table_do_not_stand_for_its_answers():
    network = on_state(one_hot(dtype="mixed_bfloat16"))
    assert known(network).table is None
    literal = ops.convert_to_numpy(ops.cast(network(np.arange(S)), "float32"))
    np.testing.assert_array_equal(tabulate(network), literal)
    assert not np.array_equal(literal, network.get_weights()[0])
