"""The Markov reward chain that a policy induces on a table, and its values.

Values satisfy V = R + γP·V, with rewards R `[S]` and continuation probabilities P `[S, S]` between states.
Small chains are solved directly with such matrices: a training evaluates its policy every few hundred updates, and
iterating takes thousands of steps at discounts near 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeptaxi.mdp.table import Floats, Ints, TransitionTable

ROUNDING = 8 * float(np.finfo(np.float64).eps)


def expectation(weights: Floats, values: Floats) -> Floats:
    """Return Σ_k weights × values, `[…]` for `[…, K]`."""
    return np.asarray(np.einsum("...k,...k->...", weights, values))


@dataclass(frozen=True)
class Chain:
    """A chain with J transitions from each state."""

    reward: Floats  # [S], expected
    continuation: Floats  # [S, J], probabilities; 0 where a transition terminates
    next_state: Ints  # [S, J]

    def backup(self, values: Floats, discount: float) -> Floats:
        """Return R + γP·V, `[S]`, for the values V `[S]`."""
        return self.reward + discount * expectation(self.continuation, values[self.next_state])

    def matrix(self) -> Floats:
        """Return P, `[S, S]`."""
        states = len(self.reward)
        index = np.arange(states)[:, None] * states + self.next_state
        flat = np.bincount(index.reshape(-1), self.continuation.reshape(-1), minlength=states * states)
        return np.asarray(flat.reshape(states, states), np.float64)


def chain(table: TransitionTable, policy: Ints | Floats) -> Chain:
    """Fix a policy, given as actions `[S]` or probabilities `[S, A]`."""
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
    """Solve (1 − γP)·V = R for the values `[S]` of a chain; also return an error bound from the residual.

    For γ < 1 the matrix 1 − γP is strictly diagonally dominant, so the solution is unique.
    """
    equations = np.eye(len(fixed.reward)) - discount * fixed.matrix()
    value: Floats = np.linalg.solve(equations, fixed.reward).astype(np.float64)
    again = fixed.backup(value, discount)
    left = float(np.abs(again - value).max())
    scale = 1 + float(np.abs(value).max())
    return again, (discount * left + ROUNDING * scale) / (1 - discount)


def iterate_values(matrix: Floats, gain: Floats, horizon: int) -> Floats:
    """Apply x ← gain + matrix · x to 0 `horizon` times, in log₂(horizon) squarings.

    Args:
        matrix: `[S, S]`.
        gain: `[S, …]`, the shape of the result.
        horizon: 0 or more.
    """
    total = np.zeros_like(gain)
    while horizon:
        if horizon & 1:
            total = gain + matrix @ total
        horizon >>= 1
        if horizon:
            gain, matrix = gain + matrix @ gain, matrix @ matrix  # covers twice as many steps
    return total
