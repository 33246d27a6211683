from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from deeptaxi.backend import keras_backend
from deeptaxi.network.layers import OneHotDense, encode

NAN = float("nan")
KERNEL = np.array([[1.0, 10.0], [2.0, 20.0], [100.0, 0.0], [200.0, 0.0], [300.0, 0.5]], np.float32)
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def numbers(x):
    return ops.convert_to_numpy(x)


def factored(kernel, factors, **arguments):
    """Return a layer without bias that has these weights."""
    layer = OneHotDense(kernel.shape[1], int(np.prod(factors)), factors=factors, use_bias=False, **arguments)
    layer.build((None,))
    layer.set_weights([kernel])
    return layer


def test_a_state_is_encoded_by_the_row_of_each_of_its_parts():
    # State 4 of 2 · 3 is (1, 1): row 1 of the first two, and row 1 of the three that follow, 2 + 1.
    np.testing.assert_array_equal(numbers(encode(np.array([0, 4, 5]), (2, 3))), [[0, 2], [1, 3], [1, 4]])


def test_without_factors_a_state_is_its_own_row():
    np.testing.assert_array_equal(numbers(encode(np.array([3, 0]))), [[3], [0]])


@given(SIZES)
@settings(max_examples=25, deadline=None)
def test_the_rows_are_those_of_the_row_major_parts(sizes):
    states = np.arange(np.prod(sizes))
    offsets = np.cumsum([0, *sizes[:-1]])
    expected = np.stack(np.unravel_index(states, sizes), axis=-1) + offsets
    np.testing.assert_array_equal(numbers(encode(states, sizes)), expected)


def test_the_output_is_the_sum_of_the_rows_of_the_parts():
    # (0, 0) and (1, 2): rows 0 and 2 give 1 + 100; rows 1 and 4 give 2 + 300 and 20 + 0.5.
    rows = numbers(factored(KERNEL, (2, 3))(np.array([0, 5], np.int32)))
    np.testing.assert_array_equal(rows, [[101.0, 10.0], [302.0, 20.5]])


@given(SIZES, st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_it_is_a_dense_layer_on_the_one_hot_vectors_of_the_parts(sizes, seed):
    states = np.arange(np.prod(sizes), dtype=np.int32)
    kernel = np.random.default_rng(seed).normal(size=(sum(sizes), 3)).astype(np.float32)
    parts = np.unravel_index(states, sizes)
    one_hot = np.concatenate([np.eye(size)[part] for size, part in zip(sizes, parts, strict=True)], axis=1)
    np.testing.assert_allclose(numbers(factored(kernel, sizes)(states)), one_hot @ kernel, atol=1e-5)


def test_every_row_gets_the_gradient_of_all_the_states_that_share_its_part():
    # The sum of the outputs of states (0, 0), (0, 0) and (1, 2): row 0 is used twice, row 1 once.
    layer = factored(KERNEL, (2, 3))
    states = np.array([0, 0, 5], np.int32)
    _, (gradient,) = keras_backend.gradients(lambda: ops.sum(layer(states, training=True)), layer.trainable_variables)
    np.testing.assert_array_equal(numbers(gradient), [[2, 2], [1, 1], [2, 2], [0, 0], [1, 1]])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_state_out_of_range_gives_nan_and_no_other_does(compiled):
    # There are fewer rows than states: 5 is a state and not a row, −1 would be one by its remainders.
    layer = factored(KERNEL, (2, 3))
    call = keras_backend.compiled(layer.call, layer.variables) if compiled else layer
    rows = numbers(call(np.array([-1, 5, 6, -(2**31), 2**31 - 1, 0], np.int32)))
    np.testing.assert_array_equal(rows, [[NAN] * 2, [302.0, 20.5], [NAN] * 2, [NAN] * 2, [NAN] * 2, [101.0, 10.0]])


def test_a_layer_of_before_factors_still_loads():
    config = OneHotDense(2, 6).get_config()
    del config["factors"]
    layer = OneHotDense.from_config(config)
    layer.build((None,))
    assert layer.factors is None
    assert layer.kernel.shape == (6, 2)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ((2, 2), r"factors: expected a product of 6, received \[2, 2\]"),
        ((6, 0), "factor 2: expected .* received 0"),
        ((-2, -3), "factor 1: expected .* received -2"),
        ((2.0, 3), "factor 1: expected .* received 2.0"),
    ],
)
def test_factors_that_do_not_make_the_states_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        OneHotDense(2, 6, factors=factors)


def test_a_layer_of_one_factor_is_the_joint_layer():
    states = np.array([4, 0], np.int32)
    joint = OneHotDense(2, 5, use_bias=False)
    joint.build((None,))
    joint.set_weights([KERNEL])
    np.testing.assert_array_equal(numbers(factored(KERNEL, (5,))(states)), numbers(joint(states)))


def test_the_layer_survives_saving_with_its_factors(tmp_path):
    state = keras.Input((), dtype="int32")
    layer = factored(KERNEL, (2, 3), activation="tanh")
    model = keras.Model(state, layer(state))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.layers[-1].factors == (2, 3)
    states = np.arange(6, dtype=np.int32)
    np.testing.assert_array_equal(numbers(loaded(states)), numbers(model(states)))
