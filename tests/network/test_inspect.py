import keras
import numpy as np
import pytest

from deeptaxi.network import inspect
from deeptaxi.network.build import build_q_network, with_mask
from deeptaxi.network.tabulate import feed, tabulate

STATES, ACTIONS = 6, 3
EVERYWHERE = np.arange(STATES)


def foreign(*layers, shape=(1,), dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def one_hot():
    return keras.layers.CategoryEncoding(num_tokens=STATES, output_mode="one_hot")


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda: foreign(keras.layers.Dense(4, "relu"), keras.layers.Dense(ACTIONS)), "number"),
        (lambda: foreign(keras.layers.Rescaling(0.1), keras.layers.Dense(ACTIONS)), "number"),
        (lambda: foreign(one_hot(), keras.layers.Dense(ACTIONS), dtype="int32"), "one-hot"),
        (lambda: foreign(keras.layers.Embedding(STATES, ACTIONS), keras.layers.Flatten(), dtype="int32"), "embedding"),
        (lambda: foreign(keras.layers.Embedding(STATES, ACTIONS), shape=(), dtype="int32"), "embedding"),
        (lambda: foreign(keras.layers.Dense(ACTIONS), shape=(STATES,)), "one-hot"),
        (lambda: build_q_network(STATES, ACTIONS, hidden=(4,), dueling=True), "one-hot"),
        (lambda: build_q_network(STATES, ACTIONS), "one-hot"),
    ],
)
def test_foreign_models_are_tabulated_and_their_input_encoding_is_recognized(model, kind):
    network = model()
    if not inspect.is_ours(network):
        inspect.check_foreign(network, STATES, ACTIONS)
    table = tabulate(network, STATES)
    assert table.shape == (STATES, ACTIONS)
    assert inspect.look_into(network, EVERYWHERE, STATES).state_input == kind
    single = keras.ops.convert_to_numpy(network(feed(network, np.array([4]), STATES)))
    np.testing.assert_allclose(table[4], single[0], atol=1e-6)


@pytest.mark.parametrize(("shape", "actions"), [((4,), ACTIONS), ((2, 2), ACTIONS), ((1,), ACTIONS + 1)])
def test_a_model_with_other_inputs_or_outputs_is_refused(shape, actions):
    layers = [keras.layers.Flatten()] if len(shape) > 1 else []
    with pytest.raises(ValueError, match="expected"):
        inspect.check_foreign(foreign(*layers, keras.layers.Dense(actions), shape=shape), STATES, ACTIONS)


def test_dead_units_are_counted():
    network = build_q_network(STATES, ACTIONS, hidden=(4,))
    hidden = network.get_layer("hidden_0")
    kernel = np.ones((STATES, 4), np.float32)
    kernel[:, 1] = -1.0  # always off
    kernel[:5, 2] = -1.0  # on in the last state
    hidden.set_weights([kernel, np.zeros(4, np.float32)])
    layer = inspect.look_into(network, EVERYWHERE, STATES).hidden[0]
    assert (layer.activation, layer.units, layer.dead) == ("relu", 4, 1)
    assert inspect.look_into(network, np.arange(5), STATES).hidden[0].dead == 2  # over the states that are asked about


def test_saturated_units_are_counted():
    network = build_q_network(STATES, ACTIONS, hidden=(3,), activation="tanh", dueling=True)
    kernel = np.full((STATES, 3), 9.0, np.float32)
    kernel[:, 1] = 0.1
    network.get_layer("hidden_0").set_weights([kernel, np.zeros(3, np.float32)])
    layer = inspect.look_into(network, EVERYWHERE, STATES).hidden[0]
    assert (layer.activation, layer.dead, layer.saturated) == ("tanh", 0, 2)


@pytest.mark.parametrize(
    ("head", "name", "bounds"),
    [
        ([keras.layers.Dense(ACTIONS, "tanh")], "tanh", (-1.0, 1.0)),
        ([keras.layers.Dense(ACTIONS), keras.layers.Activation("softmax")], "softmax", (0.0, 1.0)),
        ([keras.layers.Dense(ACTIONS), keras.layers.ReLU()], "relu", (0.0, None)),
        ([keras.layers.Dense(ACTIONS)], "linear", (None, None)),
    ],
)
def test_an_output_activation_is_recognized(head, name, bounds):
    facts = inspect.look_into(foreign(one_hot(), *head, dtype="int32"), EVERYWHERE, STATES)
    assert (facts.output_activation, facts.output_range) == (name, bounds)


def test_a_mask_is_no_activation():
    network = with_mask(build_q_network(STATES, ACTIONS, hidden=(4,)), np.eye(STATES, ACTIONS, dtype=bool) | True)
    facts = inspect.look_into(network, EVERYWHERE, STATES)
    assert facts.output_activation == "linear"
    np.testing.assert_array_equal(tabulate(network, STATES), tabulate(network))
