"""The memory of transitions: a ring that overwrites its oldest entries.

N copies of the environment are stepped together and their transitions stored together, so the ring is ordered by time:
the steps that follow the entry at position p are at p + N, p + 2N, …, modulo its capacity, a multiple of N. An entry
can be drawn once it has the n − 1 successors that an n-step target needs; the newest n − 1 rounds wait. An entry is
overwritten before its successors are, so one that is still there has them still.

`Replay` draws uniformly and with replacement, `prioritized.PrioritizedReplay` by td_error.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.learning.moment import Moment, array, check_range, count
from deeptaxi.learning.targets import n_step

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Transitions(NamedTuple):
    """Transitions as the environment made them, one a row; each array is `[N]`."""

    states: Ints
    actions: Ints
    rewards: Floats
    next_states: Ints
    terminated: Bools
    truncated: Bools


class Batch(NamedTuple):
    """A minibatch to learn from; each array is `[B]`."""

    states: Ints
    actions: Ints
    rewards: Floats  # the discounted sum of up to n
    next_states: Ints  # the state to bootstrap from
    discounts: Floats  # the bootstrap's factor: γ^m · (1 − terminated) after m steps
    weights: Floats  # of each sample in the loss


class Replay:
    """A ring of at most `capacity` transitions, drawn from uniformly.

    Args:
        capacity: entries; rounded down to a multiple of `copies`, and at least ``copies * steps``.
        copies: N, the number of transitions that are added at a time.
        steps: n of the n-step targets.
        discount: γ of the n-step targets.
    """

    def __init__(self, capacity: int, copies: int, steps: int, discount: float) -> None:
        self.capacity = capacity - capacity % copies
        self._columns = Transitions(
            np.zeros(self.capacity, np.int32),
            np.zeros(self.capacity, np.int32),
            np.zeros(self.capacity, np.float32),
            np.zeros(self.capacity, np.int32),
            np.zeros(self.capacity, np.bool_),
            np.zeros(self.capacity, np.bool_),
        )
        self._copies = copies
        self._waiting = (steps - 1) * copies
        self._sequence = copies * np.arange(steps)
        self._discount = discount
        self.added = 0  # over the whole training, overwritten ones included

    def __len__(self) -> int:
        """Return the number of entries that can be drawn."""
        return max(0, min(self.added, self.capacity) - self._waiting)

    def add(self, new: Transitions) -> None:
        """Add one transition of every copy, in the order of the copies."""
        first = self.added % self.capacity
        for column, values in zip(self._columns, new, strict=True):
            column[first : first + self._copies] = values
        self.added += self._copies

    def sample(self, count: int, rng: np.random.Generator, progress: float = 0.0) -> Batch:
        """Draw `count` entries, each equally likely at every draw; `progress` is that of the training."""
        del progress  # of use where the entries have weights
        oldest = max(0, self.added - self.capacity)
        rows = (oldest + rng.integers(0, len(self), count)) % self.capacity
        return self.at(rows, np.ones(count, np.float32))

    def at(self, rows: NDArray[np.int64], weights: Floats) -> Batch:
        """Return the minibatch of the entries at the positions `rows` `[B]`, with these weights."""
        sequences = (rows[:, None] + self._sequence) % self.capacity
        states, actions, rewards, next_states, terminated, truncated = self._columns
        returns, last, discounts = n_step(
            rewards[sequences], terminated[sequences], truncated[sequences], self._discount
        )
        reached = sequences[np.arange(len(rows)), last]
        return Batch(states[rows], actions[rows], returns, next_states[reached], discounts, weights)

    def pairs(self, actions: int) -> NDArray[np.int64]:
        """Return the numbers s·A + a of all entries."""
        count = min(self.added, self.capacity)
        return self._columns.states[:count].astype(np.int64) * actions + self._columns.actions[:count]

    def cut(self, copies: list[int]) -> None:
        """Let the episodes of these copies end with the entries that were added last."""
        for copy in copies:
            self._columns.truncated[(self.added - self._copies + copy) % self.capacity] = True

    def moment(self) -> Moment:
        """Return all entries, each array `[n]` with n = min(added, capacity), and how many were added."""
        return Moment({name: column.copy() for name, column in self._entries().items()}, {"added": self.added})

    def restore(self, moment: Moment, states: int, actions: int) -> None:
        """Fill the memory with the entries of a moment.

        Raises:
            UnfitError: they are of another memory, or of other than `states` states and `actions` actions.
        """
        self.added = count(moment, "added", 2**53)
        for name, column in self._entries().items():
            column[:] = array(moment, name, column.shape, column.dtype)
        for name, high in (("states", states), ("actions", actions), ("next_states", states)):
            check_range(moment, f"replay.{name}", 0, high)

    def _entries(self) -> dict[str, NDArray[Any]]:
        count = max(0, min(self.added, self.capacity))
        return {f"replay.{name}": column[:count] for name, column in self._columns._asdict().items()}

    def learnt(self, td_errors: Floats) -> None:
        """Take note of the |td_error| of the minibatch that was drawn last, `[B]`; here it changes nothing."""
