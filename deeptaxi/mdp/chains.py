"""The Markov chain with rewards that a policy makes of a table, and what comes of it in the long run.

Values are V = R + γP·V, with the rewards R `[S]` and the probabilities P `[S, S]` to go on from each state to each.
Small chains are solved directly, with such matrices: a training evaluates its policy every few hundred updates, and
iterating takes thousands of steps at discounts near 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeptaxi.mdp.table import Floats, Ints, TransitionTable

ROUNDING = 8 * float(np.finfo(np.float64).eps)


def expectation(weights: Floats, values: Floats) -> Floats:
    """Return the sum over the last axis of weights × values."""
    return np.asarray(np.einsum("...k,...k->...", weights, values))


@dataclass(frozen=True)
class Chain:
    """A chain with J transitions from each state."""

    reward: Floats  # [S], expected
    continuation: Floats  # [S, J], probabilities; 0 where a transition terminates
    next_state: Ints  # [S, J]

    def backup(self, values: Floats, discount: float) -> Floats:
        """Return R + γP·V of the values V `[S]`, `[S]`."""
        return self.reward + discount * expectation(self.continuation, values[self.next_state])

    def matrix(self) -> Floats:
        """Return P, `[S, S]`."""
        states = len(self.reward)
        index = np.arange(states)[:, None] * states + self.next_state
        flat = np.bincount(index.reshape(-1), self.continuation.reshape(-1), minlength=states * states)
        return np.asarray(flat.reshape(states, states), np.float64)


def chain(table: TransitionTable, policy: Ints | Floats) -> Chain:
    """Fix a policy: actions `[S]`, or probabilities `[S, A]`."""
    states = np.arange(table.states)
    if policy.ndim == 1:
        actions = policy.astype(np.int64)
        return Chain(
            table.expected_reward[states, actions],
            table.continuation[states, actions],
            table.next_state[states, actions],
        )
    weighted = table.continuation * policy[:, :, None]
    flat = (table.states, -1)
    return Chain((table.expected_reward * policy).sum(1), weighted.reshape(flat), table.next_state.reshape(flat))


def solve_values(fixed: Chain, discount: float) -> tuple[Floats, float]:
    """Return the values `[S]` of a chain by solving (1 − γP)·V = R, and a bound from what V leaves of the equation.

    For γ < 1 the matrix 1 − γP is strictly diagonally dominant, so the equations have exactly one solution.
    """
    equations = np.eye(len(fixed.reward)) - discount * fixed.matrix()
    value: Floats = np.linalg.solve(equations, fixed.reward).astype(np.float64)
    again = fixed.backup(value, discount)
    left = float(np.abs(again - value).max())
    scale = 1 + float(np.abs(value).max())
    return again, (discount * left + ROUNDING * scale) / (1 - discount)


def iterate_values(matrix: Floats, gain: Floats, horizon: int) -> Floats:
    """Return the result of applying x ← gain + matrix · x `horizon` times to 0, in log₂(horizon) squarings.

    Args:
        matrix: `[S, S]`.
        gain: `[S, …]`, as the result.
        horizon: 0 or more.
    """
    total = np.zeros_like(gain)
    while horizon:
        if horizon & 1:
            total = gain + matrix @ total
        horizon >>= 1
        if horizon:
            gain, matrix = gain + matrix @ gain, matrix @ matrix  # of twice as many steps
    return total
