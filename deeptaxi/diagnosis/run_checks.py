"""Run all checks of a case and rank their findings.

Symptoms, such as an agent that takes only one action, are reported with the cause and cure of the worst finding that
can explain them. If the policy does no harm, nothing is severe. A model examined on another problem than its own is
reported as such; its log and configuration say nothing about this problem.
"""

from __future__ import annotations

from dataclasses import replace

from deeptaxi.diagnosis import (
    cures,
    environment_checks,
    exploration,
    fit,
    forecast,
    learning_curves,
    policy,
    q_values,
    rivals,
    setup,
)
from deeptaxi.diagnosis.case import SEVERITIES, Case, Check, Diagnosis, Finding, NotChecked, Unchecked, known


def or_fact(check: Check) -> Check:
    """Return a check that falls back on what the configuration alone says, if it finds nothing."""
    if check.name not in forecast.FACTS:
        return check

    def look(case: Case) -> Finding | Unchecked | None:
        found = check(case)
        if isinstance(found, Finding) or not all(known(case, need) for need in forecast.NEEDS):
            return found
        return forecast.check_fact(check.name, case) or found

    return Check(check.name, (), look)


def unless_too_small(check: Check) -> Check:
    """Return a check for steps that are too large which is silent where all steps together cannot carry values."""

    def look(case: Case) -> Finding | Unchecked | None:
        found = check(case)
        if not isinstance(found, Finding) or not all(known(case, need) for need in forecast.NEEDS):
            return found
        return None if forecast.check_fact("learning-rate-too-low", case) else found

    return replace(check, look=look, needs=())


# A symptom looks for its cause in this order, root causes first.
CAUSES: tuple[Check, ...] = tuple(
    unless_too_small(check) if check.name == "learning-rate-too-high" else or_fact(check)
    for check in (
        *environment_checks.CHECKS,
        *setup.BROKEN_CHECKS,  # a broken problem first: what was learned in it follows
        *q_values.HYPOTHESIS_CHECKS,
        *setup.NETWORK_CHECKS,
        *setup.PROBLEM_CHECKS,
        *forecast.CHECKS,
        *q_values.VALUE_CHECKS[:1],  # the reward scale, which the learning rate is taken for
        *learning_curves.PROGRESS_CHECKS,
        *learning_curves.STEP_SIZE_CHECKS,
        *exploration.CHECKS,
        *q_values.NOISE_CHECKS,
        *q_values.VALUE_CHECKS[1:],
    )
)
CHECKS: tuple[Check, ...] = (*policy.CHECKS, *CAUSES)
UNEXPLAINED = "no check proves a cause"


ELSEWHERE = "the model is for another problem"
OF_ANY_PROBLEM = {  # findings that hold wherever the model is examined
    check.name for check in (*policy.CHECKS, *setup.NETWORK_CHECKS)
} | {"wrong-environment", "diverged"}
MISFIT = {"state-as-number", "saturated-output"}  # a network that cannot represent the values says nothing by them
OF_THE_PROBLEM = {"mask-forbids-optimum", "goal-unreachable", "all-policies-equal"}  # severe for any policy
ROOTS = {  # facts of the configuration that look like steps of the wrong size
    "reward-scale-off", "initial-value-off", "network-too-small", "n-step-off-policy", "discount-too-large",
}  # fmt: skip
WEAKER = {  # findings whose evidence looks the same if one of the others is true
    "learning-rate-too-low": {
        "learning-rate-too-high", "target-too-stale", "dead-relu-units", "saturated-output", "untrained", *ROOTS,
    },
    "learning-rate-too-high": {*ROOTS, "tabular-step-too-large"},
    "target-too-stale": {"initial-value-off", "untrained"},
    "target-too-fresh": ROOTS,
    "overestimation": {*ROOTS, "learning-rate-too-high", "learning-rate-too-low", "untrained"},
    "model-not-trained": {*rivals.RULES, "diverged"},
    "discount-too-small": {"model-not-trained", "state-as-number", "saturated-output"},
    "dead-relu-units": {"model-not-trained", "network-too-small"},
    "all-policies-equal": {"mask-forbids-optimum", "goal-unreachable"},
    "goal-unreachable": {"mask-forbids-optimum"},
    "hidden-time-limit": {"observations-lag"},  # where the action before acts, (s, a, s') says too little of the end,
    "rewards-late": {"observations-lag"},  # and rewards are those of the action before
    "no-reward-seen": {"hidden-time-limit", "truncation-as-terminal"},  # episodes that end before the goal
    "interrupted": {"diverged"},
    "environment-failed": {"diverged"},
    "terminal-states-bootstrapped": MISFIT,
    "truncation-as-terminal": MISFIT,
}  # fmt: skip


def diagnose(case: Case) -> Diagnosis:
    """Return what is wrong with a model, most severe first, and what could not be checked."""
    findings: list[Finding] = []
    not_checked: list[NotChecked] = []
    elsewhere = q_values.wrong_environment(case) is not None
    for check in CHECKS:
        misplaced = elsewhere and check.name not in OF_ANY_PROBLEM
        result = Unchecked(ELSEWHERE) if misplaced else check(case)
        if isinstance(result, Unchecked):
            not_checked.append(NotChecked(check.name, result.why))
        elif result is not None:
            harmless = case.harmful is False and result.severity == "severe" and result.name not in OF_THE_PROBLEM
            findings.append(replace(result, severity="warning") if harmless else result)
    names = {finding.name for finding in findings}
    findings = exploration.rank_gaps(without_weaker(findings))
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    causes = [finding for finding in findings if finding.cause]
    if not any(cause.severity == "severe" for cause in causes):
        unnamed = {check.name for check in CHECKS} - names - {item.name for item in not_checked}
        ruled_out = tuple(check.name for check in CAUSES if check.name in unnamed)
        missed = fit.not_optimal(case, causes, ruled_out)
        if missed is not None:
            findings.insert(0 if missed.severity == "severe" else len(findings), missed)
    findings = [with_sound_cure(finding, case) for finding in findings]
    if findings and findings[0].severity == "severe" and findings[0].cause:  # what is typed first
        findings[0] = replace(findings[0], cure=cure_of_all(findings[0], findings, case))
    return Diagnosis(tuple(explained(finding, findings, case) for finding in findings), tuple(not_checked))


def without_weaker(findings: list[Finding]) -> list[Finding]:
    """Leave out the findings whose evidence another one explains."""
    names = {finding.name for finding in findings}
    return [finding for finding in findings if not names & WEAKER.get(finding.name, set())]


def explained(finding: Finding, findings: list[Finding], case: Case) -> Finding:
    """Give a symptom the cause of the worst finding that can explain it, and the cure of all that do."""
    if finding.cause:
        return finding
    reason = next((other for other in findings if other.cause and other.severity != "note"), None)
    if reason is None:
        return replace(finding, cause=UNEXPLAINED, cure="the same training with other settings: --cure tries some")
    cause = f"{UNEXPLAINED}: see not-optimal" if reason.name == "not-optimal" else f"{reason.name}: {reason.cause}"
    return replace(finding, cause=cause, cure=cure_of_all(reason, findings, case))


def cure_of_all(reason: Finding, findings: list[Finding], case: Case) -> str:
    """Return the cure of `reason` with those of the other causes, as each of them may keep the policy bad.

    These are all severe ones, and of the others what goes back to the usual settings. Where two change the same
    setting, that of the worse finding counts.
    """
    changes = cures.parse_options(reason.cure)
    if changes is None or case.config is None:
        return reason.cure
    for other in findings:
        more = (cures.parse_options(other.cure) if other.cause and other.severity != "note" else None) or {}
        if other.severity == "severe" or not cures.differing(case.usual or case.config, more):
            changes |= {path: value for path, value in more.items() if path not in changes}
    return cures.format_options(changes) if cures.applies(case.config, changes) else reason.cure


def with_sound_cure(finding: Finding, case: Case) -> Finding:
    """Return a finding whose cure changes something, and can be done to the model at hand.

    What the configuration has already is left out. A training that is not known has no options, so for a model from
    elsewhere they are said in words.
    """
    changes = cures.parse_options(finding.cure)
    if changes is None:
        return finding
    if case.config is None:
        return finding if case.history is not None else replace(finding, cure=cures.in_words(finding.cure))
    left = cures.differing(case.config, changes)
    if case.harmful and case.table is not None:
        left = cures.with_usual_length(case.config, left, case.usual, int(case.pairs.sum()))
    if not cures.applies(case.config, left):
        left = cures.to_usual(case.config, case.usual) or cures.more_updates(case.config, case.usual)
    return replace(finding, cure=cures.format_options(left))
