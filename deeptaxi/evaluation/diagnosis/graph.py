"""A table as a graph: which states a choice of actions leads to, and whether episodes can end there.

`choices` `[S, A]` marks the actions that may be taken: one a state for a policy, several where the ties of an optimal
policy are left open. An outcome counts where its probability is above 0.
"""

from __future__ import annotations

import numpy as np

from deeptaxi.mdp.table import Bools, Ints, TransitionTable


def only(policy: Ints, actions: int) -> Bools:
    """Return the choices of a policy `[S]`, `[S, A]` with one True a row."""
    return np.asarray(policy[:, None] == np.arange(actions))


def can_end(table: TransitionTable, choices: Bools) -> Bools:
    """Mark the states from which some of the `choices` end an episode at last, `[S]`."""
    taken = choices[:, :, None] & (table.probability > 0)
    ends: Bools = np.asarray((taken & table.terminated).any(axis=(1, 2)))
    going_on = taken & ~table.terminated
    while True:
        further = ends | (going_on & ends[table.next_state]).any(axis=(1, 2))
        if np.array_equal(further, ends):
            return ends
        ends = np.asarray(further)
