"""The gradient that enters the streams of a dueling head, in closed form.

With Q_j = V + A_j − (1/N) Σ_k A_k and an error E(Q), let g_j = dE/dQ_j. The chain rule gives

    dE/dA_i = Σ_j g_j · dQ_j/dA_i = Σ_j g_j · (δ_ij − 1/N)         the nested sum: N products for each of N actions
            = g_i − (1/N) Σ_j g_j                                  R + scalar: one sum, shared by all actions
    dE/dV   = Σ_j g_j                                              the same sum; V is one neuron

By the overwrite rule, g is zero for all actions except the one taken. The advantage stream still gets a gradient for
every action: −g/N for the others. With ``max`` instead of the mean, dQ_j/dA_i = δ_ij − [i is the best action];
without aggregation, dE/dA = g. Shapes: g, A `[B, N]`; V `[B, 1]`.

`head_gradients` checks the closed form against automatic differentiation and against central differences,
(E(x + h) − E(x − h)) / 2h for each entry x of V and A.
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
    identity: Floats = np.broadcast_to(np.eye(count), (batch, count, count))
    if aggregation == "mean":
        return np.asarray(identity - 1.0 / count)
    if aggregation == "max":
        best = advantage == advantage.max(axis=1, keepdims=True)
        return np.asarray(identity - (best / best.sum(axis=1, keepdims=True))[:, None, :])
    return identity


def advantage_gradient_nested(g: Floats, advantage: Floats, aggregation: str = "mean") -> Floats:
    """Return dE/dA by the nested sum Σ_j g_j · dQ_j/dA_i, `[B, N]`. Ties of ``max`` share the gradient."""
    return np.asarray(np.einsum("bj,bji->bi", g, jacobian(advantage, aggregation)))


def advantage_gradient_shared(g: Floats, total: Floats) -> Floats:
    """Return dE/dA = g + scalar with the shared sum ``total = Σ_j g_j`` `[B, 1]`, for the mean; `[B, N]`."""
    return np.asarray(g + (-1.0 / g.shape[1]) * total)


def value_gradient(g: Floats) -> Floats:
    """Return dE/dV = Σ_j g_j, `[B, 1]`, also the `total` of `advantage_gradient_shared`."""
    return np.asarray(g.sum(axis=1, keepdims=True))


def central_difference(function: Callable[[Floats], float], x: Floats, step: float = 1e-5) -> Floats:
    """Return the gradient of a scalar function at `x`, in the shape of `x`; central differences, error O(step²)."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


@dataclass(frozen=True)
class GradientCheck:
    """The largest absolute differences from the closed form (the nested sum), over all entries of dE/dA and dE/dV."""

    actions: int
    shared_sum: float | None  # None unless the aggregation is the mean, the only one with that form
    autodiff: float
    finite_differences: float

    @property
    def largest(self) -> float:
        """The largest of the three."""
        return max(self.shared_sum or 0.0, self.autodiff, self.finite_differences)


@dataclass(frozen=True)
class HeadGradients:
    """The gradients of a dueling head at one point, computed in four ways.

    Attributes:
        value: V `[B, 1]`.
        advantage: A `[B, N]`.
        q_values: Q `[B, N]`.
        g: dE/dQ `[B, N]`.
        nested: (dE/dV, dE/dA), dE/dA by the nested sum.
        shared: dE/dA by the shared sum; None unless the aggregation is the mean.
        autodiff: (dE/dV, dE/dA) by automatic differentiation.
        differences: (dE/dV, dE/dA) by central differences.
    """

    value: Floats
    advantage: Floats
    q_values: Floats
    g: Floats
    nested: tuple[Floats, Floats]
    shared: Floats | None
    autodiff: tuple[Floats, Floats]
    differences: tuple[Floats, Floats]

    @property
    def check(self) -> GradientCheck:
        """Their largest differences, relative to the largest dE/dQ if above 1, because rounding grows with it."""
        scale = max(1.0, float(np.abs(self.g).max()))
        return GradientCheck(
            self.g.shape[1],
            None if self.shared is None else largest(self.nested[1:], (self.shared,)) / scale,
            largest(self.nested, self.autodiff) / scale,
            largest(self.nested, self.differences) / scale,
        )


def head_gradients(g: Floats, value: Floats, advantage: Floats, aggregation: str = "mean") -> HeadGradients:
    """Return the gradients of a dueling head at V `[B, 1]` and A `[B, N]`, in float64.

    The error is E = Σ_j g_j · Q_j, the simplest one with dE/dQ = g; the streams' gradients depend on E only through g.
    """
    from keras import ops

    from deeptaxi.backend import keras_backend
    from deeptaxi.layers import Dueling

    head = Dueling(aggregation, dtype="float64")

    def error(v: Any, a: Any) -> Any:
        return ops.sum(ops.multiply(head([v, a]), g))

    def plain_error(v: Floats, a: Floats) -> float:
        return float(ops.convert_to_numpy(error(ops.convert_to_tensor(v), ops.convert_to_tensor(a))))

    total = value_gradient(g)
    with keras_backend.float64():
        q_values = ops.convert_to_numpy(head([ops.convert_to_tensor(value), ops.convert_to_tensor(advantage)]))
        return HeadGradients(
            value,
            advantage,
            np.asarray(q_values),
            g,
            nested=(total, advantage_gradient_nested(g, advantage, aggregation)),
            shared=advantage_gradient_shared(g, total) if aggregation == "mean" else None,
            autodiff=tuple(keras_backend.input_gradient(error, [value, advantage])),
            differences=(
                central_difference(lambda v: plain_error(v, advantage), value),
                central_difference(lambda a: plain_error(value, a), advantage),
            ),
        )


def random_gradients(
    actions: int, aggregation: str = "mean", batch: int = 4, seed: int = 0, g: Floats | None = None
) -> HeadGradients:
    """Return the gradients at normally distributed V and A, and for such a dE/dQ unless `g` `[B, N]` is given.

    V and A do not depend on whether `g` is given.
    """
    rng = np.random.default_rng(seed)
    value, advantage, drawn = (rng.normal(size=(batch, width)) for width in (1, actions, actions))
    return head_gradients(drawn if g is None else g, value, advantage, aggregation)


def check_gradients(actions: int, aggregation: str = "mean", batch: int = 4, seed: int = 0) -> GradientCheck:
    """Compare the closed form with automatic differentiation and central differences, in float64, at random points."""
    return random_gradients(actions, aggregation, batch, seed).check


def largest(one: Any, other: Any) -> float:
    """Return the largest absolute difference between two sequences of arrays."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
