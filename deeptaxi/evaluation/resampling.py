"""How sure a verdict on an estimated table is: the Bayesian bootstrap over the episodes of its log.

The verdict on a table that logged transitions estimate is exact for that table, and the table is not the problem. Each
of B draws weights the episodes anew (`mdp.logged`), which gives another table that the log might have come from. On
each, three things are computed from the start distribution that it has: the value of the policy, the optimal value, and
whether the policy is optimal there from every start. The 2.5 % and 97.5 % quantiles of the first two are intervals.

What they do not tell: anything of pairs that were never tried, or in one episode only; and that a policy which was
chosen by this very log looks better on it than it is, as the best of several noisy values does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deeptaxi.errors import UsageError
from deeptaxi.evaluation.decidability import OPTIMAL_TOLERANCE
from deeptaxi.mdp import planning
from deeptaxi.mdp.logged import arrange, draw_weights
from deeptaxi.mdp.table import Floats, Ints, TransitionTable

RESAMPLES, FEW = 200, 40  # of a table with up to MANY states, and with more
MANY = 256
LARGEST = 2**20  # entries of S·A·K: beyond that no resampling, which would take minutes
ROUNDS = 100  # of policy iteration, which needs a handful from a policy that is nearly optimal
LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """What a table is estimated from, and how sure its verdict is, under the names of the JSON.

    Attributes:
        transitions, episodes: N and M of the log.
        prior: α.
        resamples: B; 0 without intervals.
        value_interval: 95 % interval of the policy's discounted value, or None.
        optimal_value_interval: the same for the optimal value.
        optimal_in: share of the resampled tables on which the policy is optimal from every start; None for the optimum.
        interval_unavailable: why there are no intervals, or None.
    """

    transitions: int
    episodes: int
    prior: float
    resamples: int = 0
    value_interval: tuple[float, float] | None = None
    optimal_value_interval: tuple[float, float] | None = None
    optimal_in: float | None = None
    interval_unavailable: str | None = None


def describe_log(table: TransitionTable) -> Estimate | None:
    """Return what a table is estimated from, without intervals; None if it is exact."""
    log = table.logged
    return None if log is None else Estimate(log.transitions, log.episodes, log.prior)


def resample(table: TransitionTable, policy: Ints, discount: float, seed: int = 0) -> Estimate | None:
    """Return how sure the verdict on a policy is; None if the table is exact.

    Args:
        table: the table.
        policy: an action per state, `[S]`, where the mask allows it.
        discount: γ of the value.
        seed: of the weights.
    """
    known, log = describe_log(table), table.logged
    if known is None or log is None:
        return None
    if log.episodes < 2:
        return replace(known, interval_unavailable="the log is one episode")
    if table.next_state.size > LARGEST:
        return replace(known, interval_unavailable=f"the table has more than {LARGEST:,} entries")
    count = RESAMPLES if table.states <= MANY else FEW
    drawn = arrange(log, table.states, table.actions)
    values, best, optimal = np.zeros(count), np.zeros(count), 0
    for number, weights in enumerate(draw_weights(log.episodes, count, seed)):
        probability, reward, start = drawn.weighted(weights)
        other = replace(table, probability=probability, reward=reward, start=start, logged=None)
        value = planning.evaluate_policy(other, policy, discount).value
        try:
            optimum = improve(other, policy, value, discount)
        except UsageError:  # at a discount of 1 values may not exist on every table
            return replace(known, interval_unavailable=f"no optimum exists at discount {discount:g} on all resamples")
        starts = start > 0
        values[number], best[number] = start[starts] @ value[starts], start[starts] @ optimum[starts]
        with np.errstate(invalid="ignore"):
            loss = optimum[starts] - value[starts]
        optimal += bool((loss <= OPTIMAL_TOLERANCE * (1 + np.abs(optimum[starts]))).all())
    return replace(
        known,
        resamples=count,
        value_interval=interval(values),
        optimal_value_interval=interval(best),
        optimal_in=optimal / count,
    )


def improve(table: TransitionTable, policy: Ints, value: Floats, discount: float) -> Floats:
    """Return the optimal values `[S]`, by policy iteration from a policy and its values.

    Raises:
        UsageError: the discount is 1, and no optimum exists.
    """
    if discount == 1:
        return planning.value_iteration(table, 1.0, table.action_mask).value
    for _ in range(ROUNDS):
        q = planning.bellman(table, value, discount, table.action_mask)
        better = planning.greedy_policy(q)
        rows = np.arange(table.states)
        gains = q[rows, better] > q[rows, policy] + planning.TOLERANCE * (1 + np.abs(q[rows, policy])) * 1e3
        if not gains.any():
            return value
        policy = np.where(gains, better, policy)
        value = planning.evaluate_policy(table, policy, discount).value
    return planning.value_iteration(table, discount, table.action_mask).value


def interval(values: Floats) -> tuple[float, float] | None:
    """Return the 95 % interval of resampled values; None if one of them is infinite."""
    if not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, LEVELS)
    return float(low), float(high)


def describe_estimate(estimated: Any) -> str:
    """Say what a verdict is estimated from: ``estimated from 1,200 transitions in 100 episodes``."""
    counts = [
        f"{estimated[key]:,} {key if estimated[key] != 1 else key.removesuffix('s')}"
        for key in ("transitions", "episodes")
    ]
    prior = f" with a prior of {estimated['prior']:g}" if estimated["prior"] else ""
    return f"estimated from {' in '.join(counts)}{prior}"
