"""Looking into a network: its Q values of all states, and plain numbers about what it is made of (`facts`).

Networks made elsewhere, of Keras' own layers, are looked at too. Their input is a state number, `[B]` or `[B, 1]`, or
its one-hot vector `[B, S]`, and their output is the Q values `[B, A]`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deeptaxi.network.build import BLOCK, sizes, tabulate
from deeptaxi.network.facts import LayerFacts, NetworkFacts
from deeptaxi.network.layers import ActionMask, OneHotDense

ONE_HOT = ("CategoryEncoding", "OneHot", "OneHotDense", "StringLookup", "IntegerLookup", "Hashing")
CUT_AT_ZERO = ("relu", "relu6")
ENDS = {  # of activations, the lowest and the highest value
    "relu": (0.0, None), "relu6": (0.0, 6.0), "softplus": (0.0, None), "exponential": (0.0, None),
    "sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "log_softmax": (None, 0.0),
    "tanh": (-1.0, 1.0), "hard_tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0), "log_sigmoid": (None, 0.0),
}  # fmt: skip
NEAR_END = 0.01  # of the way from the lowest to the highest value
MOST = 0.95  # of the states


def is_ours(network: keras.Model) -> bool:
    """Whether it is a network of `build_q_network`, which knows its number of states itself."""
    try:
        sizes(network)
    except ValueError:
        return False
    return True


def check_foreign(network: keras.Model, states: int, actions: int) -> None:
    """Refuse a network from elsewhere that does not map state numbers to Q values.

    Raises:
        ValueError: its input or output has another shape.
    """
    expected = f"expected a state number [B] or [B, 1], or its one-hot vector [B, {states}]"
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ValueError(f"{len(network.inputs)} inputs and {len(network.outputs)} outputs: {expected}")
    shape, output = tuple(network.inputs[0].shape), tuple(network.outputs[0].shape)
    if len(shape) > 2 or shape[1:] not in ((), (1,), (states,)):
        raise ValueError(f"an input of shape {list(shape)}: {expected}")
    if len(output) != 2 or output[1] != actions:
        raise ValueError(f"an output of shape {list(output)}: expected Q values [B, {actions}]")


def feed(network: keras.Model, states: NDArray[np.int64], count: int) -> Any:
    """Return what the network takes in for `states` `[B]` of `count` states."""
    tensor = network.inputs[0]
    if len(tensor.shape) == 1:
        return states.astype(tensor.dtype)
    if tensor.shape[1] == 1:
        return states[:, None].astype(tensor.dtype)
    return np.eye(count, dtype=tensor.dtype)[states]


def tabulate_any(network: keras.Model, states: int) -> NDArray[np.float32]:
    """Return the Q values of all states, `[S, A]`, of a network of ours or of one from elsewhere."""
    if is_ours(network):
        return tabulate(network)
    return np.asarray(outputs(network, network.outputs, np.arange(states), states)[0], np.float32)


def outputs(
    network: keras.Model, tensors: list[Any], states: NDArray[np.int64], count: int
) -> list[NDArray[np.float32]]:
    """Return the values of inner `tensors` of a network over `states`, computed in blocks."""
    if not tensors:
        return []
    inner = keras.Model(network.inputs[0], tensors)
    blocks = []
    for first in range(0, len(states), BLOCK):
        values = inner(feed(network, states[first : first + BLOCK], count), training=False)
        blocks.append(
            [keras.ops.convert_to_numpy(value) for value in (values if isinstance(values, list) else [values])]
        )
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def activation_of(layer: keras.Layer) -> str:
    """Return the name of a layer's activation; ``"linear"`` where it has none."""
    if isinstance(layer, keras.layers.ReLU):
        return "relu"
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", None)
    return str(name) if name else "linear"


def state_input(network: keras.Model, states: int) -> str:
    """Return how the state comes in: ``"one-hot"``, ``"embedding"``, ``"number"`` or ``"unknown"``."""
    if len(network.inputs[0].shape) == 2 and network.inputs[0].shape[1] == states > 1:
        return "one-hot"
    for layer in network.layers:
        kind = type(layer).__name__
        if kind in ONE_HOT:
            return "one-hot"
        if kind == "Embedding":
            return "embedding"
        if kind == "Dense":
            return "number"
    return "unknown"


def layer_facts(layer: keras.Layer, values: NDArray[np.float32]) -> LayerFacts:
    """Return what the units of a layer do, from their values `[S, U]`."""
    name = activation_of(layer)
    low, high = ENDS.get(name, (None, None))
    dead = (values == 0).all(axis=0) if name in CUT_AT_ZERO else np.zeros(values.shape[1], bool)
    saturated = np.zeros(values.shape[1], bool)
    if low is not None and high is not None:
        margin = NEAR_END * (high - low)
        saturated = ((values <= low + margin) | (values >= high - margin)).mean(axis=0) >= MOST
    return LayerFacts(layer.name, name, values.shape[1], int(dead.sum()), int(saturated.sum()))


def look_into(network: keras.Model, states: NDArray[np.int64], count: int) -> NetworkFacts:
    """Return plain numbers about a network.

    Args:
        network: it.
        states: those that its hidden units are looked at over, `[n]`.
        count: S.
    """
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer | ActionMask)]
    hidden = [
        layer
        for layer in layers[:-1]
        if activation_of(layer) != "linear" and len(layer.output.shape) == 2 and layer.output.shape[1] is not None
    ]
    last = activation_of(layers[-1])
    values = outputs(network, [layer.output for layer in hidden], states, count)
    return NetworkFacts(
        "one-hot" if any(isinstance(layer, OneHotDense) for layer in layers) else state_input(network, count),
        last,
        ENDS.get(last, (None, None)),
        tuple(layer_facts(layer, value) for layer, value in zip(hidden, values, strict=True)),
        len(states),
    )
