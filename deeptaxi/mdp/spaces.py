"""Observations to state numbers.

An observation from `Discrete`, `MultiDiscrete` or a `Tuple` of those has parts o_1, …, o_d with sizes n_1, …, n_d and
first values b_1, …, b_d; its state number is the row-major index of (o_1 − b_1, …, o_d − b_d). Everything above
this floor knows only state numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Discrete, MultiDiscrete, Tuple

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.table import Ints

SUPPORTED = "Discrete, MultiDiscrete and Tuple of these"
MAX_STATES = 10_000_000


def leaves(space: Space[Any]) -> Iterator[tuple[int, int]]:
    """Yield ``(size, first value)`` of each part of an observation.

    Raises:
        TypeError: the space has a part that is not discrete.
    """
    if isinstance(space, Discrete):
        yield int(space.n), int(space.start)
    elif isinstance(space, MultiDiscrete):
        yield from ((int(n), int(b)) for n, b in zip(space.nvec.flat, space.start.flat, strict=True))
    elif isinstance(space, Tuple):
        for part in space.spaces:
            yield from leaves(part)
    else:
        raise TypeError(type(space).__name__)


def parts(space: Space[Any], observation: Any) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the parts of one observation, each `[]`, or of a batch of observations, each `[B]`."""
    if isinstance(space, Tuple):
        for inner, part in zip(space.spaces, observation, strict=True):
            yield from parts(inner, part)
    elif isinstance(space, MultiDiscrete):
        values = np.asarray(observation)
        batch = values.shape[: values.ndim - space.nvec.ndim]
        yield from np.moveaxis(values.reshape(*batch, -1), -1, 0)
    else:
        yield np.asarray(observation)


@dataclass(frozen=True)
class StateCodec:
    """Maps the observations of one space to state numbers 0 … S−1."""

    space: Space[Any]

    @cached_property
    def layout(self) -> tuple[tuple[int, int], ...]:
        """``(size, first value)`` of each part."""
        return tuple(leaves(self.space))

    @cached_property
    def states(self) -> int:
        """S, the number of states."""
        return math.prod(size for size, _ in self.layout)

    def encode(self, observation: Any) -> Ints:
        """Map one observation to its state number `[]`, or a batch of B observations to `[B]`.

        Raises:
            DeepTaxiError: a part is outside its space.
        """
        if type(observation) in (int, np.int64) and isinstance(self.space, Discrete):
            size, first = self.layout[0]  # the common case, ten times as fast: a truth check has 20,000
            if first <= observation < first + size:
                return np.asarray(observation - first)
        state: Any = 0
        for part, (size, first) in zip(parts(self.space, observation), self.layout, strict=True):
            if part.dtype.kind not in "iu" or part.ndim > 1:
                raise DeepTaxiError(f"the environment gave the observation {observation!r}, outside of {self.space}")
            index = part.astype(np.int64) - first
            if index.size and (index.min() < 0 or index.max() >= size):
                raise DeepTaxiError(f"the environment gave the observation {observation!r}, outside of {self.space}")
            state = state * size + index
        return np.asarray(state)


def state_codec(space: Space[Any], name: str) -> StateCodec:
    """Return the codec of an observation space.

    Raises:
        UsageError: the space has parts that are not discrete, or too many states for a one-hot input.
    """
    codec = StateCodec(space)
    try:
        states = codec.states
    except TypeError:
        raise UsageError(
            f"{name} observes {' '.join(str(space).split())}; deeptaxi trains on {SUPPORTED}: "
            "for other observations use Stable-Baselines3 or CleanRL"
        ) from None
    if states > MAX_STATES:
        raise UsageError(f"{name} has {states:,} states; a one-hot network here takes at most {MAX_STATES:,}")
    return codec


def check_actions(space: Space[Any], name: str) -> Discrete:
    """Return the action space if it is one discrete choice.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(space, Discrete):
        raise UsageError(
            f"{name} takes actions from {' '.join(str(space).split())}; deeptaxi trains on Discrete actions: "
            "for continuous or several actions use Stable-Baselines3 or CleanRL"
        )
    return space
