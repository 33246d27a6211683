"""The gradient that enters the streams of a dueling head, in closed form.

With Q_j = V + A_j − (1/N) Σ_k A_k and an error E(Q), let g_j = dE/dQ_j. The chain rule gives

    dE/dA_i = Σ_j g_j · dQ_j/dA_i = Σ_j g_j · (δ_ij − 1/N)         the nested sum: N products for each of N actions
            = g_i − (1/N) Σ_j g_j                                  R + scalar: one sum, shared by all actions
    dE/dV   = Σ_j g_j                                              the same sum again; V is one neuron

By the overwrite rule g is zero for all actions but the one taken. The advantage stream still gets a gradient for
every action: −g/N for the others. With ``max`` in place of the mean, dQ_j/dA_i = δ_ij − [i is the best action];
without aggregation, dE/dA = g. Shapes: g, A `[B, N]`; V `[B, 1]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def jacobian(advantage: Floats, aggregation: str = "mean") -> Floats:
    """Return dQ_j/dA_i, `[B, N, N]` with j before i."""
    batch, count = advantage.shape
    identity = np.broadcast_to(np.eye(count), (batch, count, count))
    if aggregation == "mean":
        return identity - 1.0 / count
    if aggregation == "max":
        best = advantage == advantage.max(axis=1, keepdims=True)
        return identity - (best / best.sum(axis=1, keepdims=True))[:, None, :]
    return identity


def advantage_gradient_nested(g: Floats, advantage: Floats, aggregation: str = "mean") -> Floats:
    """Return dE/dA by the nested sum Σ_j g_j · dQ_j/dA_i, `[B, N]`. Ties of ``max`` share the gradient."""
    return np.einsum("bj,bji->bi", g, jacobian(advantage, aggregation))


def advantage_gradient_shared(g: Floats, total: Floats) -> Floats:
    """Return dE/dA = g + scalar with the shared sum ``total = Σ_j g_j`` `[B, 1]`, for the mean; `[B, N]`."""
    return g + (-1.0 / g.shape[1]) * total


def value_gradient(g: Floats) -> Floats:
    """Return dE/dV = Σ_j g_j, `[B, 1]`: also the sum that `advantage_gradient_shared` takes."""
    return g.sum(axis=1, keepdims=True)


def central_difference(function: Callable[[Floats], float], x: Floats, step: float = 1e-5) -> Floats:
    """Return the gradient of a scalar function by central differences, in the shape of `x`; the error is O(step²)."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


@dataclass(frozen=True)
class GradientCheck:
    """The largest absolute discrepancy from the closed form (the nested sum), over all entries of dE/dA and dE/dV."""

    actions: int
    shared_sum: float | None  # None but for the mean, which alone has that form
    autodiff: float
    finite_differences: float


def check_gradients(actions: int, aggregation: str = "mean", batch: int = 4, seed: int = 0) -> GradientCheck:
    """Compare the closed form with automatic differentiation and central differences, in float64.

    The error is E = ½ Σ (Q − target)², so that g = Q − target, at random V, A and targets.
    """
    from keras import ops

    from deeptaxi import backend
    from deeptaxi.network.layers import Dueling

    rng = np.random.default_rng(seed)
    value, advantage, target = (rng.normal(size=(batch, width)) for width in (1, actions, actions))
    head = Dueling(aggregation, dtype="float64")

    def error(v: Any, a: Any) -> Any:
        return 0.5 * ops.sum(ops.square(ops.subtract(head([v, a]), target)))

    def plain_error(v: Floats, a: Floats) -> float:
        return float(ops.convert_to_numpy(error(ops.convert_to_tensor(v), ops.convert_to_tensor(a))))

    q_values = ops.convert_to_numpy(head([ops.convert_to_tensor(value), ops.convert_to_tensor(advantage)]))
    g = q_values - target
    total = value_gradient(g)
    closed = (total, advantage_gradient_nested(g, advantage, aggregation))
    differences = (
        central_difference(lambda v: plain_error(v, advantage), value),
        central_difference(lambda a: plain_error(value, a), advantage),
    )
    shared = advantage_gradient_shared(g, total) if aggregation == "mean" else None
    return GradientCheck(
        actions,
        None if shared is None else float(np.abs(shared - closed[1]).max()),
        largest(closed, backend.input_gradient(error, [value, advantage])),
        largest(closed, differences),
    )


def largest(one: Any, other: Any) -> float:
    """Return the largest absolute difference between two sequences of arrays."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
