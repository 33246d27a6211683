"""Visit counts and Q-value snapshots of a training. Imports no Keras, so that a log can be read without it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.mdp.table import Bools
from deeptaxi.metrics import Snapshot

Counts = NDArray[np.int64]


class Coverage(NamedTuple):
    """How often each (state, action) occurred."""

    visits: Counts  # [S, A], in the whole training
    replay: Counts  # [S, A], in the replay buffer at the end


def count_pairs(pairs: NDArray[Any], states: int, actions: int) -> Counts:
    """Count each pair in `pairs` `[n]`, given as indices s·A + a; return the counts `[S, A]`."""
    return np.bincount(pairs, minlength=states * actions).reshape(states, actions)


DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # of base 36
MOST_STATES = 2_000  # whose greedy actions are recorded: a line of the log stays short


def policy_digits(q_values: NDArray[np.float32]) -> str | None:
    """Return the greedy action of each state of `q_values` `[S, A]`, a digit each; None for large problems."""
    states, actions = q_values.shape
    if states > MOST_STATES or actions > len(DIGITS):
        return None
    return "".join(DIGITS[action] for action in q_values.argmax(axis=1).tolist())


class Snapshots:
    """Takes snapshots, comparing each with the previous one."""

    def __init__(self, before: NDArray[np.float32] | None = None) -> None:
        self._before = before

    @property
    def before(self) -> NDArray[np.float32] | None:
        """The Q values of the previous snapshot, `[S, A]`."""
        return self._before

    def __call__(
        self, update: int, q_values: NDArray[np.float32], visits: Counts, reachable: Bools | None = None
    ) -> Snapshot:
        """Return a snapshot of `q_values` `[S, A]`, −∞ for disallowed actions, after the given `visits` `[S, A]`.

        `reachable` `[S]` marks the non-terminal states that an episode can reach; None if unknown.
        """
        can_be_tried = None if reachable is None else int(np.isfinite(q_values[reachable]).sum())
        before, self._before = self._before, q_values
        policy = policy_digits(q_values)
        tried = visits > 0
        rows = tried.any(axis=1)
        q_values = q_values[rows]
        allowed = np.isfinite(q_values)
        greedy = q_values.argmax(axis=1)
        counts = np.bincount(greedy, minlength=visits.shape[1])
        values = q_values[allowed]
        return Snapshot(
            update,
            float(values.min()),
            float(values.max()),
            float(values.mean(dtype=np.float64)),
            None if before is None else float(np.abs(values - before[rows][allowed]).mean(dtype=np.float64)),
            None if before is None else float((greedy != before[rows].argmax(axis=1)).mean()),
            int(counts.argmax()),
            float(counts.max() / len(greedy)),
            int(rows.sum()),
            int(tried.sum()),
            None if reachable is None else int(reachable.sum()),
            can_be_tried,
            policy,
        )
