"""Make all checks of a case, and put what they say in order.

Symptoms, such as an agent that takes just one action, are told with the cause and the cure of the worst finding that
can explain them. Where the policy does no harm, nothing is severe.
"""

from __future__ import annotations

from dataclasses import replace

from deeptaxi.evaluation.diagnosis.case import Case
from deeptaxi.evaluation.diagnosis.check import Check, Unchecked
from deeptaxi.evaluation.diagnosis.findings import SEVERITIES, Diagnosis, Finding, NotChecked

CHECKS: tuple[Check, ...] = ()


def diagnose(case: Case) -> Diagnosis:
    """Return what is wrong with a model, the worst first, and what could not be checked."""
    findings: list[Finding] = []
    not_checked: list[NotChecked] = []
    for check in CHECKS:
        result = check(case)
        if isinstance(result, Unchecked):
            not_checked.append(NotChecked(check.name, result.why))
        elif result is not None:
            harmless = case.harmful is False and result.severity == "severe"
            findings.append(replace(result, severity="warning") if harmless else result)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Diagnosis(tuple(findings), tuple(not_checked))
