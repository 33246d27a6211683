"""A Q array beside the optimum, state by state: where it errs, where its policy is wrong, and what that costs.

A greedy action is *wrong* in a state s where it is none of the optimal actions of the objective's discount,

    argmax_a Q[s, a]  ∉  {a : Q*[s, a] ≥ max_b Q*[s, b] − 1e-6 · (1 + |max_b Q*[s, b]|)},

and it *matters* where the policy itself comes from a start: elsewhere the start states' values do not feel it.
Only states that some policy reaches before the end count. Errors of Q are against Q* of the training discount.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeptaxi.evaluation.exact import ZERO, Reference, allowed_actions
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a Q array and its greedy policy are, state by state.

    Attributes:
        policy: the greedy action, `[S]`.
        optimal: the optimal actions of the objective, `[S, A]`.
        reachable: the non-terminal states that can be reached from the starts, `[S]`.
        met: those of them that the greedy policy itself comes to, `[S]`.
        loss: V* − V^π at the objective's discount, `[S]`.
        pairs: which (state, action) pairs have an error: reachable, allowed, and with a Q*, `[S, A]`.
        q: the Q values, `[S, A]`.
        q_star: Q* of the training discount, `[S, A]`; None where there is none.
    """

    policy: Ints
    optimal: Bools
    reachable: Bools
    met: Bools
    loss: Floats
    pairs: Bools
    q: Floats
    q_star: Floats | None

    @property
    def wrong(self) -> Bools:
        """The reachable states whose greedy action is not optimal, `[S]`."""
        return self.reachable & ~self.optimal[np.arange(len(self.policy)), self.policy]

    @property
    def error(self) -> Floats | None:
        """The largest |Q − Q*| of each state, `[S]`, NaN where there is nothing to compare; None without a Q*."""
        if self.q_star is None:
            return None
        size = np.abs(np.where(self.pairs, self.q, 0.0) - np.where(self.pairs, self.q_star, 0.0)).max(axis=1)
        return np.where(self.pairs.any(axis=1), size, np.nan)


def compare(target: Reference, q: NDArray[np.floating]) -> Comparison:
    """Compare `q` `[S, A]`, −inf where the agent may not act, with the optima of its table.

    Raises:
        DeepTaxiError: the Q values are not numbers, or leave a state without action.
    """
    table = target.table
    allowed = allowed_actions(q, table.action_mask)
    policy = planning.greedy_policy(q, allowed)
    taken = np.zeros(q.shape, np.bool_)
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
        q=q.astype(np.float64),
        q_star=target.q_star,
    )


def worst_states(comparison: Comparison, count: int) -> Ints:
    """Return up to `count` reachable states: wrong ones that matter first, then by what they lose, then by error."""
    candidates = np.flatnonzero(comparison.reachable)
    error = comparison.error
    size = np.zeros(len(comparison.policy)) if error is None else np.nan_to_num(error)
    wrong = comparison.wrong
    keys = (-size, -comparison.loss, ~wrong, ~(wrong & comparison.met))
    return candidates[np.lexsort([key[candidates] for key in keys])][:count]


def spread_out(x: Floats, y: Floats, limit: int) -> Ints:
    """Return the indices of at most `limit` of the points (x, y) that cover the same ground, always the same ones.

    Of the points in one cell of a grid over all of them the first is taken; the grid is as fine as the limit allows.
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
    """Return up to `bins` ranges of neighboring states, by their first one, and the largest value in each.

    Args:
        values: `[S]`, NaN where there is none; a range without any is left out.
        bins: how many ranges at most.
    """
    edges = np.unique(np.linspace(0, len(values), min(bins, len(values)) + 1).astype(np.int64))[:-1]
    largest = np.maximum.reduceat(np.where(np.isnan(values), -np.inf, values), edges)
    return edges[largest > -np.inf], largest[largest > -np.inf]
