"""Inspect a network: collect plain facts about its structure and hidden units (`facts`).

Networks built elsewhere from Keras' own layers are supported too. Their input is a state in one of the ways of
`encodings`, their output the Q values `[B, A]`.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional
from numpy.typing import NDArray

from deeptaxi.layers import ActionMask
from deeptaxi.network.build import sizes
from deeptaxi.network.encodings import NO_PARTS, Parts, expectation, kind_of
from deeptaxi.network.facts import LayerFacts, NetworkFacts, TrainingMode
from deeptaxi.network.structure import structure_of
from deeptaxi.network.tabulate import ROUNDING, block_size, call_batch, feed, refusals

ONE_HOT = ("CategoryEncoding", "OneHot", "OneHotDense", "StringLookup", "IntegerLookup", "Hashing")
CUT_AT_ZERO = ("relu", "relu6")
ENDS = {  # lowest and highest value of activations
    "relu": (0.0, None), "relu6": (0.0, 6.0), "softplus": (0.0, None), "exponential": (0.0, None),
    "sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "log_softmax": (None, 0.0),
    "tanh": (-1.0, 1.0), "hard_tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0), "log_sigmoid": (None, 0.0),
}  # fmt: skip
NEAR_END = 0.01  # fraction of the range from lowest to highest value
AMONG = 64  # states asked together
ROWS = 16  # from which chance does not look like none
MOST = 0.95  # fraction of the states
FEW = 32  # weights of a layer
DRAWN, MOST_DRAWS = 4_096, 16  # weights to compare them with
MOST_COMPARED = 100_000  # of them
UNLIKE = 1e-3  # probability
BEYOND = 0.05  # of the range of what was drawn


def is_ours(network: keras.Model) -> bool:
    """Return whether it is a network from `build_q_network`, which determines its own number of states."""
    try:
        sizes(network)
    except ValueError:
        return False
    return True


def check_foreign(network: keras.Model, states: int, actions: int, parts: Parts = NO_PARTS) -> None:
    """Verify that a network built elsewhere maps states, numbers or `parts` of observations, to Q values.

    Raises:
        ValueError: its input or output has another shape.
    """
    expected = expectation(states, parts)
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ValueError(f"{len(network.inputs)} inputs and {len(network.outputs)} outputs: {expected}")
    shape, output = tuple(network.inputs[0].shape), tuple(network.outputs[0].shape)
    if states != actions and output[1:] == (states,) and (example := action_input(network, actions)):
        raise ValueError(
            f"an input of shape {list(shape)} and an output of shape {list(output)}: states and actions are swapped, "
            f"as it takes an action and returns a value for each state; its transpose is a Q table: np.save('q.npy', "
            f"model.predict({example}).T)"
        )
    if kind_of(shape[1:], states, parts) is None:
        raise ValueError(f"an input of shape {list(shape)}: {expected}; or name its own environment with --env")
    if len(output) != 2 or output[1] != actions:
        raise ValueError(f"an output of shape {list(output)}: expected Q values [B, {actions}]")


def action_input(network: keras.Model, actions: int) -> str:
    """Return how a network takes all actions, as code: one-hot, or as rows of an embedding; empty if it takes none."""
    shape = network.inputs[0].shape[1:]
    if len(shape) == 1 and shape[0] == actions > 1:
        return f"np.eye({actions})"
    rows = {layer.input_dim for layer in network._flatten_layers() if isinstance(layer, keras.layers.Embedding)}
    number = kind_of(shape, actions) == "number"
    return f"np.arange({actions})" + "[:, None]" * len(shape) if number and rows == {actions} else ""


def difference_alone(network: keras.Model, states: int, parts: Parts = NO_PARTS) -> float:
    """Return the largest difference between the Q values of a state asked alone and asked among others.

    It is measured in at most `AMONG` states.

    Raises:
        DeepTaxiError: the network cannot be run.
    """
    together, _, alone = call_three_times(network, states, parts, training=False)
    return largest_difference(together, alone)


def call_three_times(network: keras.Model, states: int, parts: Parts, training: bool | None) -> list[NDArray[Any]]:
    """Return the Q values of at most `AMONG` states, `[n, A]`: of all together, of the same again, of each alone.

    Few states are repeated as a whole, `ROWS` or more: of three rows, dropout may leave out the same ones twice.
    """
    some = np.unique(np.linspace(0, states - 1, min(states, AMONG)).astype(np.int64))
    some = np.tile(some, -(-ROWS // len(some)))
    return [call_batch(network, some, states, None, block, parts, training) for block in (len(some), len(some), 1)]


def largest_difference(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return the largest absolute difference of two arrays of equal shape; NaN counts as equal to anything."""
    difference = np.abs(one - other)
    return float(np.max(difference, initial=0.0, where=~np.isnan(difference)))


def find_training_mode(network: keras.Model, states: int, parts: Parts = NO_PARTS) -> TrainingMode | None:
    """Return how the answers of a network vary because it computes as in training when it acts.

    It is called as ``model(x)``, where layers keep a ``training=True`` that the model was built with, while `fit` and
    `predict` set theirs. None if that is a function of the state, or if only the other states in the batch change it
    and ``training=False`` does not help: that is no mode.

    Raises:
        DeepTaxiError: the network cannot be run.
    """
    fixed = layers_in_training(network)
    known = all(type(layer).__module__.startswith(("keras.", "deeptaxi.")) for layer in network._flatten_layers())
    if known and not fixed:
        return None
    together, again, alone = call_three_times(network, states, parts, training=None)
    slack = ROUNDING * max(1.0, float(np.abs(together[np.isfinite(together)]).max(initial=0.0)))
    by_chance, by_others = largest_difference(together, again), largest_difference(together, alone)
    if max(by_chance, by_others) <= slack:
        return None
    still = call_three_times(network, states, parts, training=False)
    avoidable = max(largest_difference(still[0], other) for other in still[1:]) <= slack
    if not avoidable and by_chance <= slack:
        return None
    count = min(states, len(together))
    greedy = [values[:count].argmax(axis=1) for values in (together, again, alone)]
    changing = int(((greedy[0] != greedy[1]) | (greedy[0] != greedy[2])).sum())
    return TrainingMode(fixed, by_chance, by_others, changing, count, avoidable)


def layers_in_training(network: keras.Model) -> tuple[str, ...]:
    """Return the layers that a model's graph calls with ``training=True``, by name and class."""
    found = [
        f"{layer.name} ({type(layer).__name__})"
        for layer in network._flatten_layers()
        if any(node.arguments.kwargs.get("training") is True for node in layer._inbound_nodes)
    ]
    return tuple(found)


def activation_of(layer: keras.Layer) -> str:
    """Return the name of a layer's activation; ``"linear"`` if it has none."""
    if isinstance(layer, keras.layers.ReLU):
        return "relu"
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", None)
    return str(name) if name else "linear"


def state_input(network: keras.Model, states: int) -> str:
    """Return the encoding of the state input: ``"one-hot"``, ``"embedding"``, ``"number"`` or ``"unknown"``."""
    shape = network.inputs[0].shape[1:]
    if len(shape) and shape[-1] == states > 1:
        return "one-hot"
    for operation in getattr(network, "operations", network.layers):
        kind = type(operation).__name__
        if kind in ONE_HOT:
            return "one-hot"
        if kind == "Embedding":
            return "embedding"
        if kind == "Dense":  # with several inputs, some computation encoded the state
            return "number" if operation.kernel.shape[0] == 1 else "unknown"
    return "unknown"


class Units:
    """Statistics of a layer's units, accumulated block by block."""

    def __init__(self, layer: keras.Layer) -> None:
        self.name, self.activation = layer.name, activation_of(layer)
        units = int(layer.output.shape[1])
        self.dead, self.ending = np.ones(units, bool), np.zeros(units, np.int64)
        self.states = 0

    def add(self, values: NDArray[np.floating]) -> None:
        """Add the outputs `[B, U]` for more states."""
        self.states += len(values)
        self.dead &= (values == 0).all(axis=0)
        low, high = ENDS.get(self.activation, (None, None))
        if low is not None and high is not None:
            margin = NEAR_END * (high - low)
            self.ending += ((values <= low + margin) | (values >= high - margin)).sum(axis=0)

    @property
    def facts(self) -> LayerFacts:
        """The accumulated statistics."""
        dead = int(self.dead.sum()) if self.activation in CUT_AT_ZERO else 0
        saturated = int((self.ending >= MOST * max(1, self.states)).sum())
        return LayerFacts(self.name, self.activation, len(self.dead), dead, saturated)


def look_into(network: keras.Model, states: NDArray[np.int64], count: int, parts: Parts = NO_PARTS) -> NetworkFacts:
    """Collect plain facts about a network.

    Args:
        network: the network.
        states: the states to observe its hidden units in, `[n]`.
        count: S.
        parts: the parts of an observation, if the network may take these.

    Raises:
        DeepTaxiError: it cannot be run.
    """
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer | ActionMask)]
    hidden = [layer for layer in layers[:-1] if activation_of(layer) != "linear" and is_hidden(layer)]
    last = activation_of(layers[-1]) if is_last(layers[-1], network) else "linear"
    return NetworkFacts(
        state_input(network, count), last, ENDS.get(last, (None, None)),
        units_of(network, hidden, states, count, parts), len(states), biases_at_zero(network),
        None if structure_of(network) is not None else as_initialized(network),
    )  # fmt: skip


def biases_at_zero(network: keras.Model) -> bool:
    """Return whether the network has biases, and each of them is exactly 0."""
    biases = [weights for weights in network.trainable_weights if weights.path.rpartition("/")[2] == "bias"]
    return bool(biases) and all(not np.any(keras.ops.convert_to_numpy(bias)) for bias in biases)


def as_initialized(network: keras.Model) -> bool | None:
    """Return whether all weights of a network are as their initializers draw them; None if that is unknown.

    Weights that begin at a constant must have that value. Those that are drawn at random, at least `FEW` in a layer,
    are compared with others drawn by the same initializer: by the two-sample test of Kolmogorov and Smirnov at
    `UNLIKE`, and where it draws from a range, none may lie outside by more than `BEYOND` of it. Too few decide nothing.
    """
    compared = False
    for layer in network._flatten_layers():
        for weights in layer._trainable_variables:
            initializer = getattr(layer, f"{weights.path.rpartition('/')[2]}_initializer", None)
            if not isinstance(initializer, keras.initializers.Initializer):
                return None
            found = keras.ops.convert_to_numpy(weights)
            by_chance = "seed" in initializer.get_config()
            drawn = draw_weights(initializer, found.shape)
            if not (is_drawn(found, drawn, has_range(initializer)) if by_chance else np.array_equal(found, drawn[0])):
                return False
            compared |= by_chance and found.size >= FEW
    return True if compared else None


def draw_weights(initializer: keras.initializers.Initializer, shape: tuple[int, ...]) -> NDArray[Any]:
    """Draw weights of a shape until there are `DRAWN`, or `MOST_DRAWS` times, `[n, *shape]`; once if by no chance."""
    configured = initializer.get_config()
    count = min(MOST_DRAWS, -(-DRAWN // max(1, math.prod(shape)))) if "seed" in configured else 1
    seeds: list[dict[str, Any]] = [{"seed": k} for k in range(count)] if "seed" in configured else [{}]
    makers = [type(initializer).from_config(configured | seed) for seed in seeds]
    return np.stack([keras.ops.convert_to_numpy(make(shape, dtype="float32")) for make in makers])


def has_range(initializer: keras.initializers.Initializer) -> bool:
    """Return whether an initializer draws from a range, as all do but untruncated normal and orthogonal ones."""
    open_ended = keras.initializers.RandomNormal | keras.initializers.Orthogonal
    untruncated = getattr(initializer, "distribution", None) == "untruncated_normal"
    return not (untruncated or isinstance(initializer, open_ended))


def is_drawn(weights: NDArray[Any], drawn: NDArray[Any], limited: bool) -> bool:
    """Return whether weights may be drawn as others `[n, *weights.shape]` are; True if they are too few to say."""
    from scipy.stats import ks_2samp

    if weights.size < FEW or not np.isfinite(weights).all():
        return bool(np.isfinite(weights).all())
    low, high = float(drawn.min()), float(drawn.max())
    margin = BEYOND * (high - low)
    if limited and (weights.min() < low - margin or weights.max() > high + margin):
        return False
    some, others = (values.ravel()[:: max(1, values.size // MOST_COMPARED)] for values in (weights, drawn))
    return float(ks_2samp(some, others).pvalue) > UNLIKE


def is_hidden(layer: keras.Layer) -> bool:
    """Return whether a layer outputs one vector per state, `[B, U]`, and is called once."""
    if len(layer._inbound_nodes) != 1 or not isinstance(layer.output, keras.KerasTensor):
        return False
    return len(layer.output.shape) == 2 and layer.output.shape[1] is not None and "float" in str(layer.output.dtype)


def is_last(layer: keras.Layer, network: keras.Model) -> bool:
    """Return whether the Q values, before any mask, are the output of `layer`."""
    tensor = network.outputs[0]
    if isinstance(tensor._keras_history.operation, ActionMask):
        found = structure_of(network)
        if found is None:
            return False
        tensor = found.below
    return tensor._keras_history.operation is layer


def units_of(
    network: keras.Model, hidden: list[keras.Layer], states: NDArray[np.int64], count: int, parts: Parts
) -> tuple[LayerFacts, ...]:
    """Return the facts about the units of hidden layers over `states` `[n]`, of `count` states in all."""
    if not hidden or type(network) not in (Functional, keras.Sequential):  # a custom `call` may differ from the graph
        return ()
    found = [Units(layer) for layer in hidden]
    with refusals():
        inner = keras.Model(network.inputs[0], [layer.output for layer in hidden])
        block = block_size(network, count, parts)
        for first in range(0, len(states), block):
            values = inner(feed(network, states[first : first + block], count, parts), training=False)
            for units, value in zip(found, keras.tree.flatten(values), strict=True):
                units.add(keras.ops.convert_to_numpy(value))
    return tuple(units.facts for units in found)
