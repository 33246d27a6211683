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


EYE = "np.eye(3)"
NUMBERS = "np.arange(3)"


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (lambda: foreign(keras.layers.Dense(STATES, use_bias=False), shape=(ACTIONS,)), EYE),
        (lambda: foreign(keras.layers.Embedding(ACTIONS, STATES), shape=(), dtype="int32"), NUMBERS),
        (
            lambda: foreign(keras.layers.Embedding(ACTIONS, STATES), keras.layers.Flatten(), dtype="int32"),
            f"{NUMBERS}[:, None]",
        ),
    ],
)
def test_swapped_states_and_actions_are_named_with_the_transpose_that_fits(model, example):
    network = model()
    with pytest.raises(ValueError, match="states and actions are swapped") as caught:
        inspect.check_foreign(network, STATES, ACTIONS)
    assert f"model.predict({example}).T" in str(caught.value)
    examples = {EYE: np.eye(3), NUMBERS: np.arange(3), f"{NUMBERS}[:, None]": np.arange(3)[:, None]}
    assert network.predict(examples[example], verbose=0).T.shape == (STATES, ACTIONS)


def test_an_unknown_input_beside_as_many_outputs_as_states_is_not_called_swapped():
    with pytest.raises(ValueError, match=r"expected Q values \[B, 3\]$"):
        inspect.check_foreign(foreign(keras.layers.Dense(STATES)), STATES, ACTIONS)


def fixed(layer, training=True):
    """A network that calls one of its layers as in training, or not."""
    state = keras.Input((STATES,))
    hidden = layer(keras.layers.Dense(8, "relu")(state), training=training)
    return keras.Model(state, keras.layers.Dense(ACTIONS)(hidden))


def test_a_layer_that_is_always_in_training_is_found_by_what_it_changes():
    mode = inspect.find_training_mode(fixed(keras.layers.Dropout(0.5, seed=0, name="drop")), STATES)
    assert mode is not None
    assert mode.layers == ("drop (Dropout)",)
    assert mode.again > 0.01
    assert mode.changing > 0
    assert mode.states == STATES
    assert mode.avoidable
    mode = inspect.find_training_mode(fixed(keras.layers.BatchNormalization(name="norm")), STATES)
    assert mode is not None
    assert (mode.layers, mode.again, mode.avoidable) == (("norm (BatchNormalization)",), 0, True)
    assert mode.alone > 0.01  # a state alone is its own mean


@pytest.mark.parametrize("layer", [keras.layers.Dropout(0.5), keras.layers.BatchNormalization()])
def test_a_layer_that_fit_alone_trains_is_no_training_mode(layer):
    assert inspect.find_training_mode(fixed(layer, training=None), STATES) is None


class Noisy(keras.layers.Layer):
    """A layer of the user's own that draws at every call."""

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs))


class Mixing(keras.layers.Layer):
    """A layer of the user's own that mixes the rows of a batch."""

    def call(self, inputs):
        return inputs - keras.ops.mean(inputs, axis=0, keepdims=True)


def test_chance_that_no_argument_turns_off_is_told_from_mixed_states():
    mode = inspect.find_training_mode(foreign(Noisy(), keras.layers.Dense(ACTIONS), shape=(STATES,)), STATES)
    assert mode is not None
    assert (mode.layers, mode.avoidable) == ((), False)
    mixing = foreign(Mixing(), keras.layers.Dense(ACTIONS), shape=(STATES,))
    assert inspect.find_training_mode(mixing, STATES) is None
    assert inspect.difference_alone(mixing, STATES) > 0.01


INITIALIZERS = ("glorot_uniform", "he_normal", "random_normal", "random_uniform", "orthogonal")


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_weights_as_they_were_drawn_are_recognized_and_trained_ones_are_not(initializer):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(units, use_bias=False, kernel_initializer=initializer) for units in (32, ACTIONS)]
    network = foreign(*layers, shape=(STATES,))
    assert inspect.as_initialized(network) is True
    network.layers[0].set_weights([network.layers[0].get_weights()[0] + 0.2])
    assert inspect.as_initialized(network) is False


def test_a_bias_that_left_its_initial_value_was_trained():
    network = foreign(keras.layers.Dense(32), keras.layers.Dense(ACTIONS), shape=(STATES,))
    assert inspect.as_initialized(network) is True
    kernel, bias = network.layers[0].get_weights()
    network.layers[0].set_weights([kernel, bias + 1e-4])
    assert inspect.as_initialized(network) is False


def test_few_weights_and_unknown_layers_tell_nothing():
    assert inspect.as_initialized(foreign(keras.layers.Dense(ACTIONS), shape=(STATES,))) is None  # 18 weights
    assert inspect.as_initialized(build_q_network(STATES, ACTIONS, hidden=(64,))) is not False
    assert inspect.look_into(build_q_network(STATES, ACTIONS, hidden=(64,)), EVERYWHERE, STATES).as_initialized is None
