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
from dataclasses import dataclass, replace
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
    parts = None if factors is None else tuple(factors)
    spec = QNetworkSpec(states, actions, tuple(hidden), dueling, aggregation, activation, seed, parts, initial_value)
    return spec.build()


class Initializers(NamedTuple):
    """The initializers of a layer; `bias` is None if it has none."""

    kernel: keras.initializers.Initializer
    bias: keras.initializers.Initializer | None


@dataclass(frozen=True)
class QNetworkSpec:
    """The arguments of `build_q_network`, which determine a network and its initial weights."""

    states: int
    actions: int
    hidden: tuple[int, ...] = ()
    dueling: bool = False
    aggregation: str = "mean"
    activation: str = "relu"
    seed: int = 0
    factors: tuple[int, ...] | None = None
    initial_value: float = 0.0

    def __post_init__(self) -> None:
        if self.factors is not None and not self.hidden and not self.dueling:
            raise ValueError("a Q table has one row of weights per state: factors need hidden layers or a dueling head")

    @property
    def architecture(self) -> QNetworkSpec:
        """The spec without what determines the initial weights alone."""
        return replace(self, seed=0, initial_value=0.0)

    def build(self) -> keras.Model:
        """Build the network with its initial weights."""
        initializers = self.initializers()
        state = keras.Input(shape=(), dtype="int32", name="state")
        x = state
        for name, size in zip(initializers, self.hidden, strict=False):
            x = self._dense(x, name, size, initializers[name], self.activation)
        if self.dueling:
            value, advantage = (
                self._dense(x, name, units, initializers[name])
                for name, units in (("value", 1), ("advantage", self.actions))
            )
            q_values = Dueling(self.aggregation, name="q_values")([value, advantage])
        else:
            q_values = self._dense(x, "q_values", self.actions, initializers["q_values"])
        return keras.Model(state, q_values, name="q_network")

    def initialize(self, network: keras.Model, weights: Sequence[NDArray[Any]] | None = None) -> None:
        """Make a network of the same architecture what `build` returns, with other `weights` if they are given."""
        for name, own in self.initializers().items():
            layer = network.get_layer(name)
            layer.kernel_initializer = own.kernel
            if own.bias is not None:
                layer.bias_initializer = own.bias
            if weights is None:
                layer.kernel.assign(own.kernel(layer.kernel.shape, dtype=layer.kernel.dtype))
                if own.bias is not None:
                    layer.bias.assign(own.bias(layer.bias.shape, dtype=layer.bias.dtype))
        if weights is not None:
            network.set_weights(weights)

    def initializers(self) -> dict[str, Initializers]:
        """Return the initializers of each layer with weights, by its name, from input to output.

        Outputs start near `initial_value`: a bias is initialized to it, or without bias, the table, where each of the
        summed rows gets an equal share.
        """
        outputs = ("value", "advantage") if self.dueling else ("q_values",)
        seeds = np.random.SeedSequence(self.seed).generate_state(len(self.hidden) + 2).tolist()
        found = {}
        for seed, name in zip(seeds, (*map("hidden_{}".format, range(len(self.hidden))), *outputs), strict=False):
            start = self.initial_value if name in ("value", "q_values") else 0.0
            if self.hidden:
                units = self.hidden[0] if name == "hidden_0" else None
                found[name] = Initializers(self._kernel_initializer(units, seed), constant(start))
            else:
                found[name] = Initializers(constant(start / len(self.factors or (1,))), None)
        return found

    def _kernel_initializer(self, units: int | None, seed: int) -> keras.initializers.Initializer:
        """Return Glorot's uniform initializer, ± √(6 / (fan_in + units)); `units` of the layer on the state, else None.

        Glorot counts all inputs, but those of one-hot vectors are mostly 0. With factors, exactly F inputs are 1, so F
        is the fan-in that preserves the variance. Without, it stays S, to reproduce the weights of old seeds.
        """
        if self.factors is None or units is None:
            return keras.initializers.GlorotUniform(seed=seed)
        limit = math.sqrt(6 / (len(self.factors) + units))
        return keras.initializers.RandomUniform(-limit, limit, seed=seed)

    def _dense(self, x: Any, name: str, units: int, own: Initializers, activation: str | None = None) -> Any:
        """Apply a dense layer to the state number if `x` is the input, else to features."""
        if len(x.shape) > 1:
            return keras.layers.Dense(
                units, activation, kernel_initializer=own.kernel, bias_initializer=own.bias, name=name
            )(x)
        use_bias, bias = own.bias is not None, own.bias or "zeros"
        return OneHotDense(units, self.states, activation, use_bias, own.kernel, bias, factors=self.factors, name=name)(
            x
        )


def constant(value: float) -> keras.initializers.Initializer:
    """Return the initializer of a constant; that of 0 is `Zeros`, as in old files."""
    return keras.initializers.Constant(value) if value else keras.initializers.Zeros()


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
    layer = network.outputs[0]._keras_history.operation
    if not isinstance(layer, ActionMask) or network.inputs[0] is not layer.input[0]:
        return network, None
    below = keras.Model(network.input, layer.input[1], name=network.name)
    return below, keras.ops.convert_to_numpy(layer.mask) != 0


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
    return digest_of_weights([keras.ops.convert_to_numpy(weight) for weight in network.weights])


def digest_of_weights(weights: Sequence[NDArray[Any]]) -> str:
    """Return the `weights_digest` of a network from its weights."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(np.ascontiguousarray(weight, dtype="<f4").tobytes())
    return digest.hexdigest()
