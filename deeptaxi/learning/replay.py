"""The memory of transitions: a ring that overwrites its oldest entries, drawn from uniformly and with replacement."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Transitions(NamedTuple):
    """Transitions, one a row; each array is `[B]`."""

    states: Ints
    actions: Ints
    rewards: Floats
    next_states: Ints
    terminated: Bools


class Replay:
    """A ring of at most `capacity` transitions."""

    def __init__(self, capacity: int) -> None:
        self._columns = Transitions(
            np.zeros(capacity, np.int32),
            np.zeros(capacity, np.int32),
            np.zeros(capacity, np.float32),
            np.zeros(capacity, np.int32),
            np.zeros(capacity, np.bool_),
        )
        self.capacity = capacity
        self.added = 0  # over the whole training, overwritten ones included

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, new: Transitions) -> None:
        """Add transitions; where more come than fit, the last ones stay."""
        where = (self.added + np.arange(len(new.states))) % self.capacity
        for column, values in zip(self._columns, new, strict=True):
            column[where] = values
        self.added += len(new.states)

    def sample(self, count: int, rng: np.random.Generator) -> Transitions:
        """Draw `count` transitions, each equally likely at every draw."""
        rows = rng.integers(0, len(self), count)
        states, actions, rewards, next_states, terminated = self._columns
        return Transitions(states[rows], actions[rows], rewards[rows], next_states[rows], terminated[rows])
