"""What a diagnosis says: findings by name, and what could not be checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["severe", "warning", "note"]
Source = Literal["exact", "log", "episodes", "network"]
SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "note")  # the worst first


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, by name.

    Attributes:
        name: such as ``"one-action-collapse"``; `docs/diagnosis.md` has them all.
        severity: ``"severe"``, ``"warning"`` or ``"note"``.
        summary: one sentence with the numbers that matter.
        evidence: numbers and short texts under names.
        source: what the evidence was computed from: the transition table, the log, sampled episodes, the network.
        cause: the likely cause, one sentence.
        cure: the option to type, or what to change.
    """

    name: str
    severity: Severity
    summary: str
    evidence: Mapping[str, Any]
    source: Source
    cause: str
    cure: str

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON says."""
        return {
            "name": self.name,
            "severity": self.severity,
            "summary": self.summary,
            "evidence": dict(self.evidence),
            "source": self.source,
            "cause": self.cause,
            "cure": self.cure,
        }


@dataclass(frozen=True)
class NotChecked:
    """A check that could not be made, and why."""

    name: str
    why: str

    def to_dict(self) -> dict[str, str]:
        """Return what the JSON says."""
        return {"name": self.name, "why": self.why}


@dataclass(frozen=True)
class Diagnosis:
    """All findings, the worst first, and what could not be checked."""

    findings: tuple[Finding, ...] = ()
    not_checked: tuple[NotChecked, ...] = field(default=())

    @property
    def severe(self) -> bool:
        """Whether something severe was found."""
        return any(finding.severity == "severe" for finding in self.findings)

    def named(self, name: str) -> Finding | None:
        """Return the finding of that name, if there is one."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the part of the JSON that is about findings."""
        return {
            "severe": self.severe,
            "findings": [finding.to_dict() for finding in self.findings],
            "not_checked": [item.to_dict() for item in self.not_checked],
        }
