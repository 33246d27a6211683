"""Q-networks on state numbers, from the Q table to the dueling network.

The Q-table network is the case without hidden layers and bias: one `OneHotDense` from S states to A actions, whose
kernel `[S, A]` *is* the Q table.

With factors, the layers on the input encode the state part by part (`layers.OneHotDense`). A dueling network without
hidden layers is then linear in the one-hot vectors of the parts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError
from deeptaxi.layers import ActionMask, Dueling, OneHotDense
from deeptaxi.network.structure import Structure, structure_of


def build_q_network(
    states: int,
    actions: int,
    hidden: Sequence[int] = (),
    dueling: bool = False,
    aggregation: str = "mean",
    activation: str = "relu",
    seed: int = 0,
    factors: Sequence[int] | None = None,
    initial_value: float = 0.0,
) -> keras.Model:
    """Build a network from state numbers `[B]` to Q values `[B, A]`.

    Args:
        states: S.
        actions: A.
        hidden: sizes of the hidden layers.
        dueling: whether to combine Q from a value and an advantage stream.
        aggregation: of the dueling head, see `Dueling`.
        activation: of the hidden layers.
        seed: of the initial weights.
        factors: sizes of the parts of a state, to encode each separately; None for one-hot over all states.
        initial_value: approximate initial Q value; exact without hidden layers.

    Without hidden layers, dueling or not, there is no bias: the weights are tables.

    Raises:
        ValueError: factors are given for the Q-table network, which would then not be a table.
    """
    if factors is not None and not hidden and not dueling:
        raise ValueError("a Q table has one row of weights per state: factors need hidden layers or a dueling head")
    seeds = iter(np.random.SeedSequence(seed).generate_state(len(hidden) + 2).tolist())
    state = keras.Input(shape=(), dtype="int32", name="state")
    first, bias, x = StateInput(states, factors), bool(hidden), state
    for index, size in enumerate(hidden):
        x = _dense(x, first, size, f"hidden_{index}", next(seeds), activation)
    if dueling:
        value = _dense(x, first, 1, "value", next(seeds), bias=bias, start=initial_value)
        advantage = _dense(x, first, actions, "advantage", next(seeds), bias=bias)
        q_values = Dueling(aggregation, name="q_values")([value, advantage])
    else:
        q_values = _dense(x, first, actions, "q_values", next(seeds), bias=bias, start=initial_value)
    return keras.Model(state, q_values, name="q_network")


class StateInput(NamedTuple):
    """The encoding of the state input; without factors, states are encoded as a whole."""

    states: int
    factors: Sequence[int] | None

    def kernel_initializer(self, units: int, seed: int) -> keras.initializers.Initializer:
        """Return Glorot's uniform initializer, ± √(6 / (fan_in + units)).

        Glorot counts all inputs, but those of one-hot vectors are mostly 0. With factors, exactly F inputs are 1, so F
        is the fan-in that preserves the variance. Without, it stays S, to reproduce the weights of old seeds.
        """
        if self.factors is None:
            return keras.initializers.GlorotUniform(seed=seed)
        limit = math.sqrt(6 / (len(self.factors) + units))
        return keras.initializers.RandomUniform(-limit, limit, seed=seed)


def _dense(
    x: Any,
    first: StateInput,
    units: int,
    name: str,
    seed: int,
    activation: str | None = None,
    bias: bool = True,
    start: float = 0.0,
) -> Any:
    """Apply a dense layer to the state number if `x` is the input, else to features; outputs start near `start`.

    The bias is initialized to `start`, or without bias, the table: each of the summed rows gets an equal share.
    """
    at_start = keras.initializers.Constant(start) if start else "zeros"
    if len(x.shape) > 1:
        initializer = keras.initializers.GlorotUniform(seed=seed)
        return keras.layers.Dense(
            units, activation, kernel_initializer=initializer, bias_initializer=at_start, name=name
        )(x)
    if bias:
        kernel = first.kernel_initializer(units, seed)
    else:
        kernel = keras.initializers.Constant(start / len(first.factors or (1,))) if start else "zeros"
    return OneHotDense(units, first.states, activation, bias, kernel, factors=first.factors, name=name)(x)


def q_table_network(q: NDArray[np.floating]) -> keras.Model:
    """Return the Q-table network whose Q values are `q` `[S, A]` as float32; −∞ becomes an `ActionMask`.

    Raises:
        DeepTaxiError: rounded to float32, the greedy action of a state is another one.
    """
    allowed, rounded = ~np.isneginf(q), q.astype(np.float32)
    other = rounded.argmax(axis=1) != q.argmax(axis=1)
    if other.any():
        raise DeepTaxiError(
            f"in float32, as exports are, the Q values have another best action in {int(other.sum()):,} of {len(q):,} "
            f"states, such as state {int(other.argmax())}: nothing was exported; save its policy, q.argmax(axis=1)"
        )
    states, actions = q.shape
    network = build_q_network(states, actions, hidden=())
    network.get_layer("q_values").set_weights([np.where(allowed, rounded, np.float32(0))])
    return network if allowed.all() else with_mask(network, allowed)


def with_mask(network: keras.Model, mask: NDArray[np.bool_]) -> keras.Model:
    """Append an `ActionMask` with the allowed actions `mask` `[S, A]` to the network; weights are shared."""
    layer = ActionMask(*mask.shape, name="action_mask")
    masked = keras.Model(network.input, layer([network.input, network.output]), name=network.name)
    layer.mask.assign(mask.astype("float32"))
    return masked


def without_mask(network: keras.Model) -> tuple[keras.Model, NDArray[np.bool_] | None]:
    """Undo `with_mask`: return the network without its mask, sharing its weights, and the mask `[S, A]` or None."""
    found = structure_of(network)
    if found is None or found.mask is None:
        return network, None
    below = keras.Model(network.input, found.below, name=network.name)
    return below, keras.ops.convert_to_numpy(found.mask.mask) != 0


def streams(network: keras.Model) -> keras.Model | None:
    """Return a network, sharing the weights, from states `[B]` to the streams [V, A]; None if not dueling."""
    found = structure_of(network)
    if found is None or found.dueling is None:
        return None
    return keras.Model(network.input, found.dueling.input)


def settings_of(network: keras.Model) -> dict[str, Any]:
    """Return the settings of a network from `build_q_network`, derived from its graph.

    Raises:
        ValueError: it is not such a network.
    """
    found = known(network)
    return {
        "hidden": [layer.units for layer in found.hidden],
        "dueling": found.dueling is not None,
        "encoding": "joint" if found.first.factors is None else "factored",
        **({"aggregation": found.dueling.aggregation} if found.dueling else {}),
        **({"activation": keras.activations.serialize(found.hidden[0].activation)} if found.hidden else {}),
    }


def scale_outputs(network: keras.Model, factor: float) -> None:
    """Multiply all Q values by `factor` > 0, in place, by scaling the weights of the output layers.

    The dueling head has no weights, and every aggregation commutes with a positive factor.

    Raises:
        ValueError: it is not a network from `build_q_network`.
    """
    for layer in known(network).heads:
        layer.set_weights([np.float32(factor) * weight for weight in layer.get_weights()])


def sizes(network: keras.Model) -> tuple[int, int]:
    """Return (S, A) of a network on state numbers.

    Raises:
        ValueError: it is not a network from `build_q_network`, with or without a mask.
    """
    found = known(network)
    return found.first.states, found.actions


def known(network: keras.Model) -> Structure:
    """Return the structure of a network from `build_q_network`.

    Raises:
        ValueError: it is not such a network, or its graph contains anything else.
    """
    found = structure_of(network)
    if found is None:
        raise ValueError(
            "expected a network of deeptaxi, from state numbers [B] to Q values [B, A], and nothing else in its graph "
            "(for other Keras models, use `deeptaxi diagnose`)"
        )
    return found


def weights_digest(network: keras.Model) -> str:
    """Return the SHA-256 of the weights as little-endian float32, in the order of ``model.weights``."""
    digest = hashlib.sha256()
    for weight in network.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight), dtype="<f4").tobytes())
    return digest.hexdigest()
