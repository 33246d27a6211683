"""A search on the terminal: how far it is, the best trials, and the file of the best settings at the end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Group, RenderableType
from rich.text import Text

from deeptaxi.display.console import columns, number
from deeptaxi.display.sweep_table import SweepProgress, duration, shown

MOST_ROWS = 10


class Found(Protocol):
    """How far a search is."""

    @property
    def wanted(self) -> int:
        """The number of trials that it is to have."""

    @property
    def trials(self) -> tuple[Mapping[str, Any], ...]:
        """Those that have ended."""

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best of them."""

    @property
    def seconds(self) -> float:
        """Seconds since this process began."""


class TuneProgress(SweepProgress):
    """Shows how far a search is; see `SweepProgress`."""

    fresh = 0  # trials of this process

    def __call__(self, trial: Mapping[str, Any], found: Found) -> None:  # type: ignore[override]  # of another kind
        """Show a trial that has ended; say why one failed."""
        self.fresh += 1
        if trial["state"] == "failed":
            self._console.print(Text(f"trial {trial['trial']} failed: {trial['reason']}", "yellow"), soft_wrap=True)
        ended = len(found.trials)
        parts = [f"{ended:,} of {found.wanted:,} trials"]
        if found.best is not None:
            parts.append(f"best: {describe(found.best)}")
        if ended < found.wanted:
            parts.append(f"{duration(found.seconds / self.fresh * (found.wanted - ended))} left")
        self.draw(" · ".join(parts), ended >= found.wanted)


def describe(trial: Mapping[str, Any]) -> str:
    """Return how good a trial is."""
    return f"{trial['solved']} of {trial['seeds']} seeds solved, {trial['updates']:,.0f} updates"


def tune_table(document: Mapping[str, Any]) -> RenderableType:
    """Return the table of the best trials."""
    complete = [trial for trial in document["all"] if trial["state"] == "complete"]
    ranked = sorted(complete, key=lambda trial: -trial["score"])[:MOST_ROWS]
    names = list(document["space"])
    rows: list[tuple[Any, ...]] = [
        (
            str(trial["trial"]),
            f"{trial['solved']} of {trial['seeds']}",
            number(trial["updates"]),
            number(trial["cpu_seconds"], 1),
            *(shown(rounded(trial["settings"].get(name))) for name in names),
        )
        for trial in ranked
    ]
    counts = ", ".join(f"{document[state]:,} {state}" for state in ("complete", "pruned", "failed") if document[state])
    lines = [Text(f"{document['trials']:,} trials: {counts or 'none ended'}, in {duration(document['seconds'])}.")]
    first, best = document["first"], document["best"]
    if first is not None and (first["solved"], -first["updates"]) < (best["solved"], -best["updates"]):
        lines.append(Text(f"The settings to begin with: {describe(first)}. The best: {describe(best)}."))
    elif first is not None:
        lines.append(
            Text("No trial solved more seeds, or took fewer updates, than the settings to begin with, trial 0.")
        )
    if document["config"]:
        command = f"deeptaxi train --config {shlex.quote(document['config'])}"
        lines.append(Text(f"Saved in {document['folder']}; train with the best: {command}"))
    header = ("Trial", "Solved", "Updates", "CPU s", *names)
    return Group(*([columns("Best trials", header, rows)] if rows else []), *lines)


def rounded(value: Any) -> Any:
    """Return a number with three digits."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
