"""Map observations to state numbers.

An observation from `Discrete`, `MultiDiscrete` or a `Tuple` of those has parts o_1, …, o_d with sizes n_1, …, n_d and
first values b_1, …, b_d; its state number is the row-major index of (o_1 − b_1, …, o_d − b_d). All other code
uses state numbers only.
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


def integers(space: Space[Any], observation: Any) -> Iterator[int]:
    """Yield the parts of an observation in `space`."""
    if isinstance(space, Tuple):
        for inner, part in zip(space.spaces, observation, strict=True):
            yield from integers(inner, part)
    elif isinstance(space, MultiDiscrete):
        yield from (int(value) for value in np.asarray(observation).flat)
    else:
        yield int(observation)


def contains(space: Space[Any], value: Any) -> bool:
    """Return ``space.contains(value)``, or False if it raises, as it does for ragged lists."""
    try:
        return bool(space.contains(value))
    except Exception:  # the value and the space may be third-party code
        return False


class ObservationError(DeepTaxiError):
    """An observation outside its space."""


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

    @property
    def composite(self) -> bool:
        """Whether an observation has parts instead of being a single number."""
        return not isinstance(self.space, Discrete)

    @cached_property
    def _plain(self) -> frozenset[type]:
        """The types that Gymnasium's own Discrete spaces accept whenever the value is in range."""
        spaces = self.space.spaces if type(self.space) is Tuple else (self.space,)
        if any(type(space) is not Discrete for space in spaces):
            return frozenset()
        wide = all(space.dtype == np.int64 for space in spaces)
        return frozenset({int, bool, np.int64} if wide else {int, bool})

    def encode(self, observation: Any) -> int:
        """Return the state number of an observation; accepts exactly what ``space.contains`` accepts.

        Raises:
            ObservationError: the space does not contain it.
        """
        plain = self._plain
        if type(observation) in plain and len(self.layout) == 1 and type(self.space) is Discrete:
            size, first = self.layout[0]
            if first <= observation < first + size:
                return int(observation) - first
        several = type(self.space) is Tuple
        if not plain or (several and (type(observation) is not tuple or len(observation) != len(self.layout))):
            return self._encode_any(observation)
        state = 0
        for value, (size, first) in zip(observation if several else (observation,), self.layout, strict=True):
            if type(value) not in plain or not first <= value < first + size:
                return self._encode_any(observation)
            state = state * size + int(value) - first
        return state

    def _encode_any(self, observation: Any) -> int:
        """Like `encode`, but ten times slower, for values that are not of a plain type."""
        if not contains(self.space, observation):
            raise ObservationError(unlike(self.space, observation))
        state = 0
        for value, (size, first) in zip(integers(self.space, observation), self.layout, strict=True):
            state = state * size + value - first
        return state


def unlike(space: Space[Any], observation: Any) -> str:
    """Describe which value puts an observation outside its space, and what was expected."""
    place, value, expected = offender(space, observation, ())
    where = "".join(f"[{index}]" for index in place)
    part = f", whose part {where} is {brief(value)}" if place else ""
    return f"the observation {brief(observation)}{part}: expected {expected}"


def offender(space: Space[Any], value: Any, place: tuple[int, ...]) -> tuple[tuple[int, ...], Any, str]:
    """Return the position of the first part outside its space, the part, and what was expected."""
    if isinstance(space, Tuple):
        if not isinstance(value, tuple | list | np.ndarray) or len(value) != len(space.spaces):
            return place, value, f"a tuple of {len(space.spaces)} values, of {one_line(space)}"
        for index, (inner, part) in enumerate(zip(space.spaces, value, strict=True)):
            if not contains(inner, part):
                return offender(inner, part, (*place, index))
    if isinstance(space, MultiDiscrete):
        return multi_offender(space, value, place)
    if isinstance(space, Discrete):
        last = int(space.start) + int(space.n) - 1
        kind = "" if space.dtype == np.int64 or not isinstance(value, np.integer) else f" of type {space.dtype}"
        if isinstance(value, np.unsignedinteger):
            kind = f" of a type that {space.dtype} has room for"
        return place, value, f"an integer from {int(space.start)} to {last}{kind}"
    return place, value, f"a value of {one_line(space)}"


def multi_offender(space: MultiDiscrete, value: Any, place: tuple[int, ...]) -> tuple[tuple[int, ...], Any, str]:
    """Like `offender`, for an array."""
    whole = f"an array of integers of shape {space.shape}, of {one_line(space)}"
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        return place, value, whole
    if array.shape != space.shape or not np.can_cast(array.dtype, space.dtype):
        return place, value, whole
    first, last = space.start, space.start + (space.nvec - 1)
    for index in np.argwhere((array < first) | (array > last)).tolist():
        at = tuple(index)
        return (*place, *at), array[at].item(), f"an integer from {first[at]} to {last[at]}"
    return place, value, whole


def one_line(space: Space[Any]) -> str:
    """Format a space on one line, as Gymnasium does."""
    return " ".join(str(space).split())


def brief(value: Any, longest: int = 80) -> str:
    """Format a value on one line of at most `longest` characters, as Python does."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        text = f"an object of {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


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
            f"{name} observes {one_line(space)}; deeptaxi trains on {SUPPORTED}: "
            "for other observations use Stable-Baselines3 or CleanRL"
        ) from None
    if states > MAX_STATES:
        raise UsageError(f"{name} has {states:,} states; a one-hot network here takes at most {MAX_STATES:,}")
    return codec


def check_actions(space: Space[Any], name: str) -> Discrete:
    """Return the action space if it is a single discrete choice.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(space, Discrete):
        raise UsageError(
            f"{name} takes actions from {one_line(space)}; deeptaxi trains on Discrete actions: "
            "for continuous or several actions use Stable-Baselines3 or CleanRL"
        )
    return space
