"""The exact solution of a transition table: the optimum and a policy that attains it, without learning."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeptaxi.evaluation.decidability import decidability, random_values
from deeptaxi.evaluation.exact import mean, snap, uncertainty
from deeptaxi.evaluation.resampling import Estimate, resample
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable
from deeptaxi.metrics import decimals, describe_estimate


@dataclass(frozen=True, repr=False)
class Solution:
    """Optima under the names of the JSON; means are over the start distribution.

    `value`, `policy`, `optimal_actions` and `q_star` `[S, A]` solve the discounted problem. A time-dependent policy can
    attain `optimal_return`; `policy_return` is the return of the stationary `policy`.

    The bounds are on the arithmetic. If the start distribution was estimated from resets, they are None:
    `return_uncertainty` and `value_uncertainty` are half the 95 % intervals of the means, None if the observed starts
    do not differ in value.
    """

    horizon: int
    optimal_return: float
    return_bound: float | None
    discount: float
    optimal_value: float
    value_bound: float | None
    iterations: int
    random_value: float
    policy_return: float
    termination_probability: float
    mean_episode_length: float
    start_states: int
    value: Floats  # [S]
    policy: Ints  # [S]
    optimal_actions: list[list[int]]
    q_star: Floats  # [S, A]
    all_policies_equal: str | None = None  # message that every policy has the same value, and why
    starts_estimated_from_resets: int | None = None
    return_uncertainty: float | None = None
    value_uncertainty: float | None = None
    estimated: Estimate | None = None  # what the table is estimated from; None if it is exact

    def __repr__(self) -> str:
        resets = self.starts_estimated_from_resets
        starts = f", starts estimated from {resets:,} resets" if resets else ""
        estimated = f", {describe_estimate(dataclasses.asdict(self.estimated))}" if self.estimated else ""
        return (
            f"Solution(return {decimals(self.optimal_return)} in {self.horizon:,} steps, "
            f"value {decimals(self.optimal_value)} at discount {self.discount}; "
            f"{len(self.policy):,} states{starts}{estimated})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for the JSON, without Q*, which is exported as a table."""
        names = [item.name for item in dataclasses.fields(self) if item.name != "q_star"]
        return {
            **{name: getattr(self, name) for name in names},
            "value": self.value.tolist(),
            "policy": self.policy.tolist(),
            "estimated": dataclasses.asdict(self.estimated) if self.estimated else None,
        }


def action_lists(marked: Bools) -> list[list[int]]:
    """Return the numbers of the marked actions of every state, for `[S, A]`; states with the same ones share a list."""
    if marked.shape[1] > 64:
        return [row.nonzero()[0].tolist() for row in marked]
    bits = np.zeros((len(marked), 8), np.uint8)
    packed = np.packbits(marked, axis=1)
    bits[:, : packed.shape[1]] = packed
    _, first, each = np.unique(bits.view(np.uint64)[:, 0], return_index=True, return_inverse=True)
    lists = [marked[state].nonzero()[0].tolist() for state in first]
    return [lists[kind] for kind in each]


def optimal_return(table: TransitionTable, horizon: int) -> float:
    """Return the best mean return of `horizon` steps."""
    return estimated_return(table, horizon, None)[0]


def estimated_return(table: TransitionTable, horizon: int, start_resets: int | None) -> tuple[float, float | None]:
    """Return the best mean return of `horizon` steps, and its `exact.uncertainty`."""
    returns = planning.optimal_horizon(table, horizon, table.action_mask).returns
    return float(table.start @ returns), uncertainty(table.start, returns, start_resets)


def solve(table: TransitionTable, horizon: int, discount: float, start_resets: int | None = None) -> Solution:
    """Compute the optima of `table`, respecting its mask.

    Args:
        table: the decision process.
        horizon: number of steps that returns are summed over.
        discount: γ of the value.
        start_resets: number of resets that the start distribution was estimated from; None if it is known.

    Raises:
        UsageError: the discount is not from 0 to 1, or is 1 and values do not exist there.
    """
    mask, start = table.action_mask, table.start
    optimum = planning.value_iteration(table, discount, mask)
    random = random_values(table, discount)  # takes most memory, so it comes first
    policy = optimum.policy
    episode = planning.evaluate_horizon(table, policy, horizon)
    best = planning.optimal_horizon(table, horizon, mask)
    return Solution(
        horizon=horizon,
        optimal_return=float(start @ best.returns),
        return_bound=best.bound if start_resets is None else None,
        discount=discount,
        optimal_value=mean(table, optimum.value),
        value_bound=optimum.bound if start_resets is None else None,
        iterations=optimum.iterations,
        random_value=mean(table, random),
        policy_return=float(start @ episode.returns),
        termination_probability=snap(float(start @ episode.termination), 1.0),
        mean_episode_length=float(start @ episode.length),
        start_states=int((start > 0).sum()),
        value=optimum.value,
        policy=policy,
        optimal_actions=action_lists(planning.optimal_actions(optimum.q)),
        q_star=optimum.q,
        all_policies_equal=decidability(table, discount, optimum, random, advise=False).all_policies_equal,
        starts_estimated_from_resets=start_resets,
        return_uncertainty=uncertainty(start, best.returns, start_resets),
        value_uncertainty=uncertainty(start, optimum.value, start_resets),
        estimated=resample(table, policy, discount),
    )
