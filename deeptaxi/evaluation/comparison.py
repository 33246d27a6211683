"""Compare a Q array with the optimum, state by state: its errors, its wrong actions, and what they cost.

A greedy action in state s is *wrong* if it is not among the optimal actions at the objective's discount,

    argmax_a Q[s, a]  ∉  {a : Q*[s, a] ≥ max_b Q*[s, b] − 1e-6 · (1 + |max_b Q*[s, b]|)},

and it *matters* if the policy itself reaches s from a start: otherwise it does not affect the values of start states.
Only non-terminal states that some policy reaches count. Errors of Q are relative to Q* of the training discount.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.evaluation.exact import ZERO, Reference, allowed_actions, policy_of
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Comparison:
    """A Q array and its greedy policy compared with the optimum, state by state.

    Attributes:
        policy: the greedy action, `[S]`.
        optimal: the optimal actions of the objective, `[S, A]`.
        reachable: the non-terminal states reachable from the starts, `[S]`.
        met: those of them that the greedy policy itself reaches, `[S]`.
        loss: V* − V^π at the objective's discount, `[S]`.
        pairs: the (state, action) pairs with an error: reachable, allowed, and with a Q*, `[S, A]`.
        q: the Q values, `[S, A]`; None for a policy, which has none.
        q_star: Q* of the training discount, `[S, A]`, or None.
    """

    policy: Ints
    optimal: Bools
    reachable: Bools
    met: Bools
    loss: Floats
    pairs: Bools
    q: Floats | None
    q_star: Floats | None

    @property
    def wrong(self) -> Bools:
        """The reachable states whose greedy action is not optimal, `[S]`."""
        return self.reachable & ~self.optimal[np.arange(len(self.policy)), self.policy]

    @property
    def error(self) -> Floats | None:
        """The largest |Q − Q*| in each state, `[S]`, NaN where there is nothing to compare; None without Q or Q*."""
        if self.q_star is None or self.q is None:
            return None
        size = np.abs(np.where(self.pairs, self.q, 0.0) - np.where(self.pairs, self.q_star, 0.0)).max(axis=1)
        return np.where(self.pairs.any(axis=1), size, np.nan)


def compare(target: Reference, q: NDArray[Any]) -> Comparison:
    """Compare `q` `[S, A]`, −inf for disallowed actions, or a policy `[S]` with the optima of its table.

    Raises:
        DeepTaxiError: the Q values are NaN or +∞, or leave a state without an action.
    """
    table = target.table
    policy = policy_of(q, table.action_mask, table)
    # A policy says nothing about the value of any pair.
    allowed = allowed_actions(q, table.action_mask) if q.ndim > 1 else np.zeros(target.optimum.q.shape, np.bool_)
    taken = np.zeros(allowed.shape, np.bool_)
    taken[np.arange(table.states), policy] = True
    optimum = target.optimum.value
    loss = optimum - planning.evaluate_policy(table, policy, target.discount).value
    comparable = allowed & target.visited[:, None]
    return Comparison(
        policy=policy,
        optimal=planning.optimal_actions(target.optimum.q),
        reachable=target.visited,
        met=planning.reachable(table, taken),
        loss=np.where(loss < ZERO * (1 + np.abs(optimum)), 0.0, loss),
        pairs=comparable if target.q_star is None else comparable & np.isfinite(target.q_star),
        q=q.astype(np.float64) if q.ndim > 1 else None,
        q_star=target.q_star,
    )


def worst_states(comparison: Comparison, count: int) -> Ints:
    """Return up to `count` reachable states, `[n]`: wrong ones that matter, other wrong ones, then by loss, error."""
    candidates = np.flatnonzero(comparison.reachable)
    error = comparison.error
    size = np.zeros(len(comparison.policy)) if error is None else np.nan_to_num(error)
    wrong = comparison.wrong
    keys = (-size, -comparison.loss, ~wrong, ~(wrong & comparison.met))
    return candidates[np.lexsort([key[candidates] for key in keys])][:count]


def spread_out(x: Floats, y: Floats, limit: int) -> Ints:
    """Return the indices `[n]` of at most `limit` points (x, y), `[N]` each, that cover the same area.

    It is deterministic: it takes the first point in each cell of a grid over all points, which is as fine as the limit
    allows.
    """
    if len(x) <= limit:
        return np.arange(len(x))
    scaled = [(value - value.min()) / max(float(np.ptp(value)), ZERO) for value in (x, y)]
    cells = 4 * int(np.sqrt(limit))
    while True:
        where = np.floor(scaled[0] * cells) * (cells + 1) + np.floor(scaled[1] * cells)
        first = np.unique(where, return_index=True)[1]
        if len(first) <= limit or cells == 1:
            return np.asarray(np.sort(first)[:limit], np.int64)
        cells = max(1, cells * 3 // 4)


def largest_of_each(values: Floats, bins: int) -> tuple[Ints, Floats]:
    """Return the first states of up to `bins` ranges of neighboring states, and the largest value in each range.

    Args:
        values: `[S]`, NaN where unknown; ranges without values are omitted.
        bins: maximum number of ranges.
    """
    edges = np.unique(np.linspace(0, len(values), min(bins, len(values)) + 1).astype(np.int64))[:-1]
    largest = np.maximum.reduceat(np.where(np.isnan(values), -np.inf, values), edges)
    return edges[largest > -np.inf], largest[largest > -np.inf]
