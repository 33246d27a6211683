"""What the training asked for, before any Q value: is it the right problem?

**Discount.** Of the policies that are optimal at the discount of the training, the one that is best by the objective
is computed exactly: value iteration over the actions that are optimal for the training. If even that policy is bad, no
training at this discount can be good. A network cannot tell actions apart that differ by less than `RESOLUTION` of the
largest Q value, so the policy that draws among these is looked at as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeptaxi.evaluation import exact
from deeptaxi.evaluation.diagnosis.case import GOOD, Case, the
from deeptaxi.evaluation.diagnosis.check import Check
from deeptaxi.evaluation.diagnosis.findings import Finding
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Floats

RESOLUTION = 1e-4
TIES = 1e-9


@dataclass(frozen=True)
class Promise:
    """The best that a training can come to: normalised scores of policies that its discount calls optimal."""

    score: float  # of the best policy that is optimal at the training's discount
    blurred: float  # of the one that draws among the actions that a network cannot tell apart


def promise(target: exact.Reference, q_star: Floats) -> Promise | None:
    """Return what the policies that `q_star` `[S, A]` calls optimal are worth at the objective's discount.

    None where the random policy is as good as the optimum, so that there is no score.
    """
    table, start = target.table, target.table.start
    optimum = float(start @ target.optimum.value)
    ties = planning.optimal_actions(q_star, TIES)
    best = float(start @ planning.value_iteration(table, target.discount, ties).value)
    finite = np.where(np.isfinite(q_star), q_star, -np.inf)
    coarse = RESOLUTION * float(np.abs(q_star[np.isfinite(q_star)]).max())
    alike = finite >= finite.max(axis=1, keepdims=True) - coarse
    blurred = float(
        start @ planning.evaluate_policy(table, planning.uniform_policy(table, alike), target.discount).value
    )
    scores = [exact.normalised(value, optimum, target.random_value) for value in (best, blurred)]
    return None if scores[0] is None or scores[1] is None else Promise(scores[0], scores[1])


def discount_too_small(case: Case) -> Finding | None:
    """Name a discount at which no training can come to a good policy."""
    discount = the(case.training_discount)
    if discount >= case.discount:
        return None
    found = promise(the(case.reference), case.q_star)
    if found is None or min(found.score, found.blurred) >= GOOD:
        return None
    return finding(found, discount, case)


def finding(found: Promise, discount: float, case: Case) -> Finding:
    """Say what the discount costs."""
    exactly = found.score < GOOD
    what = (
        f"the policy that is optimal at discount {discount:g} scores {found.score:.3g} at {case.discount:g}"
        if exactly
        else f"at discount {discount:g} the values of good and bad actions differ by less than {RESOLUTION:g} of the "
        f"largest Q value; a policy that cannot tell these apart scores {found.blurred:.3g} at {case.discount:g}"
    )
    return Finding(
        "discount-too-small",
        case.worst,
        what,
        {"discount": discount, "objective_discount": case.discount, "score": found.score,
         "score_at_resolution": found.blurred, "resolution": RESOLUTION},
        "exact",
        "rewards that are many steps away count for nothing at this discount, "
        f"which looks about {1 / max(1 - discount, 1e-9):.0f} steps ahead",
        f"--discount {case.discount:g}",
    )  # fmt: skip


CHECKS = (Check("discount-too-small", ("table", "discount"), discount_too_small),)
