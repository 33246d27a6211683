"""The replay buffer: a ring buffer of transitions, sampled uniformly or by priority.

N environments are stepped together and their transitions stored together, so the buffer is ordered by time: the steps
that follow the entry at position p are at p + N, p + 2N, …, modulo the capacity, a multiple of N. An entry can be
sampled once it has the n − 1 successors that an n-step target needs, so the newest n − 1 rounds cannot. An entry is
overwritten before its successors are, so every entry in the buffer still has them.

`ReplayBuffer` samples uniformly with replacement, `PrioritizedReplayBuffer` by td_error.

**Prioritized** (Schaul et al. 2016; see `sum_tree`). A new transition gets the largest priority so far, so that it is
likely to be sampled at least once; after an update, the sampled entries get the priority of their new td_error. Entries
that cannot be sampled have priority zero: a transition gets its priority once it has the successors of an n-step
target, and loses it when it is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.backend import keras_backend
from deeptaxi.learning import sum_tree
from deeptaxi.learning.schedules import importance_exponent
from deeptaxi.learning.state import TrainingState, amount, array, check_range, count
from deeptaxi.recipe import n_step

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Greedy = Callable[[Ints, Ints], Bools]  # states and actions, [B, n − 1] each, to whether these are greedy


class Transitions(NamedTuple):
    """Transitions as returned by the environment, one per row; each array is `[N]`."""

    states: Ints
    actions: Ints
    rewards: Floats
    next_states: Ints
    terminated: Bools
    truncated: Bools


class Batch(NamedTuple):
    """A minibatch; each array is `[B]`, with expected updates the next states and the factors `[B, K]`."""

    states: Ints
    actions: Ints
    rewards: Floats  # discounted sums of up to n rewards
    next_states: Ints  # states to bootstrap from
    discounts: Floats  # bootstrap factors: γ^m · (1 − terminated) after m steps
    weights: Floats  # sample weights in the loss


def random_bits(rng: np.random.Generator, count: int) -> Ints:
    """Return random bits, int32 `[count]`, from which compiled programs sample a minibatch too."""
    return rng.integers(-(2**31), 2**31, count, np.int32)


def naturals(bits: Ints) -> NDArray[np.int64]:
    """Convert random bits to integers from 0 to 2³¹ − 1, as `xla.naturals` does."""
    return (bits & 0x7FFFFFFF).astype(np.int64)


def fractions(bits: Ints) -> Floats:
    """Convert random bits to numbers in [0, 1), as `xla.fractions` does."""
    return (bits >> 8 & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24)


class ReplayBuffer:
    """A ring buffer of at most `capacity` transitions, sampled uniformly.

    Args:
        capacity: entries; rounded down to a multiple of `copies`, and at least ``copies * steps``.
        copies: N, the number of transitions added at a time.
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
        self.added = 0  # over the whole training, including overwritten ones

    def __len__(self) -> int:
        """Return the number of entries that can be sampled."""
        return max(0, min(self.added, self.capacity) - self._waiting)

    def add(self, new: Transitions) -> None:
        """Add one transition per environment, in order."""
        first = self.added % self.capacity
        for column, values in zip(self._columns, new, strict=True):
            column[first : first + self._copies] = values
        self.added += self._copies

    def sample(
        self, count: int, rng: np.random.Generator, progress: float = 0.0, greedy: Greedy | None = None
    ) -> Batch:
        """Sample `count` entries uniformly with replacement; `progress` is that of the training, `greedy` of `at`."""
        del progress  # used only by prioritized replay
        oldest = max(0, self.added - self.capacity)
        rows = (oldest + naturals(random_bits(rng, count)) % len(self)) % self.capacity
        return self.at(rows, np.ones(count, np.float32), greedy)

    def at(self, rows: NDArray[np.int64], weights: Floats, greedy: Greedy | None = None) -> Batch:
        """Return the minibatch of the entries at positions `rows` `[B]`, with the given weights.

        `greedy` tells which actions are greedy, which ends n-step sums before others; None for plain sums.
        """
        sequences = (rows[:, None] + self._sequence) % self.capacity
        states, actions, rewards, next_states, terminated, truncated = self._columns
        later = sequences[:, 1:]
        followed = None if greedy is None else greedy(states[later], actions[later])
        returns, last, discounts = n_step(
            rewards[sequences], terminated[sequences], truncated[sequences], self._discount, followed
        )
        reached = sequences[np.arange(len(rows)), last]
        return Batch(states[rows], actions[rows], returns, next_states[reached], discounts, weights)

    def pairs(self, actions: int) -> NDArray[np.int64]:
        """Return the pair indices s·A + a of all `n` entries, int64 `[n]`."""
        count = min(self.added, self.capacity)
        return self._columns.states[:count].astype(np.int64) * actions + self._columns.actions[:count]

    def cut(self, copies: list[int]) -> None:
        """Mark the newest entry of each of these environments as truncated."""
        for copy in copies:
            self._columns.truncated[(self.added - self._copies + copy) % self.capacity] = True

    def state_dict(self) -> TrainingState:
        """Return all entries, each array `[n]` with n = min(added, capacity), and the number added."""
        return TrainingState({name: column.copy() for name, column in self._entries().items()}, {"added": self.added})

    def load_state_dict(self, saved: TrainingState, states: int, actions: int) -> None:
        """Restore the entries from a saved state.

        Raises:
            StateMismatchError: they belong to another buffer, or exceed `states` states or `actions` actions.
        """
        self.added = count(saved, "added", 2**53)
        for name, column in self._entries().items():
            column[:] = array(saved, name, column.shape, column.dtype)
        for name, high in (("states", states), ("actions", actions), ("next_states", states)):
            check_range(saved, f"replay.{name}", 0, high)

    def _entries(self) -> dict[str, NDArray[Any]]:
        count = max(0, min(self.added, self.capacity))
        return {f"replay.{name}": column[:count] for name, column in self._columns._asdict().items()}


class PrioritizedReplayBuffer(ReplayBuffer):
    """A ring buffer sampled by priority; the sum tree lives in backend variables and its functions are compiled.

    Args:
        capacity: as in `ReplayBuffer`, like the next three.
        copies: N.
        steps: n.
        discount: γ.
        priority_exponent: α.
        importance_exponent: β at the start of the training, annealed linearly to 1.
    """

    def __init__(
        self,
        capacity: int,
        copies: int,
        steps: int,
        discount: float,
        priority_exponent: float,
        importance_exponent: float,
    ) -> None:
        super().__init__(capacity, copies, steps, discount)
        self._importance_exponent = importance_exponent
        self._tree = [keras.Variable(level, trainable=False) for level in sum_tree.levels(self.capacity)]
        tree, kind = self._tree, self.capacity
        self._set = keras_backend.compiled(partial(set_priorities, tree), tree, ("set", kind))
        self._rate = keras_backend.compiled(
            partial(rate, tree, priority_exponent), tree, ("rate", kind, priority_exponent)
        )
        self._draw = keras_backend.compiled(partial(draw, tree), tree, ("draw", kind))
        self._largest = np.float32(1)
        self._drawn: Ints = np.zeros(0, np.int32)

    def add(self, new: Transitions) -> None:
        """Add one transition per environment and make those with enough successors available for sampling."""
        first = self.added
        super().add(new)
        if self._waiting:
            self._set(self._round(first), np.float32(0))
        if first >= self._waiting:
            self._set(self._round(first - self._waiting), self._largest)

    def sample(
        self, count: int, rng: np.random.Generator, progress: float = 0.0, greedy: Greedy | None = None
    ) -> Batch:
        """Sample `count` entries, one from each of `count` strata of equal priority, with importance weights."""
        uniforms = (np.arange(count, dtype=np.float32) + fractions(random_bits(rng, count))) / np.float32(count)
        exponent = importance_exponent(self._importance_exponent, progress)
        rows, weights = self._draw(uniforms, np.float32(len(self)), np.float32(exponent))
        self._drawn = np.asarray(ops.convert_to_numpy(rows), np.int32)
        return self.at(self._drawn.astype(np.int64), np.asarray(ops.convert_to_numpy(weights)), greedy)

    def update_priorities(self, td_errors: Floats) -> None:
        """Update the priorities of the last minibatch from its |td_error| `[B]`."""
        self._largest = max(self._largest, np.float32(ops.convert_to_numpy(self._rate(self._drawn, td_errors))))

    def state_dict(self) -> TrainingState:
        """Return all entries and their priorities."""
        arrays, facts = super().state_dict()
        tree = {f"replay.tree.{i}": np.array(ops.convert_to_numpy(level)) for i, level in enumerate(self._tree)}
        return TrainingState({**arrays, **tree}, {**facts, "largest": float(self._largest)})

    def load_state_dict(self, saved: TrainingState, states: int, actions: int) -> None:
        """Restore the entries and their priorities from a saved state."""
        super().load_state_dict(saved, states, actions)
        self._largest = np.float32(amount(saved, "largest"))
        for i, level in enumerate(self._tree):
            level.assign(array(saved, f"replay.tree.{i}", tuple(level.shape), np.float32))

    def _round(self, first: int) -> Ints:
        """Return the positions `[N]` of the round of transitions that begins with number `first`."""
        return np.arange(first % self.capacity, first % self.capacity + self._copies, dtype=np.int32)


def set_priorities(tree: Sequence[keras.Variable], rows: Any, priority: Any) -> None:
    """Set the priorities of the entries `rows` `[N]` to a scalar."""
    assign(tree, rows, ops.broadcast_to(priority, rows.shape))


def rate(tree: Sequence[keras.Variable], exponent: float, rows: Any, td_errors: Any) -> Any:
    """Set the priorities of the entries `rows` `[B]` from their |td_error| `[B]`; return the largest, a scalar."""
    priorities = sum_tree.priorities(td_errors, exponent)
    assign(tree, rows, priorities)
    return ops.max(priorities)


def draw(tree: Sequence[keras.Variable], uniforms: Any, size: Any, exponent: Any) -> tuple[Any, Any]:
    """Sample entries using `uniforms` `[B]`; return their indices and importance weights, `[B]` each."""
    rows, probability = sum_tree.draw([level.value for level in tree], uniforms)
    return rows, sum_tree.importance_weights(probability, size, exponent)


def assign(tree: Sequence[keras.Variable], rows: Any, priorities: Any) -> None:
    """Set the priorities of the entries `rows` `[N]` and update the sums above them."""
    new = sum_tree.assign([level.value for level in tree], rows, priorities)
    for old, level in zip(tree, new, strict=True):
        old.assign(level)
