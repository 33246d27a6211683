"""Findings for people: the same as the JSON, the worst first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

STYLES = {"severe": "bold red", "warning": "yellow", "note": "dim"}
SOURCES = {
    "exact": "from the transition table",
    "log": "from the log",
    "episodes": "from sampled episodes",
    "network": "from the network",
}


def findings_page(title: str, diagnosis: Mapping[str, Any], optimal: bool | None = None) -> Group:
    """Return all findings, then what could not be checked.

    Args:
        title: what was looked at.
        diagnosis: `Diagnosis.to_dict`.
        optimal: what the exact verdict says, None where there is none.
    """
    verdict = {True: ": its policy is optimal", False: ": its policy is not optimal", None: ""}[optimal]
    parts: list[Any] = [Text(f"{title}{verdict}", style="bold")]
    for finding in diagnosis["findings"]:
        parts += finding_lines(finding)
    if not diagnosis["findings"]:
        parts.append(Text("Nothing was found.", style="green"))
    if diagnosis["not_checked"]:
        parts += [Text(), Text("Not checked", style="dim")]
        parts += [
            Padding(Text(f"{item['name']}: {item['why']}", style="dim"), (0, 0, 0, 2), expand=False)
            for item in merged(diagnosis)
        ]
    return Group(*parts)


def merged(diagnosis: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what could not be checked, names that share a reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for item in diagnosis["not_checked"]:
        by_reason.setdefault(item["why"], []).append(item["name"])
    return [{"name": ", ".join(names), "why": why} for why, names in by_reason.items()]


def finding_lines(finding: Mapping[str, Any]) -> list[Any]:
    """Return one finding: its name, what was seen, the likely cause, and what to type."""
    head = Text.assemble((f"{finding['severity']:<8}", STYLES[finding["severity"]]), (finding["name"], "bold"))
    rows = {
        "seen": f"{finding['summary']} ({SOURCES[finding['source']]})",
        "cause": finding["cause"],
        "cure": finding["cure"],
    }
    lines = [Text.assemble((f"{key:<7}", "dim"), value) for key, value in rows.items()]
    return [Text(), head, *(Padding(line, (0, 0, 0, 8), expand=False) for line in lines)]
