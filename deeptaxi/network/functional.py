"""The network as a pure function of its weights, for compiled programs that carry the weights themselves.

A network from `build_q_network` consists of a first layer on the one-hot state, whose product is the row z = W[s] of
its kernel, and a rest that does not depend on the encoding of states:

    z = Σ_f W[index_f(s)]                        one row per factor; a single row under the joint encoding
    x = σ(z + b_0);  x ← σ(x K_iᵀ + b_i)         the hidden layers
    Q = join(x Kᵀ + b)                           the head; dueling: row 0 of K gives V, the others A

Without hidden layers, z is the output itself and there is no rest. The streams V and A of a dueling head are stacked in
one matrix, so that one product computes both. The whole rest is one flat array, so that one pass of the optimizer
updates it; its kernels are stored transposed, `[O, I]`, the layout in which their gradient is computed fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.backend import xla
from deeptaxi.config import NetworkConfig
from deeptaxi.layers import join

Floats = NDArray[np.float32]


class Weights(NamedTuple):
    """The weights of a network."""

    kernel: Any  # [R, W], of the first layer
    rest: Any  # [D], all others; D may be 0


def shapes(config: NetworkConfig, actions: int) -> list[tuple[int, ...]]:
    """Return the shapes of the parts of `Weights.rest`, in order."""
    outputs = actions + 1 if config.dueling else actions
    layers = [(size, before) for before, size in pairwise((*config.hidden, outputs))]
    first: list[tuple[int, ...]] = [config.hidden[:1]] if config.hidden else []
    return first + [shape for output, inputs in layers for shape in ((output, inputs), (output,))]


def unravel(flat: Any, parts: Sequence[tuple[int, ...]]) -> list[Any]:
    """Split a flat array into arrays of the given shapes."""
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in parts)]).tolist()
    return [ops.reshape(flat[i:j], shape) for (i, j), shape in zip(pairwise(ends), parts, strict=True)]


def ravel(parts: Sequence[Any]) -> Any:
    """Flatten and concatenate arrays; an empty array if there are none."""
    return ops.concatenate([ops.reshape(part, (-1,)) for part in parts]) if parts else ops.zeros((0,))


def q_values(z: Any, rest: Sequence[Any], config: NetworkConfig) -> Any:
    """Return the Q values `[B, A]` from summed kernel rows `z` `[B, W]` and the unraveled `rest`."""
    x = z
    if config.hidden:
        activate = relu if config.activation == "relu" else keras.activations.get(config.activation)
        x = activate(z + rest[0])
        for kernel, bias in zip(rest[1:-2:2], rest[2:-2:2], strict=True):
            x = activate(product(x, kernel) + bias)
        folds = config.dueling and config.aggregation != "max"
        kernel, bias = fold_dueling(rest[-2], rest[-1], config.aggregation) if folds else rest[-2:]
        x = product(x, kernel) + bias
        if folds:
            return x
    return join(x[:, :1], x[:, 1:], config.aggregation) if config.dueling else x


def fold_dueling(kernel: Any, bias: Any, aggregation: str) -> tuple[Any, Any]:
    """Return kernel `[A, I]` and bias `[A]` of Q, from those of the streams, `[1 + A, I]` and `[1 + A]`.

    V + A − mean(A) is linear in (V, A), so the weights of the streams can be combined instead of their outputs.
    """
    return join(kernel[:1], kernel[1:], aggregation, axis=0), join(bias[:1], bias[1:], aggregation)


@ops.custom_gradient
def relu(x: Any) -> Any:
    """Return max(x, 0), which the gradient is computed from: x need not be in memory.

    By default, the compiler computes the maximum again wherever it is used, from an x that it writes to memory first.
    It does not do so to a selection, whose operands are larger than itself.
    """
    y = ops.where(x <= 0, 0.0, x)  # NaN remains

    def backward(*args: Any, upstream: Any = None) -> Any:
        (gradient,) = args if upstream is None else (upstream,)
        return ops.where(y > 0, gradient, 0.0)

    return y, backward


@ops.custom_gradient
def product(x: Any, kernel: Any) -> Any:
    """Return x Kᵀ, `[B, O]`, for x `[B, I]` and a kernel K `[O, I]`.

    The gradient of K is Gᵀ x, `[O, I]`. By default, the compiler fuses the transpose into the product and falls back to
    a loop that is ten times as slow; so Gᵀ, the smaller operand, is materialized first.
    """

    def backward(*args: Any, upstream: Any = None) -> tuple[Any, Any]:
        (gradient,) = args if upstream is None else (upstream,)
        return ops.matmul(gradient, kernel), ops.matmul(xla.materialize(ops.transpose(gradient)), x)

    return ops.matmul(x, ops.transpose(kernel)), backward


def weights_of(network: keras.Model, config: NetworkConfig) -> Weights:
    """Return the weights of `network` as NumPy arrays."""
    layers = [network.get_layer(f"hidden_{index}").get_weights() for index in range(len(config.hidden))]
    names = ("value", "advantage") if config.dueling else ("q_values",)
    heads = [network.get_layer(name).get_weights() for name in names]
    layers.append([np.concatenate(parts, axis=-1) for parts in zip(*heads, strict=True)])
    first, *others = [array for layer in layers for array in layer]
    return Weights(first, np.concatenate([np.zeros(0, np.float32), *(array.T.reshape(-1) for array in others)]))


def assign(network: keras.Model, config: NetworkConfig, weights: Weights) -> None:
    """Assign the weights to `network`."""
    actions = int(network.outputs[0].shape[-1])
    flat, parts = np.asarray(weights.rest), shapes(config, actions)
    cuts = np.cumsum([int(np.prod(shape)) for shape in parts])[:-1]
    cut = np.split(flat, cuts) if parts else []
    arrays = [np.asarray(weights.kernel), *(a.reshape(shape).T for a, shape in zip(cut, parts, strict=True))]
    for index in range(len(config.hidden)):
        network.get_layer(f"hidden_{index}").set_weights(arrays[2 * index : 2 * index + 2])
    head = arrays[2 * len(config.hidden) :]
    if config.dueling:
        network.get_layer("value").set_weights([array[..., :1] for array in head])
        network.get_layer("advantage").set_weights([array[..., 1:] for array in head])
    else:
        network.get_layer("q_values").set_weights(head)
