"""How far Q has come toward its own targets, and what a bad policy without a proven cause still says.

With T the Bellman operator at the training's discount, three mean errors over the pairs that were tried, beside the
range of Q*, tell the kinds of failure apart, whatever its cause:

    plain rewards   |Q − E[r]| where every outcome ends the episode: the target is known, and needs no reference
    own targets     |Q − T Q|
    optimum         |Q − Q*|

Q that is off even where targets are plain rewards was not fitted. If only its own targets are far, values are still on
their way. If it agrees with its own targets and is far from Q*, some part of the problem that it learned is another; by
‖Q − Q*‖ ≤ ‖Q − T Q‖ / (1 − γ), the two cannot differ by more than that where the targets are the right ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from deeptaxi.diagnosis import cures
from deeptaxi.diagnosis.case import Case, Finding, Severity, the
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools, Floats, Ints

FITTED = 0.1  # of the range of Q*
AGREES = 0.25  # error of its own targets over that of the optimum
NEAR = 0.05  # of the range of Q*: values that are right but for the order of close actions
WORST = 3  # states shown


@dataclass(frozen=True)
class Fit:
    """Mean errors of Q, and the range of Q*; None where there is no such pair."""

    plain_rewards: float | None
    own_targets: float
    optimum: float
    plain_pairs: int
    span: float

    @property
    def kind(self) -> str:
        """Which kind of failure it is: ``"close"``, ``"not fitted"``, ``"other targets"`` or ``"on its way"``."""
        if self.optimum < NEAR * self.span:
            return "close"
        if self.plain_rewards is not None and self.plain_rewards > FITTED * self.span:
            return "not fitted"
        return "other targets" if self.own_targets < AGREES * self.optimum else "on its way"


EXPLANATIONS = {
    "close": (
        "its values are right within {optimum:.2g}, where Q* ranges over {span:.3g}, and the actions that it confuses "
        "differ by less: noise of the targets or of the last updates",
        "smaller steps at the end, or more samples, would settle it",
    ),
    "not fitted": (
        "it is off by {plain_rewards:.3g}, where Q* ranges over {span:.3g}, even at the {plain_pairs} pairs whose "
        "target is a plain reward, so it was not fitted: updates too few, too small or too large, or a network that "
        "cannot represent the values",
        "a longer training brings it nearer if there were too few updates",
    ),
    "other targets": (
        "it agrees with its own targets within {own_targets:.2g} and is off by {optimum:.3g} from Q*: its updates "
        "settled on the values of another problem (discount, rewards, ends, transitions) or of other states",
        "a training on the table itself tells the rule from the data",
    ),
    "on its way": (
        "it is off by {own_targets:.3g} from its own targets, where Q* ranges over {span:.3g}, and fits the last "
        "rewards: values have not come back to where episodes start, or do not settle",
        "a longer training brings it nearer if values were on their way",
    ),
}


def measure_fit(case: Case) -> Fit | None:
    """Compare Q with its targets; None without a table, Q values, or a discount to compare at."""
    if case.table is None or case.q is None or case.broken or case.reference is None or case.reference.q_star is None:
        return None
    q = np.where(case.allowed, np.asarray(case.q, float), -np.inf)
    pairs, span = case.learned_pairs, case.span
    if span == 0:
        return None
    discount = the(case.training_discount)
    own = planning.bellman(case.table, planning.greatest(q), discount)
    plain = plain_pairs(case) & pairs
    return Fit(
        plain_rewards=mean_error(q, case.table.expected_reward, plain) if plain.any() else None,
        own_targets=mean_error(q, own, pairs),
        optimum=mean_error(q, case.q_star, pairs),
        plain_pairs=int(plain.sum()),
        span=span,
    )


def plain_pairs(case: Case) -> Bools:
    """Mark the pairs whose every outcome ends the episode, `[S, A]`: their target is their reward."""
    table = the(case.table)
    return np.asarray((table.terminated | (table.probability == 0)).all(axis=-1))


def mean_error(q: Floats, target: Floats, pairs: Bools) -> float:
    """Return the mean |Q − target| over `pairs`, all `[S, A]`."""
    return float(np.abs(q[pairs] - target[pairs]).mean())


def worst_states(case: Case) -> list[dict[str, Any]]:
    """Return the states on the policy's path whose greedy actions lose most, and what Q says of them."""
    table, policy = the(case.table), case.policy
    optimum = the(case.reference).optimum
    rows = np.arange(case.states)
    loss = np.where(np.isfinite(optimum.value), optimum.value - optimum.q[rows, policy], 0.0)
    where = case.losing & case.passed
    if not where.any():
        where = case.losing
    ranked = np.argsort(np.where(where, -loss, np.inf), kind="stable")[: min(WORST, int(where.sum()))]
    return [describe_state(case, int(state), policy, float(loss[state]), table.start) for state in ranked]


def describe_state(case: Case, state: int, policy: Ints, loss: float, start: Floats) -> dict[str, Any]:
    """Return what Q says of a state, beside Q*."""
    reference = the(case.reference)
    truth = reference.optimum.q if reference.q_star is None else case.q_star
    taken, best = int(policy[state]), int(np.argmax(truth[state]))
    facts: dict[str, Any] = {
        "state": state, "action": taken, "best_action": best, "loses": loss, "is_start": bool(start[state] > 0),
        "q_star": float(truth[state, taken]), "q_star_of_best": float(truth[state, best]),
    }  # fmt: skip
    if case.q is not None:
        facts |= {"q": float(case.q[state, taken]), "q_of_best": float(case.q[state, best])}
    return facts


def oddness(case: Case, worst: dict[str, Any]) -> str:
    """Say what is odd about Q in one state."""
    names = case.action(worst["action"]), case.action(worst["best_action"])
    text = f"in state {worst['state']} it takes {names[0]}, where {names[1]} is better by {worst['loses']:.3g}"
    if "q" not in worst:
        return text
    high, low = worst["q"] - worst["q_star"], worst["q_of_best"] - worst["q_star_of_best"]
    odd = f"Q of the first is {abs(high):.3g} too {'high' if high > 0 else 'low'}"
    if abs(low) > abs(high):
        odd = f"Q of the second is {abs(low):.3g} too {'high' if low > 0 else 'low'}"
    return f"{text}: {odd}"


def not_optimal(case: Case, causes: list[Finding], ruled_out: tuple[str, ...]) -> Finding | None:
    """Say what is known of a policy that is not optimal, and which experiment would tell its causes apart.

    That is the worst states, what is odd about their Q values, how far the fit has come, and what was ruled out.

    Args:
        case: the case.
        causes: the findings so far that are a cause, worst first: none of them severe.
        ruled_out: the names of the checks that found nothing.
    """
    verdict = case.verdict
    if verdict is None or verdict.optimal is not False:
        return None
    severity: Severity = "severe" if case.harmful else "note"
    states, fit = worst_states(case), measure_fit(case)
    score = verdict.normalized_score
    good = f"{verdict.optimal_start_states} of {verdict.start_states} start states are played optimally"
    scored = f", and the policy scores {score:.3g} between 0 (random) and 1 (optimal)" if score is not None else ""
    summary = good + scored + (f"; {oddness(case, states[0])}" if states else "")
    evidence: dict[str, Any] = {
        "normalized_score": score, "value_gap": verdict.value_gap, "worst_states": states,
        "fit": asdict(fit) | {"kind": fit.kind} if fit else None, "ruled_out": list(ruled_out),
    }  # fmt: skip
    finding = Finding("not-optimal", severity, summary, evidence, "exact", "", "")
    reason = next((cause for cause in causes if cause.severity != "note"), None)
    if reason is not None:
        return finding  # takes its cause from that
    cause, telling = explain(case, fit)
    return replace(finding, cause=f"no check proves one: {cause}; {telling}", cure=experiment(case, fit))


def explain(case: Case, fit: Fit | None) -> tuple[str, str]:
    """Return what the fit says of the cause, and what an experiment would tell."""
    if fit is not None:
        cause, telling = EXPLANATIONS[fit.kind]
        values = asdict(fit) | {"plain_rewards": fit.plain_rewards or 0.0}
        cause = cause.format(**values)
    elif case.q is None:
        cause, telling = "a policy has no Q values to look at", "Q values would show how near its choices were"
    else:
        cause, telling = (
            "at which discount it was trained is not known",
            "--discount says what to hold its values against",
        )
    if case.config is not None and experiment_changes(case, fit)[1]:
        telling = (
            "if it is good with the settings that are usual for this problem, one of those that differ is to blame"
        )
    return cause, telling


def experiment_changes(case: Case, fit: Fit | None) -> tuple[dict[cures.Path, Any], bool]:
    """Return the settings of the cheapest telling experiment, and whether they are the usual ones."""
    config = the(case.config)
    usual = cures.to_usual(config, case.usual)
    if usual:
        return usual, True
    if fit is not None and fit.kind == "close" and case.table is not None and config.target.backup == "sample":
        return {cures.BACKUP: "expected", **({cures.N_STEP: 1} if config.target.n_step > 1 else {})}, False
    return cures.more_updates(config, case.usual), False


def experiment(case: Case, fit: Fit | None) -> str:
    """Return the cheapest experiment that tells causes apart, as options to train with, or a sentence."""
    if case.config is not None:
        return cures.format_options(experiment_changes(case, fit)[0])
    if case.training_discount is None and case.q is not None:
        return "say at which discount it was trained, `deeptaxi diagnose … --discount G`: its values are then compared"
    return f"`{cures.training_command(case.environment)}` trains one: compare its Q values with these, state by state"
