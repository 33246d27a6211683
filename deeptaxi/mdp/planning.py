"""Exact planning on a transition table.

With the expected rewards R[s, a] and the continuation probabilities c[s, a, k] = p_k · (1 − terminated_k), the
Bellman operator at discount γ maps a value function to action values,

    (T V)[s, a] = R[s, a] + γ · Σ_k c[s, a, k] · V[s'_k],

and V ← max_a (T V)[·, a] is a contraction by γ in the maximum norm. This gives the two bounds used here
(Puterman, Markov Decision Processes, 1994, theorem 6.3.1 and corollary 6.2.3):

    ‖V_{n+1} − V*‖ ≤ γ/(1−γ) · ‖V_{n+1} − V_n‖          for iterates,
    ‖V − V^π‖     ≤ 1/(1−γ) · ‖V − T_π V‖              for any V.

Rounding adds at most about ε·‖V‖/(1−γ) with ε a few units in the last place; every bound below includes it.
At γ = 1 nothing contracts; `total_reward` computes the values there, or reports that they do not exist.
Over a finite horizon the recursion V_{h+1} = max_a T V_h (with γ = 1) is exact up to rounding, even for policies that
never terminate. Masked actions count as −∞.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import UsageError
from deeptaxi.mdp import remembered_values, sparse_rows, sweeps, total_reward
from deeptaxi.mdp.chains import ROUNDING, chain, expectation, iterate_values, solve_values
from deeptaxi.mdp.linear_solvers import CHEAP, solve_banded_chain, solve_krylov
from deeptaxi.mdp.stopping import check_stop
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable

TOLERANCE = 1e-12  # relative to 1 + ‖V‖; the verdict treats 1e-9 as zero
PATIENCE = 100  # sweeps of a fixed policy that may take thousands, before its equations are solved otherwise
DIRECT = 1_024  # up to this many states, a policy is evaluated by solving S equations instead of iterating
FEW = 50_000  # up to this many sparse entries, a whole step costs less than to find out what has still to change
WHOLE_STEPS = 2_000  # so many steps over so many entries; more may be foreseen, or solved for as equations
AHEAD, EAGER = 64, 50  # steps that an improvement of a policy looks ahead, and the number of those that do
MANY = 10_000  # sweeps over a small table that take longer than to solve the equations otherwise
SQUARED = 256  # up to this many states, long horizons are evaluated by squaring an S × S matrix


@dataclass(frozen=True)
class Optimum:
    """Optimal discounted values, each within `bound` of the true value."""

    value: Floats  # [S]
    q: Floats  # [S, A]; −inf where the mask excludes the action
    bound: float
    iterations: int
    chosen: Ints | None = None  # [S], a policy that attains `value`; None: any of best actions does

    @property
    def policy(self) -> Ints:
        """A policy that attains `value`, `[S]`."""
        return greedy_policy(self.q) if self.chosen is None else self.chosen


@dataclass(frozen=True)
class Evaluation:
    """Discounted values of one policy, within `bound` of the true values."""

    value: Floats  # [S]
    bound: float
    iterations: int


@dataclass(frozen=True)
class HorizonEvaluation:
    """Results of a policy over `horizon` steps from each state; `bound` limits the rounding error of the returns."""

    returns: Floats  # [S], undiscounted
    termination: Floats  # [S], probability of having terminated
    length: Floats  # [S], mean number of steps
    bound: float


@dataclass(frozen=True)
class HorizonOptimum:
    """The best undiscounted returns over `horizon` steps, by a time-dependent policy."""

    returns: Floats  # [S]
    bound: float


def bellman(table: TransitionTable, value: Floats, discount: float, mask: Bools | None = None) -> Floats:
    """Apply the Bellman operator: values `[S]` to action values `[S, A]`, −inf where `mask` is False."""
    if sparse_rows.uses_sparse_rows(table):
        q = sparse_rows.rows_of(table).backup(value, discount)
    else:
        q = table.expected_reward + discount * expectation(table.continuation, value[table.next_state])
    return q if mask is None else np.where(mask, q, -np.inf)


def greedy_policy(q: NDArray[np.floating], mask: Bools | None = None) -> Ints:
    """Return the first of the best allowed actions of every state, `[S]`."""
    return np.asarray(np.argmax(q if mask is None else np.where(mask, q, -np.inf), axis=1), np.int64)


def optimal_actions(q: Floats, tolerance: float = 1e-6) -> Bools:
    """Mark every action whose value is within ``tolerance · (1 + |best|)`` of the best, `[S, A]`."""
    best = q.max(axis=1, keepdims=True)
    return np.asarray(q >= best - tolerance * (1 + np.abs(best)))


def uniform_policy(table: TransitionTable, mask: Bools | None = None) -> Floats:
    """Return the uniform policy over the allowed actions, `[S, A]`."""
    if mask is None:
        return np.broadcast_to(1 / table.actions, (table.states, table.actions))
    allowed = mask.astype(np.float64)
    return np.asarray(allowed / allowed.sum(axis=1, keepdims=True))


def check_discount(discount: float) -> None:
    """Reject an invalid discount."""
    if not 0 <= discount <= 1:
        raise UsageError(f"expected a discount between 0 and 1, received {discount}")


def fixed_point(step: Callable[[Floats], Floats], value: Floats, discount: float) -> tuple[Floats, float, int]:
    """Iterate a contraction by `discount` from 0, whose first iterate is `value` `[…]`, to the limit of precision.

    Returns:
        The last iterate, a bound on its distance to the fixed point (rounding included), and the number of iterations.
    """
    change, scale, count = float(np.abs(value).max()), 1 + float(np.abs(value).max()), 1
    for count in range(2, iterations_needed(change, discount) + 1):  # noqa: B007  # returned below
        check_stop()
        better = step(value)
        change = float(np.abs(better - value).max())
        value, scale = better, 1 + float(np.abs(better).max())
        if discount / (1 - discount) * change <= TOLERANCE * scale or change <= ROUNDING / 2 * scale:
            break
    return value, (discount * change + ROUNDING * scale) / (1 - discount), count


def iterations_needed(change: float, discount: float) -> int:
    """Return a number of iterations after which any contraction by `discount` has converged."""
    if discount == 0 or change == 0:
        return 2
    return max(2, math.ceil(math.log(TOLERANCE * (1 - discount) / max(change, TOLERANCE)) / math.log(discount)) + 2)


def value_iteration(table: TransitionTable, discount: float, mask: Bools | None = None) -> Optimum:
    """Run value iteration until the stopping bound is met; at a discount of 1, policy iteration.

    It runs once for a table, a discount and a mask: every run of a group starts with it.

    Args:
        table: the decision process.
        discount: γ, from 0 to 1.
        mask: allowed actions, bool `[S, A]`.

    Raises:
        UsageError: the discount is out of range, or is 1 and the values do not exist.
    """
    check_discount(discount)
    if discount == 1:
        return Optimum(*total_reward.optimal_values(table, mask))
    if sparse_rows.uses_sparse_rows(table):
        return large_optimum(table, discount, mask)

    def step(value: Floats) -> Floats:
        return np.asarray(bellman(table, value, discount, mask).max(axis=1))

    def compute() -> Optimum:
        value, bound, iterations = fixed_point(step, step(np.zeros(table.states)), discount)
        q = bellman(table, value, discount, mask)
        return Optimum(q.max(axis=1), q, bound, iterations)

    found = remembered_values.once(table, f"optimum {discount} {mask_digest(mask)}", compute)
    return replace(found, value=found.value.copy(), q=found.q.copy())  # which a caller may change


def gains(rows: sparse_rows.Rows, mask: Bools | None, excluded: float = -np.inf) -> Floats:
    """Return the expected rewards `[N, A, B]` of sparse rows, `excluded` where the `mask` `[S, A]` is False."""
    return rows.reward if mask is None else np.where(rows.arrange(mask), rows.reward, excluded)


def settle(
    rows: sparse_rows.Rows,
    gain: Floats,
    discount: float,
    worst: bool = False,
    start: Floats | None = None,
    entry: str | None = None,
) -> tuple[Floats, float, int]:
    """Sweep until the values have settled, then prove them by one whole step.

    Args:
        rows: P.
        gain: what a step gains, `[N, A, B]`; −∞, or ∞ for the worst, excludes a pair.
        discount: γ, below 1.
        worst: whether to take the least instead of the greatest over the actions.
        start: the first values, `[S]`; None for 0.
        entry: the name of the entry to remember the values in, or None.

    Returns:
        T V `[S, A]`, a bound on the error of opt_a T V (rounding included), and the number of sweeps.
    """
    excluded = None if gain is rows.reward else rows.disarrange(np.isinf(gain))

    def prove(value: Floats) -> tuple[Floats, float, float, bool]:
        q = rows.backup(value, discount)
        if excluded is not None:
            q[excluded] = np.inf if worst else -np.inf
        better = least(q) if worst else greatest(q)
        change, scale = float(np.abs(better - value).max()), 1 + float(np.abs(better).max())
        near = discount / (1 - discount) * change <= 2 * TOLERANCE * scale or change <= ROUNDING * scale
        return q, (discount * change + ROUNDING * scale) / (1 - discount), change, near

    known = remembered_values.recall_values(entry, len(rows.place)) if entry else None
    if known is not None:
        q, bound, _, near = prove(known[0])
        if near:
            return q, bound, known[1]
    first = float(np.abs(rows.reward).max()) + (0.0 if start is None else float(np.abs(start).max()))
    total, best, most = 0, np.inf, iterations_needed(first, discount)
    slow = gain.shape[1] == 1 and most > 10 * PATIENCE
    while True:
        swept = sweeps.sweep(rows, gain, discount, PATIENCE if slow else most, worst, TOLERANCE, start)
        total += swept.sweeps
        q, bound, change, near = prove(swept.values)
        if near or (change >= best / 2 and not slow):  # as near as rounding allows
            break
        start, best = swept.values, change
        if slow:
            (start, products), slow, best = solve_slow(rows, discount, start), False, np.inf
            total += products
    if entry and near:
        remembered_values.remember_values(entry, swept.values, total)
    return q, bound, total


def solve_slow(rows: sparse_rows.Rows, discount: float, start: Floats) -> tuple[Floats, int]:
    """Solve for the values of the policy that `rows` fix, which sweeps would take too long for.

    Returns:
        Values `[S]`, near the true ones or no worse than the first, `start`, and the number of products with P.
    """
    reward = rows.reward.reshape(-1)
    direct, products = solve_banded_chain(discount * rows.matrix, reward, CHEAP), 1
    if direct is None:
        start, products = solve_krylov(rows, discount, start)
        value = start[rows.order]
        left = float(np.abs(reward + discount * (rows.matrix @ value) - value).max())
        if left > ROUNDING * (1 + float(np.abs(value).max())):
            direct = solve_banded_chain(discount * rows.matrix, reward)
    return (start, products) if direct is None else (direct[rows.place], products)


def greatest(q: Floats) -> Floats:
    """Return the greatest of few actions, `[S]` for `[S, A]`; faster than a reduction along short rows."""
    return np.asarray(functools.reduce(np.maximum, q.T)) if q.shape[1] > 1 else q[:, 0]


def least(q: Floats) -> Floats:
    """Return the least of few actions, `[S]` for `[S, A]`."""
    return -greatest(-q)


def large_optimum(table: TransitionTable, discount: float, mask: Bools | None) -> Optimum:
    """Compute the optimal values of a large table, or recall them."""
    rows = sparse_rows.rows_of(table)
    entry = remembered_values.name_of(table, "optimum", discount, mask_digest(mask))

    def compute() -> Optimum:
        q, bound, count = settle(rows, gains(rows, mask), discount, entry=entry)
        return Optimum(greatest(q), q, bound, count)

    return remembered_values.once(table, entry, compute)


def mask_digest(mask: Bools | None) -> str | None:
    """Return the sha256 of a mask; None if it excludes nothing."""
    return None if mask is None or mask.all() else remembered_values.digest_arrays(mask)


def worst_of_large(table: TransitionTable, discount: float, mask: Bools | None) -> Evaluation:
    """Compute the values of the worst policy on a large table, or recall them."""
    rows = sparse_rows.rows_of(table)
    entry = remembered_values.name_of(table, "worst", discount, mask_digest(mask))

    def compute() -> Evaluation:
        q, bound, count = settle(rows, gains(rows, mask, np.inf), discount, worst=True, entry=entry)
        return Evaluation(least(q), bound, count)

    return remembered_values.once(table, entry, compute)


def improve_policy(table: TransitionTable, discount: float, policy: Ints, mask: Bools | None = None) -> Ints:
    """Improve a policy `[S]` until it is optimal at a `discount` below 1: policy iteration (Puterman, 1994, §6.4).

    It solves S equations a few times, where value iteration sweeps 1/(1 − γ) times and more. The first improvements
    look `AHEAD` steps ahead, as news would travel only one with each (modified policy iteration; §6.5). In the others,
    an action is replaced only by one that is better beyond rounding, so it ends.
    """
    states = np.arange(table.states)
    for count in itertools.count():
        check_stop()
        evaluation = evaluate_policy(table, policy, discount)
        q = bellman(table, evaluation.value, discount, mask)
        better = q.max(axis=1) > q[states, policy] + 2 * evaluation.bound + TOLERANCE
        if not better.any():
            break
        for _ in range(AHEAD if count < EAGER else 0):
            q = bellman(table, q.max(axis=1), discount, mask)
            better = q.max(axis=1) > q[states, policy]
        policy = np.where(better, q.argmax(axis=1), policy)
    return policy


def evaluate_uniform(table: TransitionTable, discount: float, mask: Bools | None = None) -> Evaluation:
    """Evaluate the uniform policy over the allowed actions, once; on a large table, its values are remembered.

    Raises:
        UndefinedError: at a discount of 1, the values cannot be computed.
    """
    policy = uniform_policy(table, mask)
    if discount == 1 or table.states <= DIRECT or not sparse_rows.uses_sparse_rows(table):
        key = f"uniform {discount} {mask_digest(mask)}"
        found = remembered_values.once(table, key, lambda: evaluate_policy(table, policy, discount))
        return replace(found, value=found.value.copy())
    entry = remembered_values.name_of(table, "uniform", discount, mask_digest(mask))

    def compute() -> Evaluation:
        rows = sparse_rows.fix_policy(sparse_rows.rows_of(table), policy)
        q, bound, count = settle(rows, rows.reward, discount, entry=entry)
        return Evaluation(q[:, 0], bound, count)

    return remembered_values.once(table, entry, compute)


def worst_values(table: TransitionTable, discount: float, mask: Bools | None = None) -> Evaluation:
    """Compute the values of the worst policy by value iteration; `discount` is below 1, `mask` bool `[S, A]`."""
    if sparse_rows.uses_sparse_rows(table):
        return worst_of_large(table, discount, mask)

    def step(value: Floats) -> Floats:
        q = bellman(table, value, discount)
        return np.asarray((q if mask is None else np.where(mask, q, np.inf)).min(axis=1))

    return Evaluation(*fixed_point(step, step(np.zeros(table.states)), discount))


def evaluate_policy(
    table: TransitionTable, policy: Ints | Floats, discount: float, start: Floats | None = None
) -> Evaluation:
    """Evaluate any policy, proper or not, given as actions `[S]` or probabilities `[S, A]`.

    At a discount of 1 the value of a policy that loses reward forever is −∞. `start` `[S]`, such as the values of a
    similar policy, saves sweeps over a large table; the bound does not depend on it.

    Raises:
        UsageError: the discount is out of range.
    """
    check_discount(discount)
    if discount == 1:
        return Evaluation(*total_reward.policy_values(table, policy), 1)
    if table.states > DIRECT and (sparse_rows.uses_sparse_rows(table) or is_slow(table, discount)):
        rows = sparse_rows.fix_policy(sparse_rows.rows_of(table), policy)
        if takes_whole_steps(rows, iterations_needed(float(np.abs(rows.reward).max()), discount)):
            return evaluate_in_whole_steps(rows, discount, start)
        q, bound, count = settle(rows, rows.reward, discount, start=start)
        return Evaluation(q[:, 0], bound, count)
    fixed = chain(table, policy)
    if table.states <= DIRECT:
        return Evaluation(*solve_values(fixed, discount), 1)
    return Evaluation(*fixed_point(lambda value: fixed.backup(value, discount), fixed.reward, discount))


def is_slow(table: TransitionTable, discount: float) -> bool:
    """Return whether a policy's values may take so many sweeps that solving for them is faster, imports included."""
    return iterations_needed(float(np.abs(table.expected_reward).max()), discount) > MANY


def evaluate_in_whole_steps(rows: sparse_rows.Rows, discount: float, start: Floats | None = None) -> Evaluation:
    """Evaluate the policy that `rows` fix by steps over all of them, from the values `start` `[S]`, or from 0."""
    gain = rows.reward.reshape(-1)

    def step(value: Floats) -> Floats:
        return np.asarray(gain + discount * (rows.matrix @ value))

    value, bound, count = fixed_point(step, gain if start is None else step(start[rows.order]), discount)
    return Evaluation(value[rows.place], bound, count)


def evaluate_horizon(table: TransitionTable, policy: Ints | Floats, horizon: int) -> HorizonEvaluation:
    """Compute return, termination probability and length of episodes over `horizon` steps.

    `policy` is an action per state `[S]`, or probabilities `[S, A]`.
    """
    if has_long_horizon(table):
        rows = sparse_rows.fix_policy(sparse_rows.rows_of(table), policy)
        if takes_whole_steps(rows, horizon):
            returns, length = sum_in_whole_steps(rows, horizon).T
            return HorizonEvaluation(returns, termination_of(rows, length), length, rounding(returns, horizon))
        steps, each = sweeps.sweep(rows, np.ones_like(rows.reward), 1.0, horizon), float(rows.reward.flat[0])
        swept = steps.times(each) if (rows.reward == each).all() else sweeps.sweep(rows, rows.reward, 1.0, horizon)
        bound = rounding(swept.values, horizon) + swept.neglected
        return HorizonEvaluation(swept.values, termination_of(rows, steps.values), steps.values, bound)
    fixed = chain(table, policy)
    ones = np.ones(table.states)
    ends = ones - fixed.continuation.sum(axis=1)
    gain = np.stack([fixed.reward, ends, ones], axis=1)  # [S, 3]: return, termination, steps
    total = np.zeros_like(gain)
    squared = table.states <= SQUARED and horizon > table.states
    if squared:
        total = iterate_values(fixed.matrix(), gain, horizon)
    for _ in range(0 if squared else horizon):
        check_stop()
        longer = gain + np.einsum("sj,sjx->sx", fixed.continuation, total[fixed.next_state])
        if np.array_equal(longer, total):  # every episode has ended: longer horizons add nothing
            break
        total = longer
    return HorizonEvaluation(total[:, 0], np.clip(total[:, 1], 0, 1), total[:, 2], rounding(total[:, 0], horizon))


def evaluate_returns(table: TransitionTable, policy: Ints | Floats, horizon: int) -> Floats:
    """Compute the mean return of `horizon` steps, `[S]`: half the work of `evaluate_horizon` on a large table."""
    if has_long_horizon(table):
        rows = sparse_rows.fix_policy(sparse_rows.rows_of(table), policy)
        if not takes_whole_steps(rows, horizon):
            return sweeps.sweep(rows, rows.reward, 1.0, horizon).values
    return evaluate_horizon(table, policy, horizon).returns


def evaluate_lengths(table: TransitionTable, policy: Ints | Floats, horizon: int) -> tuple[Floats, Floats]:
    """Compute the probability of having terminated after `horizon` steps, and the mean number of steps, `[S]` each."""
    if has_long_horizon(table):
        rows = sparse_rows.fix_policy(sparse_rows.rows_of(table), policy)
        if not takes_whole_steps(rows, horizon):
            length = sweeps.sweep(rows, np.ones_like(rows.reward), 1.0, horizon).values
            return termination_of(rows, length), length
    episode = evaluate_horizon(table, policy, horizon)
    return episode.termination, episode.length


def has_long_horizon(table: TransitionTable) -> bool:
    """Return whether the steps of a horizon are taken on sparse rows."""
    return table.states > SQUARED and sparse_rows.uses_sparse_rows(table)


def takes_whole_steps(rows: sparse_rows.Rows, horizon: int) -> bool:
    """Return whether up to `horizon` steps of the policy that `rows` fix are best taken over all states."""
    entries = int(rows.matrix.nnz)
    return entries <= FEW and entries * horizon <= FEW * WHOLE_STEPS


def sum_in_whole_steps(rows: sparse_rows.Rows, horizon: int) -> Floats:
    """Return the rewards and the number of the steps, summed over `horizon` steps over all states, `[S, 2]`."""
    gain = np.stack([rows.reward.reshape(-1), np.ones(len(rows.order))], axis=1)
    total = np.zeros_like(gain)
    for count in range(horizon):
        check_stop()
        longer = rows.matrix @ total + gain
        if count % 16 == 0 and np.array_equal(longer, total):  # every episode has ended
            break
        total = longer
    return np.asarray(total[rows.place])


def termination_of(rows: sparse_rows.Rows, length: Floats) -> Floats:
    """Return the probability of having terminated, `[S]`: what one more step would not add to the mean `length`."""
    following = (rows.matrix @ length[rows.order])[rows.place]
    return np.asarray(np.clip(length - following, 0, 1))


def rounding(total: Floats, horizon: int) -> float:
    """Return the rounding error of a sum over `horizon` steps."""
    return horizon * ROUNDING * float(np.abs(total).max())


def optimal_horizon(table: TransitionTable, horizon: int, mask: Bools | None = None) -> HorizonOptimum:
    """Compute the best return over `horizon` steps from each state, `[S]`, by backward induction, once."""
    compute = optimal_long_horizon if sparse_rows.uses_sparse_rows(table) else optimal_short_horizon
    key = f"horizon {horizon} {mask_digest(mask)}"
    found = remembered_values.once(table, key, lambda: compute(table, horizon, mask))
    return replace(found, returns=found.returns.copy())


def optimal_short_horizon(table: TransitionTable, horizon: int, mask: Bools | None) -> HorizonOptimum:
    """Compute the best return over `horizon` steps by steps over all outcomes."""
    returns = np.zeros(table.states)
    for _ in range(horizon):
        check_stop()
        longer = bellman(table, returns, 1.0, mask).max(axis=1)
        if np.array_equal(longer, returns):
            break
        returns = longer
    return HorizonOptimum(returns, horizon * ROUNDING * float(np.abs(returns).max()))


def optimal_long_horizon(table: TransitionTable, horizon: int, mask: Bools | None) -> HorizonOptimum:
    """Compute the best return over `horizon` steps on a large table."""
    rows = sparse_rows.rows_of(table)
    swept = sweeps.sweep(rows, gains(rows, mask), 1.0, horizon)
    bound = horizon * ROUNDING * float(np.abs(swept.values).max()) + swept.neglected
    return HorizonOptimum(swept.values, bound)


def reachable(table: TransitionTable, mask: Bools | None = None) -> Bools:
    """Mark the states that some policy visits before termination, `[S]`, including the start states."""
    found = table.start > 0
    frontier = np.flatnonzero(found)
    allowed = (table.probability > 0) & ~table.terminated
    if mask is not None:
        allowed = allowed & mask[:, :, None]
    while frontier.size:
        check_stop()
        targets = np.unique(table.next_state[frontier][allowed[frontier]])
        frontier = targets[~found[targets]]
        found[frontier] = True
    return found
