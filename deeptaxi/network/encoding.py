"""What a network sees of a state number: a one-hot vector over all states, or one over each part of a state.

The product of a one-hot vector e_s and a kernel W is row s of W, so it is computed as a gather. Where a state is made
of parts p_1, …, p_F of sizes n_1, …, n_F (row-major, S = Π n_f; `mdp.describe` says where they come from), the input
may be the one-hot vectors of the parts, one after the other. W has Σ n_f rows then, and the product is a sum of F of
them:

    x W = Σ_f W[n_1 + … + n_{f−1} + p_f]

What is learned of a part in one state so holds in all states that share it, those that were never visited included.
Taxi's 500 states are 5 · 5 · 5 · 4, and 19 rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops


def check_sizes(**sizes: Any) -> None:
    """Refuse sizes that are not whole numbers above 0."""
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: expected a whole number above 0, received {value!r}")


def check_factors(factors: Any, states: int) -> None:
    """Refuse factors that are not whole numbers above 0 whose product is S."""
    if factors is not None:
        check_sizes(**{f"factor {number}": size for number, size in enumerate(factors, start=1)})
        if math.prod(factors) != states:
            raise ValueError(f"factors: expected a product of {states}, received {list(factors)}")


def encode(states: Any, factors: Sequence[int] | None = None) -> Any:
    """Return which rows of a first kernel the states pick, int32 `[B, F]`; their sum is the kernel's output.

    Args:
        states: state numbers 0 … S−1, `[B]`; others are the caller's to keep out.
        factors: sizes n_1, …, n_F of the parts of a state, row-major; None for one-hot over all states, where F = 1.
    """
    states = ops.cast(states, "int32")
    if factors is None:
        return ops.expand_dims(states, -1)
    rows, stride, offset = [], math.prod(factors), 0
    for size in factors:
        stride //= size
        rows.append(offset + ops.mod(ops.floor_divide(states, stride), size))
        offset += size
    return ops.stack(rows, axis=-1)


def gather_rows(table: Any, states: Any, factors: Sequence[int] | None = None) -> Any:
    """Return the sum of the rows that `encode` names, `[B, N]`: without factors, ``table[states]``.

    A state outside 0 … S−1 gives a row of NaN, on every backend. Left to themselves the backends clamp, wrap around or
    raise. A wrong answer must not look like an answer.
    """
    count = table.shape[0] if factors is None else math.prod(factors)
    inside = ops.logical_and(states >= 0, states < count)
    clipped = ops.clip(states, 0, count - 1)
    if factors is None:
        rows = ops.take(table, clipped, axis=0)
    else:
        rows = ops.sum(ops.take(table, encode(clipped, factors), axis=0), axis=-2)
    return ops.where(ops.expand_dims(inside, -1), rows, float("nan"))
