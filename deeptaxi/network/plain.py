"""The same network without custom layers, so that it loads wherever Keras does.

**One-hot layer.** The product of a one-hot vector and a kernel W is a row of W, as looked up by Keras' `Embedding`; a
bias b is the same for every row, so it is added to the rows: e_s W + b = (W + 1 bᵀ)[s]. With factors (`layers`), the
product is a sum of one row per part, and the bias is added to the rows of the first part.

**Dueling head.** If V = x k + c and A = x K + b are linear in the same x, so is Q. With the columns [V, A] side by
side, combining them by the mean (`layers`) is a product with a matrix M `[1 + N, N]`:

    Q_j = V + A_j − (1/N) Σ_a A_a    ⇒    Q = [V, A] M,    M = [1ᵀ ; I − (1/N) 1 1ᵀ]
    Q = x K' + b',    K' = [k, K] M,    b' = [c, b] M

so the head is one `Dense` with kernel K' and bias b'. Without hidden layers, x is one-hot and K' holds the rows of one
table. The products are computed in float64 and rounded once. Without aggregation, the head is linear too
(M = [1ᵀ ; I]); with the maximum, or with an activation on the streams, it is not, and is written out in `keras.ops`.

**Action mask.** A table of 0 and −∞, looked up and added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.errors import UsageError
from deeptaxi.layers import ActionMask, Dueling, OneHotDense, join

Floats = NDArray[np.float64]


def plain_network(network: keras.Model) -> keras.Model:
    """Rebuild a network from Keras' own layers only, from states `[B]` to Q values `[B, A]`; weights are copied.

    Its Q values differ from those of `network` by rounding in the fold: less than 1e-6 · max(1, max |Q|). It does not
    check that states are in 0 … S−1; see `agent`.

    Raises:
        UsageError: the network contains layers that are neither deeptaxi's nor Keras' own, or operations other than
            layers.
    """
    check_layers(network)
    state = keras.Input(shape=(), dtype="int32", name="state")
    made: dict[int, Any] = {id(network.input): state}
    for layer in network.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            made[id(layer.output)] = _plain(layer, made)
    return keras.Model(state, made[id(network.output)], name=network.name)


def check_layers(network: keras.Model) -> None:
    """Verify that the graph consists only of layers, each called once.

    Raises:
        UsageError: it does not.
    """
    for operation in getattr(network, "operations", network.layers):
        if not isinstance(operation, keras.Layer):
            what = f"the computation {operation.name}, which is not a layer"
        elif len(operation._inbound_nodes) != 1:
            what = f"the layer {operation.name} more than once"
        else:
            continue
        raise UsageError(f"the network holds {what}: write it as keras or savedmodel, or as a table (csv, npz, json)")


def _plain(layer: keras.layers.Layer, made: dict[int, Any]) -> Any:
    """Return the replacement of the output of `layer`; `made` holds the replacements of its inputs."""
    inputs = [made[id(tensor)] for tensor in (layer.input if isinstance(layer.input, list) else [layer.input])]
    if isinstance(layer, OneHotDense):
        kernel, bias = affine(layer)
        return look_up(inputs[0], kernel, bias, layer.factors, layer.name, layer.activation)
    if isinstance(layer, Dueling):
        return _head(layer, inputs, made)
    if isinstance(layer, ActionMask):
        penalty = np.where(ops.convert_to_numpy(layer.mask) == 0, -np.inf, 0.0)
        return keras.layers.Add(name=f"{layer.name}_applied")([inputs[1], _embedding(inputs[0], penalty, layer.name)])
    if not type(layer).__module__.startswith("keras."):
        raise UsageError(f"the layer {layer.name} is a {type(layer).__name__}, which is not one of Keras' own")
    copy = type(layer).from_config(layer.get_config())
    output = copy(inputs if isinstance(layer.input, list) else inputs[0])
    copy.set_weights(layer.get_weights())
    return output


def _head(layer: Dueling, inputs: Sequence[Any], made: dict[int, Any]) -> Any:
    """Combine value and advantage, by one product if possible, else by the formula."""
    value, advantage = (tensor._keras_history.operation for tensor in layer.input)
    if not foldable(value, advantage, layer.aggregation):
        value, advantage = inputs
        return join(value, advantage, layer.aggregation)
    (k, c), (kernel, bias) = affine(value), affine(advantage)
    joined = joining_matrix(bias.size, layer.aggregation)
    folded, shift = np.hstack([k, kernel]) @ joined, np.append(c, bias) @ joined
    x = made[id(value.input)]
    if isinstance(value, OneHotDense):
        return look_up(x, folded, shift, value.factors, layer.name)
    dense = keras.layers.Dense(bias.size, name=layer.name)
    output = dense(x)
    dense.set_weights([folded.astype(np.float32), shift.astype(np.float32)])
    return output


def joining_matrix(actions: int, aggregation: str) -> Floats:
    """Return the matrix M `[1 + N, N]` of a dueling head that is linear in its streams: Q = [V, A] M."""
    mean = 1 / actions if aggregation == "mean" else 0.0
    return np.vstack([np.ones(actions), np.eye(actions) - mean])


def foldable(value: Any, advantage: Any, aggregation: str) -> bool:
    """Return whether a dueling head, with the layers of its streams, is linear in a single input."""
    return (
        aggregation in ("mean", "none")
        and type(value) is type(advantage)
        and isinstance(value, OneHotDense | keras.layers.Dense)
        and value.input is advantage.input
        and all(layer.activation is keras.activations.linear for layer in (value, advantage))
        and getattr(value, "factors", None) == getattr(advantage, "factors", None)
    )


def affine(layer: Any) -> tuple[Floats, Floats]:
    """Return the kernel `[I, O]` and bias `[O]` of a dense layer in float64; a missing bias is 0."""
    kernel, *bias = (weight.astype(np.float64) for weight in layer.get_weights())
    return kernel, bias[0] if bias else np.zeros(kernel.shape[1])


def look_up(
    state: Any,
    kernel: Floats,
    bias: Floats,
    factors: Sequence[int] | None,
    name: str,
    activation: Any = keras.activations.linear,
) -> Any:
    """Look up the rows of a one-hot layer with the bias added, summed over the parts, `[B, O]`.

    Args:
        state: state numbers, `[B]`.
        kernel: `[S, O]`; with factors, the rows of all parts in order, `[Σ n_f, O]`.
        bias: `[O]`.
        factors: sizes n_1, …, n_F of the parts of a state, row-major; None for one-hot over all states.
        name: of the replaced layer.
        activation: applied to the sum.
    """
    if factors is None:
        x = _embedding(state, kernel + bias, name)
    else:
        rows, stride = [], math.prod(factors)
        for part, table in enumerate(np.split(kernel, np.cumsum(factors)[:-1])):
            stride //= factors[part]
            digit = ops.mod(ops.floor_divide(state, stride), factors[part])
            rows.append(_embedding(digit, table if part else table + bias, f"{name}_part_{part}"))
        x = keras.layers.Add(name=name)(rows)
    if activation is keras.activations.linear:
        return x
    return keras.layers.Activation(activation, name=f"{name}_activation")(x)


def _embedding(indices: Any, table: NDArray[Any], name: str) -> Any:
    """Look up rows of `table` `[I, O]`."""
    layer = keras.layers.Embedding(*table.shape, name=name)
    output = layer(indices)
    layer.set_weights([table.astype(np.float32)])
    return output
