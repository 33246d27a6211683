"""Number the observations of a large space in the order in which they first occur.

A board of 20 cells with three values each has 3^20 observations, of which an agent sees a few thousand. One-hot over
all of them is out of the question; one-hot over those that occur is not. So states are numbered as they are first seen:

    0 … S−2    the observations, in the order in which a training first sees them
    S−1        all others: those seen once the numbers before were used up, and those never seen in training

S is the *capacity*. All instances of an environment share one numbering. It is open, so that it grows, only while a
loop trains; and it is part of the model, which means nothing without it. Where the transition table is discovered,
exactly the observations of the table are numbered, in the order of the space, and there is no state for others.

An observation is identified by its row-major index in the whole space, an integer of any size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.spaces import MAX_NUMBER, MAX_STATES, ObservationError, StateCodec, amount, brief

CAPACITY = 100_000  # by default
LEAST_CAPACITY = 1_000  # that a default is lowered to
MAX_PAIRS = 10_000_000  # Q values of a default capacity
MAX_BYTES = 2**28  # of the observations that a model keeps
JOINT = 0  # the capacity that says: number all combinations
NAMED_PARTS = 256  # of an observation that is named by them


class Numbering:
    """The observations that have a number, in its order.

    Attributes:
        open: whether an observation that has none is given the next.
        complete: whether no other observation can occur.
    """

    def __init__(self, observations: Iterable[int] = (), complete: bool = False, open: bool = False) -> None:  # noqa: A002
        self.complete = complete
        self.open = open
        self.replace(observations)

    def __len__(self) -> int:
        return len(self._observations)

    def __iter__(self) -> Any:
        return iter(self._observations)

    def __getitem__(self, number: int) -> int:
        return self._observations[number]

    def number(self, observation: int, most: int) -> int | None:
        """Return the number of an observation; a new one, below `most`, if it has none and the numbering is open."""
        found = self._numbers.get(observation)
        if found is None and self.open and len(self._observations) < most:
            found = self._numbers[observation] = len(self._observations)
            self._observations.append(observation)
        return found

    def replace(self, observations: Iterable[int]) -> None:
        """Take other observations instead of these."""
        self._observations = list(observations)
        self._numbers = {observation: number for number, observation in enumerate(self._observations)}


@dataclass(frozen=True)
class NumberingCodec(StateCodec):
    """Maps the observations of a space to state numbers as they are first seen.

    Attributes:
        capacity: S; of a complete numbering, the number of its observations.
        numbering: the observations that have a number. Shared by all instances of an environment.
    """

    capacity: int = CAPACITY
    numbering: Numbering = field(default_factory=Numbering, compare=False)

    @property
    def states(self) -> int:
        """S."""
        return self.capacity

    @property
    def combinations(self) -> int:
        """The number of observations in the space."""
        return self.count

    @property
    def complete(self) -> bool:
        """Whether the numbering is that of a discovered table."""
        return self.numbering.complete

    @property
    def shared_state(self) -> int | None:
        """The state of all observations that have no number of their own; None if there are none."""
        return None if self.complete else self.capacity - 1

    def encode(self, value: Any) -> int:
        """Return the state of an observation.

        Raises:
            ObservationError: the space does not contain it; or the numbering is complete, and it is not in it.
        """
        found = self.numbering.number(super().encode(value), self.capacity - 1)
        if found is not None:
            return found
        if self.complete:
            raise ObservationError(
                f"the observation {brief(value)}: expected one of the {len(self.numbering):,} of its discovered table"
            )
        return self.capacity - 1

    def state_of(self, observation: int) -> int:
        """Return the state of an observation, by its index in the whole space, where not all are complete."""
        found = self.numbering.number(observation, self.capacity - 1)
        return self.capacity - 1 if found is None else found

    def number_of(self, observation: int) -> int:
        """Return the state of an observation that has one, by its index in the whole space."""
        found = self.numbering.number(observation, 0)
        if found is None:
            raise LookupError(observation)
        return found

    def has_seen(self, value: Any) -> bool:
        """Return whether an observation has a number of its own.

        Raises:
            ObservationError: the space does not contain it.
        """
        return self.numbering.number(super().encode(value), 0) is not None

    def decode(self, number: int) -> Any:
        """Return an observation that has this number.

        Raises:
            UsageError: no observation has this number.
        """
        if not 0 <= number < len(self.numbering):
            raise UsageError(
                f"state {number} is no observation: states 0 … {len(self.numbering) - 1} are those that were seen"
            )
        return self.node.value(self.numbering[number])

    def name(self, number: int) -> str:
        """Describe the observations that have this number."""
        if number >= len(self.numbering):
            return "all other observations" if number == self.shared_state else f"state {number}, not seen"
        if len(self.layout) > NAMED_PARTS:
            return f"observation {number}"
        return self.node.name(self.numbering[number])

    def describe(self) -> dict[str, Any]:
        """Describe in JSON how an observation becomes a number."""
        described = {"space": super().describe().get("space", str(self.space)), "parts": None}
        return described | {
            "numbering": {
                "seen": len(self.numbering),
                "combinations": amount(self.combinations),
                "complete": self.complete,
                "digest": self.digest,
            }
        }

    # Saving

    @cached_property
    def width(self) -> int:
        """The bytes of an observation's index in the whole space."""
        return max(1, ((self.combinations - 1).bit_length() + 7) // 8)

    def observations(self) -> NDArray[np.uint8]:
        """Return the index of each numbered observation, big-endian, `[N, width]`."""
        raw = b"".join(observation.to_bytes(self.width, "big") for observation in self.numbering)
        return np.frombuffer(raw, np.uint8).reshape(len(self.numbering), self.width).copy()

    @property
    def digest(self) -> str:
        """The SHA-256 of the numbered observations."""
        return digest_of(self.observations())

    def parse(self, observations: NDArray[Any], complete: bool) -> list[int]:
        """Undo `observations`.

        Raises:
            DeepTaxiError: they are not observations of this space, or more than there is room for.
        """
        if observations.dtype != np.uint8 or observations.ndim != 2 or observations.shape[1] != self.width:
            raise DeepTaxiError(
                f"its observations are {observations.dtype} {list(observations.shape)}, "
                f"expected uint8 [N, {self.width}]"
            )
        most = MAX_STATES if complete else self.capacity - 1
        if len(observations) > most:
            raise DeepTaxiError(f"it numbers {len(observations):,} observations, expected at most {most:,}")
        found = rows_of(observations)
        if len(set(found)) < len(found):
            raise DeepTaxiError("it numbers an observation twice")
        if found and max(found) >= self.combinations:
            raise DeepTaxiError(f"it numbers an observation outside the {amount(self.combinations)} of the space")
        return found

    def load(self, observations: NDArray[Any] | None) -> None:
        """Take the numbering of an interrupted training.

        Raises:
            DeepTaxiError: it is missing, or of another space.
        """
        if observations is None:
            raise DeepTaxiError("there are none")
        self.numbering.replace(self.parse(observations, complete=False))

    # Codecs of the same space

    def renew(self, growing: bool = False) -> Self:
        """Return a codec with a numbering of its own: an empty one, which may be open, unless this one is complete."""
        numbering = Numbering(self.numbering, complete=True) if self.complete else Numbering(open=growing)
        return replace(self, numbering=numbering)

    def whole(self) -> StateCodec:
        """Return the codec that numbers all observations of the space."""
        return StateCodec(self.space, self.view)

    def explore(self) -> Self:
        """Return a codec that numbers everything, without a limit."""
        return replace(self, capacity=2**62, numbering=Numbering(open=True))

    def restore(self, observations: NDArray[Any], complete: bool) -> Self:
        """Return a codec with a numbering that was kept.

        Raises:
            DeepTaxiError: it is not of this space.
        """
        found = self.parse(observations, complete)
        return replace(self, capacity=len(found) if complete else self.capacity, numbering=Numbering(found, complete))

    def restrict(self, observations: Iterable[int]) -> Self:
        """Return a codec of exactly these observations, in the order of the space."""
        kept = sorted(set(observations))
        return replace(self, capacity=len(kept), numbering=Numbering(kept, complete=True))


def rows_of(observations: NDArray[np.uint8]) -> list[int]:
    """Return the integers whose bytes the rows are."""
    width, raw = observations.shape[1], np.ascontiguousarray(observations).tobytes()
    return [int.from_bytes(raw[first : first + width], "big") for first in range(0, len(raw), width)]


def digest_of(observations: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of observations `[N, width]`."""
    about = f"{observations.shape}".encode()
    return hashlib.sha256(about + np.ascontiguousarray(observations).tobytes()).hexdigest()


def default_capacity(codec: StateCodec, actions: int) -> int:
    """Return the largest power of ten, from 1,000 to 100,000, whose Q values and observations fit into memory."""
    capacity, width = CAPACITY, NumberingCodec(codec.space, codec.view).width
    while capacity > LEAST_CAPACITY and (capacity * actions > MAX_PAIRS or capacity * width > MAX_BYTES):
        capacity //= 10
    return capacity


def numbers_as_met(codec: StateCodec, capacity: int | None) -> bool:
    """Whether observations are numbered as they are first seen: where it is asked for, or all of them are too many.

    Real numbers in bins are seen part by part, as long as their joint numbers have 32 bits.
    """
    if capacity is not None:
        return capacity != JOINT
    by_parts = bool(codec.view.bins) and len(codec.layout) > 1
    return codec.count > (MAX_NUMBER if by_parts else MAX_STATES)


def numbering_codec(codec: StateCodec, capacity: int | None, actions: int, name: str) -> NumberingCodec:
    """Return the codec that numbers the observations of a space as they are first seen.

    Args:
        codec: numbers all of them.
        capacity: S; None for the default.
        actions: A.
        name: display name of the environment.

    Raises:
        UsageError: the observations of this capacity would take too much memory.
    """
    found = NumberingCodec(codec.space, codec.view, capacity=capacity or default_capacity(codec, actions))
    most = min(MAX_STATES, MAX_BYTES // found.width)
    if not 2 <= found.capacity <= most:
        raise UsageError(
            f"--state-capacity {found.capacity}: expected 2 to {most:,} states, as an observation of {name} takes "
            f"{found.width:,} bytes"
        )
    return found
