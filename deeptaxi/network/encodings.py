"""How a network that was built elsewhere takes a state.

    number       [B] or [B, 1]      s
    one-hot      [B, S]             1 at s, else 0
    parts        [B, F]             the F parts of the observation, such as row and column
    parts, hot   [B, n_1 + … + n_F] one-hot over each part, one beside the other

with any number of axes of length 1 before the last, as in keras-rl's ``[B, 1, S]``, a window of one observation. Where
two of them have the same width, the first counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.mdp.environment import Environment


class Parts(NamedTuple):
    """The parts of an observation.

    Attributes:
        sizes: number of values of each, row-major.
        firsts: the first value of each.
    """

    sizes: tuple[int, ...] = ()
    firsts: tuple[int, ...] = ()


NO_PARTS = Parts()


def parts_of(environment: Environment) -> Parts:
    """Return the parts of an environment's observations; none if they are unknown."""
    from deeptaxi.mdp.describe import factors

    sizes = factors(environment) or ()
    firsts = tuple(first for _, first in environment.codec.layout)
    return Parts(sizes, firsts if len(firsts) == len(sizes) else (0,) * len(sizes))


def parts_for(network: Any, environment: Environment) -> Parts:
    """Return the parts of the observations, for a network from elsewhere; deeptaxi's own takes state numbers."""
    from deeptaxi.network.structure import structure_of

    return NO_PARTS if structure_of(network) is not None else parts_of(environment)


def kind_of(shape: Sequence[int | None], states: int, parts: Parts = NO_PARTS) -> str | None:
    """Return how an input of `shape`, without the batch axis, takes a state; None if in no known way."""
    if any(side != 1 for side in shape[:-1]):
        return None
    width = shape[-1] if shape else 1
    if width == 1:
        return "number"
    widths = {"one-hot": states, "parts": len(parts.sizes), "parts, hot": sum(parts.sizes)}
    return next((kind for kind, needed in widths.items() if width == needed > 1), None)


def expectation(states: int, parts: Parts = NO_PARTS) -> str:
    """Describe the inputs that are understood."""
    text = f"expected a state number [B] or [B, 1], or its one-hot vector [B, {states}]"
    if not parts.sizes:
        return text
    return f"{text}, or the parts of the observation [B, {len(parts.sizes)}] or [B, {sum(parts.sizes)}]"


def encode(
    states: NDArray[np.integer], shape: Sequence[int | None], count: int, parts: Parts = NO_PARTS
) -> NDArray[Any]:
    """Return the input for `states` `[B]` out of `count`: int32 or float32 `[B, *shape]`.

    `shape` is one that `kind_of` understands.
    """
    kind = kind_of(shape, count, parts)
    values: NDArray[Any]
    if kind == "number":
        values = states.astype(np.int32)
    elif kind == "one-hot":
        values = one_hot(states, count)
    else:
        each = np.unravel_index(states, parts.sizes)
        if kind == "parts":
            values = np.stack([part + first for part, first in zip(each, parts.firsts, strict=True)], 1)
            values = values.astype(np.int32)
        else:
            values = np.concatenate([one_hot(part, size) for part, size in zip(each, parts.sizes, strict=True)], 1)
    return values.reshape(len(states), *(int(side or 1) for side in shape))


def one_hot(numbers: NDArray[np.integer], count: int) -> NDArray[np.float32]:
    """Return one-hot vectors `[B, count]` of `numbers` `[B]`."""
    vectors = np.zeros((len(numbers), count), np.float32)
    vectors[np.arange(len(numbers)), numbers] = 1
    return vectors
