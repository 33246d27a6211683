"""The same function without a layer of ours, so that a saved network loads wherever Keras does.

**One-hot layer.** The product of a one-hot vector and a kernel W is a row of W, which is what Keras' `Embedding` looks
up; a bias b is the same for every row, so it goes into the rows: e_s W + b = (W + 1 bᵀ)[s]. Over the parts of a state
(`encoding`) the product is a sum of one row a part, and the bias goes into the rows of the first part.

**Dueling head.** Where V = x k + c and A = x K + b are linear in the same x, so is what is joined from them. With the
columns [V, A] side by side, joining by the mean (`layers`) is a product with a matrix M `[1 + N, N]`:

    Q_j = V + A_j − (1/N) Σ_a A_a    ⇒    Q = [V, A] M,    M = [1ᵀ ; I − (1/N) 1 1ᵀ]
    Q = x K' + b',    K' = [k, K] M,    b' = [c, b] M

so the head is one `Dense` with kernel K' and bias b'. Without hidden layers x is one-hot, and K' holds the rows of one
table. The products are taken in float64 and rounded once. Joining without the mean is linear too (M = [1ᵀ ; I]);
joining by the maximum is not, nor are streams with an activation: `keras.ops` writes these out.

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
from deeptaxi.network.layers import ActionMask, Dueling, OneHotDense, join

Floats = NDArray[np.float64]


def plain_network(network: keras.Model) -> keras.Model:
    """Return a network of Keras' own layers alone, from states `[B]` to Q values `[B, A]`; weights are copied.

    Its Q values differ from those of `network` by the rounding of the fold: less than 1e-6 · max(1, max |Q|). It does
    not look whether a state is in 0 … S−1; see `agent`.

    Raises:
        UsageError: the network holds layers that are neither deeptaxi's nor Keras' own, or computes something else
            beside its layers.
    """
    check_layers(network)
    state = keras.Input(shape=(), dtype="int32", name="state")
    made: dict[int, Any] = {id(network.input): state}
    for layer in network.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            made[id(layer.output)] = _plain(layer, made)
    return keras.Model(state, made[id(network.output)], name=network.name)


def check_layers(network: keras.Model) -> None:
    """Refuse a graph that is not one of layers alone, each of them called once.

    Raises:
        UsageError: it is not.
    """
    for operation in getattr(network, "operations", network.layers):
        if not isinstance(operation, keras.Layer):
            what = f"the computation {operation.name}, which is no layer"
        elif len(operation._inbound_nodes) != 1:
            what = f"the layer {operation.name} more than once"
        else:
            continue
        raise UsageError(f"the network holds {what}: write it as keras or savedmodel, or as a table (csv, npz, json)")


def _plain(layer: keras.layers.Layer, made: dict[int, Any]) -> Any:
    """Return what stands for the output of `layer`; `made` says what stands for its inputs."""
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
    """Join value and advantage: by one product where that is possible, else by their formula."""
    value, advantage = (tensor._keras_history.operation for tensor in layer.input)
    if not foldable(value, advantage, layer.aggregation):
        return join(*inputs, layer.aggregation)
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
    """Return M `[1 + N, N]` of a dueling head that is linear in its streams: Q = [V, A] M."""
    mean = 1 / actions if aggregation == "mean" else 0.0
    return np.vstack([np.ones(actions), np.eye(actions) - mean])


def foldable(value: Any, advantage: Any, aggregation: str) -> bool:
    """Whether a dueling head and the layers of its streams are together linear in one input."""
    return (
        aggregation in ("mean", "none")
        and type(value) is type(advantage)
        and isinstance(value, OneHotDense | keras.layers.Dense)
        and value.input is advantage.input
        and all(layer.activation is keras.activations.linear for layer in (value, advantage))
        and getattr(value, "factors", None) == getattr(advantage, "factors", None)
    )


def affine(layer: Any) -> tuple[Floats, Floats]:
    """Return kernel `[I, O]` and bias `[O]`, 0 where there is none, of a dense layer in float64."""
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
    """Look up the rows of a one-hot layer, `[B, O]`: the bias is in the rows, those of several parts are summed.

    Args:
        state: state numbers, `[B]`.
        kernel: `[S, O]`; with factors, the rows of one part after those of the other, `[Σ n_f, O]`.
        bias: `[O]`.
        factors: sizes n_1, …, n_F of the parts of a state, row-major; None for one-hot over all states.
        name: of the layer that it stands for.
        activation: what is applied to the sum.
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
