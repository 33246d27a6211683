"""Exact evaluation of a Q array, or of a policy.

Q `[S, A]` is evaluated by its greedy policy π(s) = argmax_a Q[s, a] (the first on ties; −∞ marks disallowed actions);
a policy `[S]` that has no Q values is evaluated as it is. With the start distribution d, the horizon H and the
objective's discount γ,

    return  = Σ_s d(s) · E[r_1 + … + r_H]                 compared with the best in H steps (backward induction),
    value   = Σ_s d(s) · E[r_1 + γ r_2 + γ² r_3 + …]      compared with the optimum V* (value iteration).

A start state is played optimally if V*(s) − V^π(s) ≤ 1e-6 · (1 + |V*(s)|), so ties between actions are no fault; the
policy is *optimal* if all start states are. The gap of the return can be positive even for an optimal policy: the best
return may require a time-dependent policy, or another discount. At γ = 1 the value is the sum of rewards to the end
(`mdp.total_reward`), −∞ for a policy that loses forever.

If the best and the worst policy differ by less than that tolerance, optimality cannot be determined (`decidability`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError, DivergedError
from deeptaxi.evaluation.decidability import OPTIMAL_TOLERANCE, Decidability, decidability, random_values
from deeptaxi.evaluation.resampling import Estimate, describe_log, resample
from deeptaxi.mdp import planning, total_reward
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable

ZERO = 1e-9
NORMAL_95 = 1.96  # standard errors from the center of a 95 % interval to its ends


@dataclass(frozen=True)
class Reference:
    """The optima that policies on a table are compared with; computed once, used in every evaluation.

    Attributes:
        table: the decision process.
        horizon: number of steps that returns are summed over.
        discount: γ of the objective.
        optimum: V* and Q* at that discount.
        optimal_return: the best mean return of `horizon` steps.
        random_value: mean discounted value of the uniform random policy.
        training_discount: the discount of the Q values to evaluate, or None if unknown.
        q_star: Q* at the training discount, `[S, A]`, or None.
        visited: the non-terminal states reachable from the starts, `[S]`.
        decidability: the start states from which optimality can be determined.
    """

    table: TransitionTable
    horizon: int
    discount: float
    optimum: planning.Optimum
    optimal_return: float
    random_value: float
    training_discount: float | None
    q_star: Floats | None
    visited: Bools
    decidability: Decidability


@dataclass(frozen=True)
class QError:
    """Q − Q* over the reachable non-terminal states and their allowed actions."""

    discount: float
    max: float
    mean: float
    bias: float


@dataclass(frozen=True)
class WorstStart:
    """The start state with the largest value gap."""

    state: int
    value_gap: float


@dataclass(frozen=True)
class Verdict:
    """The exact verdict, in the order of the JSON.

    `optimal` is None if it cannot be determined at this discount; `optimal_unknown` says why.
    """

    optimal: bool | None
    horizon: int
    expected_return: float
    optimal_return: float
    gap: float
    discount: float
    value: float
    optimal_value: float
    value_gap: float
    normalized_score: float | None
    start_states: int
    optimal_start_states: int
    worst_start: WorstStart
    termination_probability: float | None  # None in the evaluations of a training, where it takes as long as the rest
    mean_episode_length: float | None
    q_error: QError | None
    starts_estimated_from_resets: int | None = None
    optimal_unknown: dict[str, Any] | None = None
    all_policies_equal: str | None = None
    return_uncertainty: float | None = None  # half the 95 % interval of the means over estimated starts
    value_uncertainty: float | None = None
    estimated: Estimate | None = None  # what the table is estimated from; None if it is exact

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict under its JSON names."""
        values = dataclasses.asdict(self)
        return {("return" if key == "expected_return" else key): value for key, value in values.items()}


def reference(
    table: TransitionTable,
    horizon: int,
    discount: float,
    training_discount: float | None = None,
    agent_mask: Bools | None = None,
) -> Reference:
    """Compute the optima that policies on `table` are compared with.

    The table's own mask is part of the problem and also restricts the optimum; the agent's mask restricts only the Q*
    that the agent's Q values are compared with. If no Q* exists, at a training discount of 1, it is None.

    Raises:
        UsageError: the objective's discount is 1, and values do not exist there.
    """
    mask = table.action_mask
    training_mask = agent_mask if mask is None or agent_mask is None else agent_mask & mask
    optimum = planning.value_iteration(table, discount, mask)
    random = random_values(table, discount)
    everything = np.ones((table.states, table.actions), np.bool_) if mask is None else mask
    same = training_discount == discount and (training_mask is None or np.array_equal(training_mask, everything))
    return Reference(
        table,
        horizon,
        discount,
        optimum,
        float(table.start @ planning.optimal_horizon(table, horizon, mask).returns),
        mean(table, random),
        training_discount,
        optimum.q if same else comparable_q(table, training_discount, mask if training_mask is None else training_mask),
        planning.reachable(table, mask),
        decidability(table, discount, optimum, random),
    )


def comparable_q(table: TransitionTable, discount: float | None, mask: Bools | None) -> Floats | None:
    """Return Q* `[S, A]` at the training discount; None if that is unknown, or is 1 and no Q* exists."""
    try:
        return None if discount is None else planning.value_iteration(table, discount, mask).q
    except total_reward.UndefinedError:
        return None


def allowed_actions(q: NDArray[np.floating], table_mask: Bools | None) -> Bools:
    """Return the actions that the greedy policy may take, `[S, A]`: not −∞ in Q and not excluded by the table.

    Raises:
        DeepTaxiError: Q contains NaN or +∞, or leaves a state without an action.
    """
    broken = np.isnan(q) | np.isposinf(q)
    if broken.any():
        raise DivergedError(
            f"the network gives NaN or infinite Q values in {int(broken.any(axis=1).sum())} of {len(q)} states: "
            "the training diverged; train again with a lower --learning-rate"
        )
    allowed = ~np.isneginf(q) if table_mask is None else ~np.isneginf(q) & table_mask
    if not allowed.any(axis=1).all():
        raise DeepTaxiError(
            f"the network leaves state {int(np.argmin(allowed.any(axis=1)))} without any allowed action"
        )
    return np.asarray(allowed)


def evaluate_greedy(
    target: Reference, q: NDArray[Any], start_resets: int | None = None, intervals: bool = False
) -> Verdict:
    """Evaluate the greedy policy of `q`.

    Args:
        target: the optima of the table.
        q: action values `[S, A]`, −inf for disallowed actions; or integers `[S]`, a policy, which has no error of Q.
        start_resets: number of resets that the start distribution was estimated from, to report in the verdict.
        intervals: whether to resample the log of an estimated table, which takes seconds.

    Raises:
        DeepTaxiError: the Q values are NaN or +∞, their shape is not the table's, or the policy takes an action that
            is not allowed.
    """
    table = target.table
    if q.shape not in ((table.states, table.actions), (table.states,)):
        raise DeepTaxiError(f"expected Q values of shape {[table.states, table.actions]}, received {list(q.shape)}")
    policy = policy_of(q, table.action_mask, table)
    verdict = with_lengths(evaluate_policy(target, policy, start_resets, intervals), target, policy)
    return verdict if q.ndim == 1 else with_q_error(verdict, target, q)


def with_q_error(verdict: Verdict, target: Reference, q: NDArray[np.floating]) -> Verdict:
    """Return the verdict on the greedy policy of `q` `[S, A]` from that on the policy alone."""
    return dataclasses.replace(verdict, q_error=q_error(target, q, allowed_actions(q, target.table.action_mask)))


def with_lengths(verdict: Verdict, target: Reference, policy: Ints) -> Verdict:
    """Return the verdict on a policy `[S]` with the lengths of its episodes, if it is without."""
    if verdict.mean_episode_length is not None:
        return verdict
    start = target.table.start
    termination, length = planning.evaluate_lengths(target.table, policy, target.horizon)
    return dataclasses.replace(
        verdict,
        termination_probability=snap(float(start @ termination), 1.0),
        mean_episode_length=float(start @ length),
    )


def evaluate_policy(
    target: Reference, policy: Ints, start_resets: int | None = None, intervals: bool = False
) -> Verdict:
    """Evaluate a policy `[S]` of allowed actions, but for the lengths of its episodes; see `evaluate_greedy`."""
    table = target.table
    value = planning.evaluate_policy(table, policy, target.discount).value
    returns = planning.evaluate_returns(table, policy, target.horizon)
    mean_value, optimal_value = mean(table, value), mean(table, target.optimum.value)
    mean_return = float(table.start @ returns)
    starts, good, bad, worst = evaluate_starts(target, value)
    return Verdict(
        optimal=False if bad else True if good == starts else None,
        horizon=target.horizon,
        expected_return=mean_return,
        optimal_return=target.optimal_return,
        gap=gap(mean_return, target.optimal_return),
        discount=target.discount,
        value=mean_value,
        optimal_value=optimal_value,
        value_gap=gap(mean_value, optimal_value),
        normalized_score=normalize_score(mean_value, optimal_value, target.random_value),
        start_states=starts,
        optimal_start_states=good,
        worst_start=worst,
        termination_probability=None,
        mean_episode_length=None,
        q_error=None,
        starts_estimated_from_resets=start_resets,
        optimal_unknown=target.decidability.explanation if not bad and good < starts else None,
        all_policies_equal=target.decidability.all_policies_equal,
        return_uncertainty=uncertainty(table.start, returns, start_resets),
        value_uncertainty=uncertainty(table.start, value, start_resets),
        estimated=resample(table, policy, target.discount) if intervals else describe_log(table),
    )


def uncertainty(start: Floats, values: Floats, resets: int | None) -> float | None:
    """Return half the 95 % interval of a mean over start states that were estimated from resets.

    It is 1.96 standard errors of √(Σ_s d(s)·(v(s) − v̄)²/n). If all observed starts have the same value, their spread
    says nothing about unobserved ones.

    Args:
        start: the estimated distribution d, `[S]`.
        values: v, `[S]`.
        resets: n; None if the distribution is known.

    Returns:
        The half-width; None if the distribution is known, or the values do not differ or are not all finite.
    """
    seen = start > 0
    share, value = start[seen], values[seen]
    if resets is None or not np.isfinite(value).all():
        return None
    variance = float(share @ (value - share @ value) ** 2)
    error = NORMAL_95 * math.sqrt(variance / resets)
    return error if error > ZERO * (1 + float(np.abs(value).max())) else None


def evaluate_starts(target: Reference, value: Floats) -> tuple[int, int, int, WorstStart]:
    """Count the start states: all, those played optimally and those not; also return the worst.

    For the others it cannot be determined. `value` `[S]` is the policy's.
    """
    starts = np.flatnonzero(target.table.start > 0)
    value, optimum = value[starts], target.optimum.value[starts]
    losses = optimum - value
    good = losses <= OPTIMAL_TOLERANCE * (1 + np.abs(optimum))
    certain = good & ~target.decidability.unknown[starts]
    worst = int(np.argmax(losses))
    lost = WorstStart(int(starts[worst]), gap(value[worst], optimum[worst]))
    return len(starts), int(certain.sum()), int((~good).sum()), lost


def mean(table: TransitionTable, values: Floats) -> float:
    """Return the mean of `values` `[S]` over the start distribution; elsewhere they may be infinite or NaN."""
    return float(table.start @ np.where(table.start > 0, values, 0.0))


def gap(reached: float, optimum: float) -> float:
    """Return optimum − reached, or zero if within rounding error: below 1e-9 · (1 + |optimum|)."""
    difference = float(optimum - reached)
    return 0.0 if abs(difference) < ZERO * (1 + abs(float(optimum))) else difference


def snap(value: float, target: float) -> float:
    """Return `target` if `value` differs from it only by rounding, else `value`."""
    return target if abs(value - target) < ZERO else value


def normalize_score(value: float, optimal: float, random: float) -> float | None:
    """Scale a value to 0 for the random policy and 1 for the optimum; None if these are equal, or any is ∞."""
    span = optimal - random
    if not math.isfinite(span) or not math.isfinite(value) or span < ZERO * (1 + abs(optimal)):
        return None
    return snap((value - random) / span, 1.0)


def q_error(target: Reference, q: NDArray[np.floating], allowed: Bools) -> QError | None:
    """Compare Q `[S, A]` with Q* of the training discount in reachable states, for `allowed` `[S, A]` pairs."""
    if target.q_star is None or target.training_discount is None:
        return None
    pairs = allowed & np.isfinite(target.q_star) & target.visited[:, None]
    difference = q[pairs].astype(np.float64) - target.q_star[pairs]
    size = np.abs(difference)
    return QError(target.training_discount, float(size.max()), float(size.mean()), float(difference.mean()))


def policy_of(q: NDArray[Any], table_mask: Bools | None = None, table: TransitionTable | None = None) -> Ints:
    """Return the greedy policy `[S]` of Q values `[S, A]` after validating them; a policy `[S]` is its own.

    Args:
        q: the Q values, or the policy.
        table_mask: the allowed actions, `[S, A]`; None for all.
        table: tells which states matter to a policy: in those that none reaches, an action that is not allowed is
            replaced with one that is.

    Raises:
        DeepTaxiError: a Q value is NaN or +∞, a state has no allowed action, or the policy takes one that is not.
    """
    if q.ndim > 1:
        return planning.greedy_policy(q, allowed_actions(q, table_mask))
    policy = np.asarray(q, np.int64)
    if table_mask is None:
        return policy
    wrong = ~table_mask[np.arange(len(policy)), policy]
    met = wrong if table is None else wrong & planning.reachable(table, table_mask)
    if met.any():
        state = int(met.argmax())
        allowed = ", ".join(map(str, np.flatnonzero(table_mask[state])))
        raise DeepTaxiError(f"the policy takes action {policy[state]} in state {state}, where {allowed} are allowed")
    return np.where(wrong, table_mask.argmax(axis=1), policy)
