"""How many states a network is asked at a time, and which networks are not asked, or not believed."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from deeptaxi.errors import DeepTaxiError
from deeptaxi.layers import Dueling, OneHotDense
from deeptaxi.network import tabulate as module
from deeptaxi.network.build import build_q_network, with_mask
from deeptaxi.network.tabulate import BLOCK, BUDGET, block_size, tabulate, tabulate_streams

S, A = 16, 4


def on_table(function, dtype="int32"):
    """Return a Keras model: what `function` makes of the rows of a table."""
    state = keras.Input((), dtype=dtype)
    return keras.Model(state, function(keras.layers.Embedding(S, A, embeddings_initializer="normal")(state)))


def wide(count):
    return lambda x: ops.max(keras.layers.RepeatVector(count)(x), axis=1)


@pytest.mark.parametrize("count", [1_000, 500_000])
def test_a_block_takes_no_more_than_the_budget(count):
    block = block_size(on_table(wide(count)), S)
    assert 1 <= block < BLOCK
    assert block * count * A * 4 <= BUDGET


def test_training_networks_are_called_in_the_usual_blocks():
    for hidden in ((), (64,), (512, 512)):
        assert block_size(build_q_network(S, A, hidden, dueling=True), S) == BLOCK or hidden == (512, 512)


def test_the_scores_of_attention_count_as_memory():
    layer = keras.layers.Attention()
    narrow = block_size(on_table(lambda x: wide(2_000)(x)), S)
    model = on_table(lambda x: ops.max(layer([y := keras.layers.RepeatVector(2_000)(x), y]), axis=1))
    assert block_size(model, S) < narrow / 100


@pytest.mark.parametrize("where", ["outside", "within"])
def test_a_network_too_wide_for_one_state_is_not_run(where):
    model = on_table(wide(40_000_000))
    if where == "within":
        state = keras.Input((), dtype="int32")
        model = keras.Model(state, model(state))
    with pytest.raises(DeepTaxiError, match="MiB of numbers for a single state"):
        tabulate(model, S)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.repeat(x, 10**6, axis=0),
        lambda x: ops.reshape(ops.tile(x, (1, 10)), (-1, A)),
        lambda x: ops.matmul(ops.matmul(x, ops.transpose(x)), x),
        lambda x: x - ops.mean(x, axis=0, keepdims=True),
        lambda x: ops.max(ops.repeat(x, 3, axis=0)) + x,
    ],
    ids=["repeat", "reshape", "transpose", "mean", "max"],
)
def test_axis_0_is_one_row_a_state(function):
    with pytest.raises(DeepTaxiError, match="not one row per state"):
        tabulate(on_table(function), S)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.flip(x, axis=0),
        lambda x: ops.sort(x, axis=0),
        lambda x: ops.softmax(x, axis=0),
        lambda x: ops.cumsum(x, axis=0),
    ],
    ids=["flip", "sort", "softmax", "cumsum"],
)
def test_a_network_that_mixes_states_is_refused(function):
    with pytest.raises(DeepTaxiError, match="not a function of the state"):
        tabulate(on_table(function), S)


def test_a_network_that_draws_random_numbers_is_refused():
    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + keras.random.normal(ops.shape(x))

    with pytest.raises(DeepTaxiError, match="or called again"):
        tabulate(on_table(Noise()), S)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda x: x > 0, "gives bool"),
        (lambda x: ops.cast(x, "complex64"), "gives complex64"),
        (lambda x: OneHotDense(A, S, activation="glu")(ops.argmax(x, axis=-1)), r"gives float32 \[16, 2\]"),
    ],
    ids=["bool", "complex", "shape"],
)
def test_a_network_without_q_values_is_refused(function, part):
    with pytest.raises(DeepTaxiError, match=f"{part}.*Q values .* of real numbers were expected"):
        tabulate(on_table(function), S)


def test_a_network_that_fails_when_called_is_refused_in_one_line():
    state = keras.Input((), dtype="int32")
    model = keras.Model(state, keras.layers.Embedding(S // 2, A)(state))
    with pytest.raises(DeepTaxiError, match=r"cannot be run: \w+: indices\[8\] = 8 is not in") as caught:
        tabulate(model, S)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(("dtype", "states"), [("int8", 129), ("float16", 2_050), ("bool", 3)])
def test_an_input_that_cannot_distinguish_states_is_refused(dtype, states):
    with pytest.raises(DeepTaxiError, match=f"input is {dtype}, which cannot tell"):
        module.check_input(keras.KerasTensor((None,), dtype=dtype), states)
    module.check_input(keras.KerasTensor((None, states), dtype=dtype), states)  # a one-hot vector


def test_states_that_float32_would_merge_stay_apart():
    state = keras.Input((), dtype="int32")
    rows = keras.layers.Embedding(2, 2, dtype="float64")
    model = keras.Model(state, rows(state))
    rows.set_weights([np.array([[1.0, 1.0 + 1e-12], [0.0, 1.0]])])
    assert tabulate(model, 2).argmax(axis=1).tolist() == [1, 1]


def test_a_one_hot_vector_is_fed_in_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 3)
    model = keras.Sequential([keras.Input((S,)), keras.layers.Dense(A)])
    np.testing.assert_allclose(tabulate(model, S), model.get_weights()[0] + model.get_weights()[1], rtol=1e-6)


def by_hand(head):
    """Return a dueling network of Keras' own layers below its head."""
    state = keras.Input((), dtype="int32")
    hidden = keras.layers.Embedding(S, 5)(state)
    return keras.Model(state, head([keras.layers.Dense(1)(hidden), keras.layers.Dense(A)(hidden)]))


DUELING = {
    "built": lambda: build_q_network(S, A, (5,), dueling=True),
    "masked": lambda: with_mask(build_q_network(S, A, (5,), dueling=True), np.eye(S, A) == 0),
    "factored": lambda: build_q_network(S, A, dueling=True, factors=(4, 4)),
    "by hand": lambda: by_hand(Dueling()),
    "masked by hand": lambda: with_mask(by_hand(Dueling()), np.eye(S, A) == 0),
    "sequential": lambda: keras.Sequential([keras.Input((), dtype="int32"), by_hand(list), Dueling()]),
}


@pytest.mark.parametrize("name", DUELING)
def test_the_streams_of_all_states_are_what_any_dueling_head_joins(name):
    network = DUELING[name]()
    for weight in network.trainable_weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    value, advantage = tabulate_streams(network, S)
    assert (value.shape, advantage.shape) == ((S,), (S, A))
    q_values = tabulate(network, S)
    joined = value[:, None] + advantage - advantage.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(np.where(np.isneginf(q_values), q_values, joined), q_values, atol=1e-5)
    assert np.isneginf(q_values).any() == ("masked" in name)


def test_a_network_without_a_dueling_head_at_its_end_has_no_streams():
    dueling = build_q_network(S, A, dueling=True)
    for network in (
        build_q_network(S, A),
        with_mask(build_q_network(S, A), np.eye(S, A) == 0),
        keras.Model(dueling.input, ops.negative(dueling.output)),
    ):
        assert tabulate_streams(network, S) is None
