"""Decide whether the optimality of a policy can be determined from a start state.

A policy counts as optimal from s if V*(s) − V^π(s) ≤ 1e-6 · (1 + |V*(s)|). If even the worst policy passes that test,
passing it means nothing. There are two such cases, distinguished by the states that s leads to:

- **Every policy has the same value** in all states that the starts lead to, for example because no reward can be
  earned. Any policy is optimal, which is true and useless.
- **Undecidable at this discount**: s leads to states where the choice matters, but so late or so rarely that at s it is
  worth less than the tolerance. 3,000 steps from the goal, only 0.99^3000 = 8e-14 of any difference remains. A larger
  discount may decide it.

With V_worst from value iteration with min instead of max, the choice matters in a state if V* − V_worst exceeds the
tolerance. The uniform random policy, whose values are already known, is at least as good as the worst one: if it fails
the test, nothing else needs to be computed. At γ = 1 the worst policy's value may not exist: that at 0.99 is used
instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deeptaxi.mdp import planning
from deeptaxi.mdp.sparse_rows import leads_to, uses_sparse_rows
from deeptaxi.mdp.table import Bools, Floats, TransitionTable
from deeptaxi.mdp.total_reward import UndefinedError, steps_to

OPTIMAL_TOLERANCE = 1e-6
STAND_IN = 0.99  # replaces a discount of 1
TELLING = (0.999, 1.0, 0.9999)  # discounts to try, in this order: the first is the fastest
NEARLY_EQUAL = (
    f"every policy has the same value within the tolerance of {OPTIMAL_TOLERANCE:g} · (1 + |value|): "
    "scale the rewards up"
)
WORK = 2 * 10**9  # most outcomes to back up when trying a discount: about ten seconds


@dataclass(frozen=True)
class Decidability:
    """The start states from which optimality can be determined.

    Attributes:
        unknown: the start states from which it cannot, `[S]`.
        explanation: why, for the JSON; None if there are none.
        all_policies_equal: message that every policy has the same value, and why; else None.
    """

    unknown: Bools
    explanation: dict[str, Any] | None = None
    all_policies_equal: str | None = None


def decidability(
    table: TransitionTable, discount: float, optimum: planning.Optimum, random: Floats, advise: bool = True
) -> Decidability:
    """Find the start states from which optimality cannot be determined.

    Args:
        table: the decision process.
        discount: of the objective.
        optimum: V* at that discount.
        random: the values of the uniform random policy at that discount, `[S]`.
        advise: whether to search for a discount at which it can be determined.
    """
    starts = table.start > 0
    tolerance = OPTIMAL_TOLERANCE * (1 + np.abs(optimum.value))
    with np.errstate(invalid="ignore"):  # ∞ − ∞ in unreachable states
        undecided = starts & (optimum.value - random <= tolerance)
    if not undecided.any():
        return Decidability(undecided)
    spread, least, rounding = spread_of(table, discount, optimum)
    undecided &= spread <= tolerance
    matters = np.asarray(spread > least)
    if not undecided.any() and (starts & matters).any():
        return Decidability(undecided)
    leading = leads_to_choice(table, matters)
    unknown = np.asarray(undecided & leading)
    if unknown.any():
        return Decidability(unknown, explanation(table, discount, unknown, advise))
    if (starts & leading).any():
        return Decidability(unknown)
    equal = bool((spread[starts] <= rounding).all())
    return Decidability(unknown, None, why_equal(table, optimum.value) if equal else NEARLY_EQUAL)


def leads_to_choice(table: TransitionTable, matters: Bools) -> Bools:
    """Mark the states that may lead to one where the choice `matters` `[S]`, `[S]`."""
    if uses_sparse_rows(table):
        return leads_to(table, matters, table.action_mask)
    onward = table.continuation > 0
    if table.action_mask is not None:
        onward = onward & table.action_mask[:, :, None]
    return np.isfinite(steps_to(matters, onward, table.next_state))


def spread_of(table: TransitionTable, discount: float, optimum: planning.Optimum) -> tuple[Floats, Floats, float]:
    """Return V* − V_worst `[S]`, its tolerance `[S]`, and a bound on its rounding error."""
    if discount == 1:
        discount, optimum = STAND_IN, planning.value_iteration(table, STAND_IN, table.action_mask)
    worst = planning.worst_values(table, discount, table.action_mask)
    tolerance = OPTIMAL_TOLERANCE * (1 + np.abs(optimum.value))
    return optimum.value - worst.value, tolerance, optimum.bound + worst.bound


def explanation(table: TransitionTable, discount: float, unknown: Bools, advise: bool) -> dict[str, Any]:
    """Return why optimality cannot be determined, and a discount at which it can, or None if none was found."""
    better = telling_discount(table, discount) if advise else None
    count, all_starts = int(unknown.sum()), int((table.start > 0).sum())
    reason = (
        f"from {count:,} of {all_starts:,} start states the best policy and the worst differ by less than "
        f"{OPTIMAL_TOLERANCE:g} of the value"
    )
    return {"start_states": count, "reason": reason, "telling_discount": better}


def telling_discount(table: TransitionTable, discount: float) -> float | None:
    """Return a discount at which optimality can be determined from every start; None if none was found."""
    for larger in TELLING:
        sweeps = 30 / (1 - larger) if larger < 1 else 0
        if larger <= discount or sweeps * table.probability.size > WORK:
            continue
        try:
            optimum = planning.value_iteration(table, larger, table.action_mask)
        except UndefinedError:
            continue
        if not decidability(table, larger, optimum, random_values(table, larger), advise=False).unknown.any():
            return larger
    return None


def why_equal(table: TransitionTable, value: Floats) -> str:
    """Return a message that every policy has the same value, and why; `value` is V* `[S]`."""
    starts = table.start > 0
    if value[starts].any():
        return "every policy has the same value: rewards do not depend on the actions"
    return f"nothing can be earned: {why_nothing(table)}"


def why_nothing(table: TransitionTable) -> str:
    """Return the reason why no policy earns anything."""
    paid = ((table.reward != 0) & (table.probability > 0)).any(axis=2)  # [S, A]
    if not paid.any():
        return "all rewards are 0"
    if (paid & choosable(table, table.action_mask)).any():
        return "the rewards cancel out, whatever the actions are"
    if (paid & choosable(table, None)).any():
        return "the action mask excludes every action that earns or leads to a reward"
    state = int(np.argmax(paid.any(axis=1)))
    if (paid & choosable(replace(table, terminated=np.zeros_like(table.terminated)), None)).any():
        return (
            f"rewards are only given after the end, as in state {state}: give them for the step that ends the episode"
        )
    return f"no path leads from a start to a reward, as in state {state}"


def choosable(table: TransitionTable, mask: Bools | None) -> Bools:
    """Mark the (state, action) pairs that some policy can choose, `[S, A]`."""
    pairs = np.broadcast_to(planning.reachable(table, mask)[:, None], (table.states, table.actions))
    return np.asarray(pairs if mask is None else pairs & mask)


def random_values(table: TransitionTable, discount: float) -> Floats:
    """Return the values of the uniform random policy, `[S]`; NaN if they cannot be computed."""
    try:
        return planning.evaluate_uniform(table, discount, table.action_mask).value
    except UndefinedError:  # its episodes may be too long to compute
        return np.full(table.states, np.nan)
