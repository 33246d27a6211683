"""The structure of a network from `build_q_network`, proven from its graph.

    state ─ OneHotDense ─ Dense ─ … ─ q_values                       [─ ActionMask with the state]
                                   └─ [value, advantage] ─ Dueling    [─ ActionMask with the state]

A graph with the same layers and any other operation before, after or between them is a different function of the same
weights. So is a layer called twice, or a model class with its own `call`. Code that treats weights as Q values, or a
layer as the head, must check here first: `structure_of` follows the graph from output to input, and returns None if it
finds anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras.src.models.functional import Functional

from deeptaxi.layers import ActionMask, Dueling, OneHotDense

FLOATS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Structure:
    """The layers of a network from `build_q_network`.

    Attributes:
        hidden: the hidden layers, from input to output; the first is a `OneHotDense`.
        heads: (q_values,), or (value, advantage) of a dueling network.
        dueling: the layer that combines the two; None if not dueling.
        mask: the action mask on top, or None.
        below: the Q values before the mask, a symbolic tensor.
    """

    hidden: tuple[Any, ...]
    heads: tuple[Any, ...]
    dueling: Dueling | None
    mask: ActionMask | None
    below: Any

    @property
    def first(self) -> OneHotDense:
        """The layer on the state number."""
        layer: OneHotDense = (*self.hidden, *self.heads)[0]
        return layer

    @property
    def actions(self) -> int:
        """A."""
        return int(self.heads[-1].units)

    @property
    def table(self) -> Any:
        """The kernel `[S, A]`, if it equals the Q values of all states bit for bit; else None."""
        layer = self.heads[0]
        alone = not self.hidden and self.dueling is None and self.mask is None
        plain = layer.compute_dtype == layer.variable_dtype == "float32"
        return layer.kernel if alone and plain and layer.is_table else None

    @property
    def width(self) -> int:
        """The number of values computed per state, over all layers."""
        rows = len(self.first.factors or (1,))
        passes = 3  # product, bias, activation
        return int(passes * (rows * self.first.units + sum(layer.units for layer in (*self.hidden, *self.heads))))


def structure_of(network: Any) -> Structure | None:
    """Return the structure of a network; None if it is not from `build_q_network`, with or without a mask."""
    if type(network) is not Functional:
        return None
    state, output = network.input, network.output
    if not isinstance(state, keras.KerasTensor) or not isinstance(output, keras.KerasTensor):
        return None
    if state.shape != (None,) or state.dtype not in ("int32", "int64"):
        return None
    mask, below = None, output
    if (found := made_by(output, ActionMask)) is not None and len(found[1]) == 2 and found[1][0] is state:
        mask, (_, below) = found
    return follow(state, below, mask)


def follow(state: Any, below: Any, mask: ActionMask | None) -> Structure | None:
    """Follow the graph from the Q values to the state."""
    dueling, streams = None, [below]
    if (found := made_by(below, Dueling)) is not None:
        dueling, streams = found
    heads, inputs = [], []
    for tensor in streams:
        if (found := made_by(tensor, OneHotDense, keras.layers.Dense)) is None:
            return None
        heads.append(found[0])
        inputs.append(found[1][0])
    if any(tensor is not inputs[0] for tensor in inputs):
        return None
    hidden: list[Any] = []
    reached = inputs[0]
    while reached is not state:
        if (found := made_by(reached, OneHotDense, keras.layers.Dense)) is None:
            return None
        hidden.insert(0, found[0])
        reached = found[1][0]
    whole = Structure(tuple(hidden), tuple(heads), dueling, mask, below)
    return whole if is_sound(whole) else None


def is_sound(found: Structure) -> bool:
    """Return whether layers in the right order are as built by `build_q_network`."""
    layers, bias = (*found.hidden, *found.heads), bool(found.hidden)
    on_state = found.hidden[:1] or found.heads
    if len({id(layer) for layer in layers}) < len(layers):
        return False
    if any((type(layer) is OneHotDense) != any(layer is one for one in on_state) for layer in layers):
        return False
    if len({(layer.states, layer.factors) for layer in on_state}) > 1:
        return False
    if any(layer.use_bias is not bias or getattr(layer, "lora_enabled", False) for layer in layers):
        return False
    if any(layer.activation is not keras.activations.linear for layer in found.heads):
        return False
    if found.dueling is not None and (len(found.heads) != 2 or found.heads[0].units != 1):
        return False
    if found.mask is not None and (found.mask.states, found.mask.actions) != (found.first.states, found.actions):
        return False
    return len({layer.activation for layer in found.hidden}) < 2 and all(map(of_keras, found.hidden))


def of_keras(layer: Any) -> bool:
    """Return whether the activation of a layer is one of Keras', which act on each row separately."""
    return getattr(keras.activations, getattr(layer.activation, "__name__", ""), None) is layer.activation


def made_by(tensor: Any, *kinds: type) -> tuple[Any, list[Any]] | None:
    """Return the layer that produced a symbolic tensor, and its inputs; None unless it is one of the `kinds`.

    Subclasses do not count, nor do layers called with anything besides their inputs.
    """
    operation, node_index, _ = tensor._keras_history
    if type(operation) not in kinds:
        return None
    policy = operation.dtype_policy
    if (
        policy.compute_dtype not in FLOATS
        or policy.variable_dtype not in FLOATS
        or getattr(policy, "quantization_mode", None)
    ):
        return None
    arguments = operation._inbound_nodes[node_index].arguments
    if len(arguments.args) != 1 or any(value is not None for value in arguments.kwargs.values()):
        return None
    inputs = arguments.args[0]
    inputs = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    single = operation.__class__ in (OneHotDense, keras.layers.Dense)
    if any(not isinstance(x, keras.KerasTensor) for x in inputs) or single != (len(inputs) == 1):
        return None
    return operation, inputs
