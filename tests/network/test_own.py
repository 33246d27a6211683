from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from deeptaxi.errors import UsageError
from deeptaxi.network.encodings import Parts, encode
from deeptaxi.network.own import copy_network, differs_in_training, own_network, scale_q_values, streams_of
from deeptaxi.network.tabulate import tabulate_streams
from tests.network import own_models as own

STATES, ACTIONS = 6, 3
PARTS = Parts((2, 3), (0, 1))
ALL = np.arange(STATES, dtype=np.int32)


def adapt(model, name="it", states=STATES, actions=ACTIONS):
    return own_network(model, (states, actions), PARTS, name)


def answers(network, states=ALL):
    return ops.convert_to_numpy(network(states, training=False))


def dense_on(shape, dtype="float32"):
    flat = [layers.Flatten()] if len(shape) > 1 else []
    return keras.Sequential([keras.Input(shape, dtype=dtype), *flat, layers.Dense(4, "tanh"), layers.Dense(ACTIONS)])


@pytest.mark.parametrize(
    "shape", [(1,), (STATES,), (1, STATES), (2,), (5,)], ids=["number", "one-hot", "window", "parts", "parts-hot"]
)
def test_a_model_sees_a_state_as_its_input_asks(shape):
    model = dense_on(shape)
    expected = answers(model, encode(ALL, shape, STATES, PARTS).astype(np.float32))
    network = adapt(model)
    assert network.input.shape == (None,)
    np.testing.assert_allclose(answers(network), expected, rtol=1e-6)


def test_state_numbers_are_passed_on_as_they_are():
    model = own.build(STATES, ACTIONS)
    network = adapt(model)
    np.testing.assert_array_equal(answers(network), answers(model))
    assert [type(layer) for layer in network.layers] == [type(layer) for layer in model.layers]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_value_and_advantages_are_joined_by_the_mean(swapped):
    model = own.two_streams(STATES, ACTIONS)
    value, advantage = (ops.convert_to_numpy(x) for x in model(ALL))
    if swapped:
        model = keras.Model(model.input, model.output[::-1])
    network = adapt(model)
    np.testing.assert_allclose(
        answers(network), value + advantage - advantage.mean(axis=1, keepdims=True), rtol=1e-5, atol=1e-6
    )
    streams, aggregation = streams_of(network)
    assert aggregation == "mean"
    np.testing.assert_array_equal(ops.convert_to_numpy(streams(ALL)[1]), advantage)


def test_a_subclassed_model_is_one_layer_whether_it_was_called_or_not():
    called = own.Subclassed(STATES, ACTIONS)
    called(ALL)
    np.testing.assert_array_equal(answers(adapt(called)), answers(called))
    assert answers(adapt(own.Subclassed(STATES, ACTIONS))).shape == (STATES, ACTIONS)
    unbuilt = keras.Sequential([layers.Dense(4), layers.Dense(ACTIONS)])
    assert adapt(unbuilt).count_params() == STATES * 4 + 4 + 4 * ACTIONS + ACTIONS


def test_the_model_itself_is_left_as_it_is():
    model = own.regularized(STATES, ACTIONS)
    before, nodes = model.get_weights(), [len(layer._inbound_nodes) for layer in model.layers]
    network = adapt(model)
    network.trainable_variables[0].assign(network.trainable_variables[0] + 1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes


def test_a_copy_has_all_variables_and_shares_none():
    network = adapt(own.regularized(STATES, ACTIONS))
    copy = copy_network(network)
    assert len(network.variables) > len(network.weights)  # the state of the dropout's generator
    for one, other in zip(network.variables, copy.variables, strict=True):
        assert one is not other
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


def test_layers_without_a_seed_get_one_from_the_seed():
    def seeds(seed):
        network = own_network(own.regularized(STATES, ACTIONS), (STATES, ACTIONS), PARTS, "it", seed)
        return [layer.seed for layer in network.layers if isinstance(layer, layers.Dropout)]

    assert seeds(0) == seeds(0)
    assert None not in seeds(0)
    assert seeds(0) != seeds(1)


@pytest.mark.parametrize("build", [own.build, own.two_streams])
def test_q_values_are_scaled_by_layers_on_top(build):
    network = adapt(build(STATES, ACTIONS))
    scaled = scale_q_values(network, 4.0)
    np.testing.assert_array_equal(answers(scaled), 4 * answers(network))
    np.testing.assert_array_equal(answers(scale_q_values(scaled, 2.0)), 8 * answers(network))
    again = scale_q_values(copy_network(scaled), 0.25)
    assert [layer.name for layer in again.layers] == [layer.name for layer in network.layers]
    assert scale_q_values(network, 1.0) is network


def test_the_streams_of_a_scaled_network_are_scaled():
    network = adapt(own.two_streams(STATES, ACTIONS))
    plain, scaled = (tabulate_streams(one, STATES) for one in (network, scale_q_values(network, 4.0)))
    np.testing.assert_array_equal(scaled.value, 4 * plain.value)
    np.testing.assert_array_equal(scaled.advantage, 4 * plain.advantage)


def test_what_differs_while_it_is_fitted_is_told_apart():
    assert differs_in_training(adapt(own.regularized(STATES, ACTIONS)), ALL)
    assert differs_in_training(adapt(own.normalized(STATES, ACTIONS)), ALL)
    assert differs_in_training(adapt(own.penalized(STATES, ACTIONS)), ALL)
    assert not differs_in_training(adapt(own.one_hot(STATES, ACTIONS)), ALL)


def with_layers(*between):
    return keras.Sequential([keras.Input((STATES,)), layers.Dense(4), *between, layers.Dense(ACTIONS)])


def frozen():
    model = own.one_hot(STATES, ACTIONS)
    model.trainable = False
    return model


def of_two_inputs():
    one, other = keras.Input((STATES,)), keras.Input((STATES,))
    return keras.Model([one, other], layers.Dense(ACTIONS)(one + other))


def of_nan():
    return keras.Sequential([keras.Input((STATES,)), layers.Dense(ACTIONS, bias_initializer=nan)])


def nan(shape, dtype=None):
    return ops.full(shape, float("nan"), dtype)


keras.saving.register_keras_serializable(own.PACKAGE)(nan)


def test_a_class_that_another_has_replaced_is_told_apart():
    def register():
        @keras.saving.register_keras_serializable(own.PACKAGE)
        class Replaced(layers.Layer):
            def call(self, x):
                return x

        return Replaced

    model = with_layers(register()())
    register()
    with pytest.raises(UsageError, match="another class has been registered as own_models>Replaced since"):
        adapt(model)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: None, ["it is None: expected a Keras model"]),
        (lambda: layers.Dense(3), ["it is an object of type Dense: expected a Keras model"]),
        (lambda: dense_on((7,)), ["input of shape [B, 7]", "[B, 6]", "the parts of the observation [B, 2] or [B, 5]"]),
        (of_two_inputs, ["takes 2 inputs: expected one"]),
        (lambda: own.one_hot(STATES, 5), ["an output of shape [B, 5]: expected Q values [B, 3]", "a value [B, 1]"]),
        (lambda: own.two_streams(STATES, 4), ["2 outputs, [B, 1], [B, 4]: expected Q values [B, 3]"]),
        (lambda: own.build(STATES - 1, ACTIONS), ["has 5 rows, and there are 6 states: build it for the number"]),
        (lambda: own.mixing(STATES, ACTIONS), ["mixes states", "keras.ops.mean(x, axis=-1, keepdims=True)"]),
        (lambda: own.Forgetful(ACTIONS), ["cannot be cloned", "get_config with the arguments of its constructor"]),
        (lambda: with_layers(own.Unregistered()), ["its class Unregistered is not registered", "above `class Unreg"]),
        (lambda: with_layers(layers.Dense(4, own.twice)), ["its activation twice is not registered", "`def twice`"]),
        (lambda: with_layers(layers.Lambda(own.twice)), ["is a Lambda, whose function no file holds safely"]),
        (frozen, ["it has no trainable weights"]),
        (lambda: with_layers(layers.Dense(4, dtype="float16")), ["computes in float16", "build it with dtype"]),
        (of_nan, ["returns NaN or infinity for state 0"]),
        (lambda: keras.Sequential([layers.Conv2D(1, 3)]), ["not been called yet", "call it once on an example"]),
    ],
    ids=lambda value: None if callable(value) else value[0][:30].replace(" ", "-"),
)
def test_a_model_that_cannot_be_trained_is_refused_on_one_line(make, parts):
    with pytest.raises(UsageError) as caught:
        adapt(make())
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)
