"""The replay memory that draws transitions with a large td_error more often (Schaul et al. 2016; see `sum_tree`).

A new transition gets the largest priority there has been, so that it is likely to be seen once; after an update, the
entries drawn get that of their new td_error. What cannot be drawn has priority zero: a transition gets its priority as
soon as it has the successors of an n-step target, and loses it when it is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from deeptaxi import backend
from deeptaxi.learning import sum_tree
from deeptaxi.learning.moment import Moment, amount, array
from deeptaxi.learning.replay import Batch, Floats, Ints, Replay, Transitions
from deeptaxi.learning.schedules import importance_exponent


class PrioritizedReplay(Replay):
    """A ring of transitions, drawn by priority; the tree is kept by the backend, and its functions are compiled.

    Args:
        capacity: as of `Replay`, like the three that follow.
        copies: N.
        steps: n.
        discount: γ.
        priority_exponent: α.
        importance_exponent: β at the start of the training; it rises to 1 by a line.
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
        self._set = backend.compiled(partial(set_priorities, tree), tree, ("set", kind))
        self._rate = backend.compiled(partial(rate, tree, priority_exponent), tree, ("rate", kind, priority_exponent))
        self._draw = backend.compiled(partial(draw, tree), tree, ("draw", kind))
        self._largest = np.float32(1)
        self._drawn: Ints = np.zeros(0, np.int32)

    def add(self, new: Transitions) -> None:
        """Add one transition of every copy; those that are complete by now can be drawn from now on."""
        first = self.added
        super().add(new)
        if self._waiting:
            self._set(self._round(first), np.float32(0))
        if first >= self._waiting:
            self._set(self._round(first - self._waiting), self._largest)

    def sample(self, count: int, rng: np.random.Generator, progress: float = 0.0) -> Batch:
        """Draw `count` entries, one from each of as many strata of equal priority, with their importance weights."""
        uniforms = ((np.arange(count) + rng.random(count)) / count).astype(np.float32)
        exponent = importance_exponent(self._importance_exponent, progress)
        rows, weights = self._draw(uniforms, np.float32(len(self)), np.float32(exponent))
        self._drawn = np.asarray(ops.convert_to_numpy(rows), np.int32)
        return self.at(self._drawn.astype(np.int64), np.asarray(ops.convert_to_numpy(weights)))

    def learnt(self, td_errors: Floats) -> None:
        """Give the entries drawn last the priority of their |td_error| `[B]`."""
        self._largest = max(self._largest, np.float32(ops.convert_to_numpy(self._rate(self._drawn, td_errors))))

    def moment(self) -> Moment:
        """Return all entries with their priorities."""
        arrays, facts = super().moment()
        tree = {f"replay.tree.{i}": np.array(ops.convert_to_numpy(level)) for i, level in enumerate(self._tree)}
        return Moment({**arrays, **tree}, {**facts, "largest": float(self._largest)})

    def restore(self, moment: Moment, states: int, actions: int) -> None:
        """Fill the memory with the entries of a moment, and their priorities."""
        super().restore(moment, states, actions)
        self._largest = np.float32(amount(moment, "largest"))
        for i, level in enumerate(self._tree):
            level.assign(array(moment, f"replay.tree.{i}", tuple(level.shape), np.float32))

    def _round(self, first: int) -> Ints:
        """Return the positions of the transitions added together, from number `first` on, `[N]`."""
        return np.arange(first % self.capacity, first % self.capacity + self._copies, dtype=np.int32)


def set_priorities(tree: Sequence[keras.Variable], rows: Any, priority: Any) -> None:
    """Set the priority of the entries `rows`, `[N]`, to a scalar."""
    assign(tree, rows, ops.broadcast_to(priority, rows.shape))


def rate(tree: Sequence[keras.Variable], exponent: float, rows: Any, td_errors: Any) -> Any:
    """Set the priorities of the entries `rows`, `[B]`, by their |td_error|, `[B]`; return the largest, a scalar."""
    priorities = sum_tree.priorities(td_errors, exponent)
    assign(tree, rows, priorities)
    return ops.max(priorities)


def draw(tree: Sequence[keras.Variable], uniforms: Any, size: Any, exponent: Any) -> tuple[Any, Any]:
    """Draw entries by `uniforms` `[B]`; return their indices and importance weights, `[B]` each."""
    rows, probability = sum_tree.draw([level.value for level in tree], uniforms)
    return rows, sum_tree.importance_weights(probability, size, exponent)


def assign(tree: Sequence[keras.Variable], rows: Any, priorities: Any) -> None:
    """Set the priorities of the entries `rows`, `[N]`, and update the sums above them."""
    new = sum_tree.assign([level.value for level in tree], rows, priorities)
    for old, level in zip(tree, new, strict=True):
        old.assign(level)
