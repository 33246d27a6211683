"""Prioritized sampling by a sum tree, as pure functions that compile: static shapes, no loop over the minibatch.

Schaul, Quan, Antonoglou & Silver 2016, "Prioritized Experience Replay", sec. 3.3 and appendix B.2.1. Entry i of the
replay buffer has priority p_i = (|td_error_i| + ε)^α. It is sampled with probability P(i) and, to correct the resulting
bias of the expected update, weighted by w_i:

    P(i) = p_i / Σ_k p_k          w_i = (N · P(i))^(−β) / max_j w_j        (the maximum over the minibatch).

**The tree** is a list of float32 levels. `tree[0]` are the leaves, one per entry, padded with zeros to a multiple of
16; each further level holds the sums of 16 neighbors of the level before, padded likewise; the last has 16 entries.
With a fan-out of 16, half a million entries take five levels, and a level is one gather of 16 floats, a cache line.

**Rounding.** A changed leaf does not add a difference to its parents; they are summed again, in a fixed order. So each
parent is always the same float32 sum of its children, and nothing drifts. On the way down, rounding may leave a
remainder at or beyond the last child's running sum; then the last child above zero is taken, so that an entry without
priority is never sampled. float32 uniforms take 2²⁴ values in [0, 1), so the probability of a single leaf is accurate
to about 2⁻²⁴; the probabilities returned are those of the definition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

FAN_OUT = 16
LEAST_ERROR = 1e-6  # ε: added to |td_error|, so that transitions without error can still be sampled


def levels(capacity: int) -> list[NDArray[np.float32]]:
    """Return a tree for `capacity` entries, all of priority zero."""
    sizes = [-(-capacity // FAN_OUT)]  # in groups of 16
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // FAN_OUT))
    return [np.zeros(size * FAN_OUT, np.float32) for size in sizes]


def assign(tree: list[Any], index: Any, values: Any) -> list[Any]:
    """Set the leaves `index` to `values` and update the sums above them; return the new tree.

    Args:
        tree: the levels, leaves first.
        index: int32 `[B]`. Repeated entries must have equal values, as the td_errors of an entry sampled twice do:
            which of different values is stored depends on the device.
        values: float32 `[B]`, 0 or more.
    """
    new = [ops.scatter_update(tree[0], ops.expand_dims(index, 1), values)]
    for level in tree[1:]:
        index = ops.floor_divide(index, FAN_OUT)
        new.append(ops.scatter_update(level, ops.expand_dims(index, 1), total(children(new[-1], index))))
    return new


def draw(tree: list[Any], uniforms: Any) -> tuple[Any, Any]:
    """Sample entries in proportion to their priorities, at least one of which must be above zero.

    Args:
        tree: the levels, leaves first.
        uniforms: float32 in [0, 1], `[B]`. Stratified, as in the paper: (b + u_b) / B, with u_b in [0, 1).

    Returns:
        The entries, int32 `[B]`, and the probability of each under a single uniform number, `[B]`.
    """
    whole = total(ops.expand_dims(tree[-1], 0))
    rest = ops.multiply(uniforms, whole)
    node = ops.zeros_like(uniforms, dtype="int32")
    for level in reversed(tree):
        inside = children(level, node)
        reached = ops.cumsum(inside, axis=1)
        child = _child_at(inside, reached, rest)
        chosen = ops.equal(ops.expand_dims(child, 1), ops.arange(1, FAN_OUT, dtype="int32"))
        rest = rest - ops.sum(ops.where(chosen, reached[:, :-1], 0.0), axis=1)  # subtract the sum before the child
        node = FAN_OUT * node + child
    return node, ops.take(tree[0], node) / whole


def children(level: Any, nodes: Any) -> Any:
    """Return the entries of `level` below the `nodes` `[B]` of the next level, `[B, 16]`."""
    return ops.take(level, ops.expand_dims(FAN_OUT * nodes, 1) + ops.arange(FAN_OUT, dtype="int32"), axis=0)


def total(values: Any) -> Any:
    """Sum the rows of `values` `[B, 16]` by repeated halving: bit for bit the same on every device."""
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        values = values[:, :half] + values[:, half:]
    return values[:, 0]


def _child_at(inside: Any, reached: Any, rest: Any) -> Any:
    """Return the index of the child that contains `rest` `[B]`, given `inside` `[B, 16]` and its running sums.

    It is the first child whose running sum in `reached` exceeds `rest`; if rounding leaves none, the last above zero.
    """
    order = ops.arange(FAN_OUT, dtype="int32")
    positive = inside > 0
    hit = ops.logical_and(positive, reached > ops.expand_dims(rest, 1))
    rank = ops.where(hit, 2 * FAN_OUT - order, ops.where(positive, order, -1))
    return ops.cast(ops.argmax(rank, axis=1), "int32")


def priorities(td_error: Any, exponent: Any) -> Any:
    """Return (|td_error| + ε)^α `[B]`, with α = `exponent`."""
    return ops.power(ops.abs(td_error) + LEAST_ERROR, exponent)


def importance_weights(probability: Any, size: Any, exponent: Any) -> Any:
    """Return the weights `[B]` of samples with `probability` `[B]` among `size` entries; β = `exponent`."""
    weights = ops.power(size * probability, -exponent)
    return weights / ops.max(weights)
