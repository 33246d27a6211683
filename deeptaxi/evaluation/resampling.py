"""How sure a verdict on an estimated table is: the Bayesian bootstrap over the episodes of its log.

The verdict on a table that logged transitions estimate is exact for that table, and the table is not the problem. Each
of B draws weights the episodes again (`mdp.logged`), which gives another table that the log might have come from. With
V the values on the table, V_b those on resample b, each from its own start distribution, and q the quantiles over b,

    optimism o:  mean of V_b(π_b) − V(π_b), π_b being optimal on b
    optimum:     q_2.5 %(V*_b) … q_97.5 %(V*_b) and 2·V* − q_97.5 %(V*_b) … 2·V* − q_2.5 %(V*_b), joined
    policy π:    from q_2.5 %(V_b(π)) − max(o, 0) to q_97.5 %(V_b(π))

The maximum over noisy estimates is too high, on the table as on a resample. The percentile interval has that bias
twice, the basic interval takes it off as far as the resamples show it (Davison and Hinkley, Bootstrap Methods and their
Application, 1997, section 5.2); the interval of the optimum holds both. For the same reason a policy that was chosen by
this very log looks better on it than it is, by about the optimism (Efron, Estimating the error rate of a prediction
rule, 1983): the interval of its value reaches so much lower. All of this is more than the intervals of a policy that
comes from elsewhere need.

None of this knows anything of pairs that were never tried, and little of those in a few episodes only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
GAIN = 1e-9  # less is rounding
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
        optimal_in: share of the resampled tables on which the policy is optimal from every start, or None.
        optimism: by how much the value of a policy that is optimal by such a log is overestimated, or None.
        interval_unavailable: why there are no intervals, or None.
    """

    transitions: int
    episodes: int
    prior: float
    resamples: int = 0
    value_interval: tuple[float, float] | None = None
    optimal_value_interval: tuple[float, float] | None = None
    optimal_in: float | None = None
    optimism: float | None = None
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
    best_value = optimal_value(table, discount)
    values, best, optimism, optimal = np.zeros(count), np.zeros(count), np.zeros(count), 0
    for number, weights in enumerate(draw_weights(log.episodes, count, seed)):
        probability, reward, start = drawn.weighted(weights)
        other = replace(table, probability=probability, reward=reward, start=start, logged=None)
        value = planning.evaluate_policy(other, policy, discount).value
        try:
            optimum, chosen = improve(other, policy, value, discount)
        except UsageError:  # at a discount of 1 values may not exist on every table
            return replace(known, interval_unavailable=f"no optimum exists at discount {discount:g} on all resamples")
        values[number], best[number] = mean(other, value), mean(other, optimum)
        optimism[number] = best[number] - mean(table, planning.evaluate_policy(table, chosen, discount).value)
        with np.errstate(invalid="ignore"):
            loss = (optimum - value)[start > 0]
        optimal += bool((loss <= OPTIMAL_TOLERANCE * (1 + np.abs(optimum[start > 0]))).all())
    over = float(optimism.mean()) if np.isfinite(optimism).all() else None
    return replace(
        known,
        resamples=count,
        value_interval=interval(values, below=max(over or 0.0, 0.0)),
        optimal_value_interval=interval(best, around=best_value),
        optimal_in=optimal / count,
        optimism=over,
    )


def mean(table: TransitionTable, values: Floats) -> float:
    """Return the mean of values `[S]` over the start distribution; elsewhere they may be infinite."""
    starts = table.start > 0
    return float(table.start[starts] @ values[starts])


def optimal_value(table: TransitionTable, discount: float) -> float:
    """Return the mean optimal value; NaN if no optimum exists."""
    try:
        return mean(table, planning.value_iteration(table, discount, table.action_mask).value)
    except UsageError:
        return float("nan")


def improve(table: TransitionTable, policy: Ints, value: Floats, discount: float) -> tuple[Floats, Ints]:
    """Return the optimal values `[S]` and an optimal policy `[S]`, by policy iteration from a policy and its values.

    Raises:
        UsageError: the discount is 1, and no optimum exists.
    """
    for _ in range(ROUNDS if discount < 1 else 0):
        q = planning.bellman(table, value, discount, table.action_mask)
        better = planning.greedy_policy(q)
        rows = np.arange(table.states)
        gains = q[rows, better] > q[rows, policy] + GAIN * (1 + np.abs(q[rows, policy]))
        if not gains.any():
            return value, policy
        policy = np.where(gains, better, policy)
        value = planning.evaluate_policy(table, policy, discount).value
    optimum = planning.value_iteration(table, discount, table.action_mask)
    return optimum.value, optimum.policy


def interval(values: Floats, around: float | None = None, below: float = 0.0) -> tuple[float, float] | None:
    """Return the 95 % interval of resampled values; None if one of them is infinite.

    Args:
        values: of the resamples, `[B]`.
        around: the estimate, to hold the basic interval as well; None for the percentile interval alone.
        below: how much to lower its lower end.
    """
    if not np.isfinite(values).all():
        return None
    low, high = (float(end) for end in np.quantile(values, LEVELS))
    if around is not None and np.isfinite(around):
        low, high = min(low, 2 * around - high), max(high, 2 * around - low)
    return low - below, high
