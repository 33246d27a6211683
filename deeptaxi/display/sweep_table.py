"""A sweep on the terminal: how far it is, and the table of its points or seeds at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from deeptaxi.display.console import columns, number

LINE_SECONDS = 10.0  # between two lines where nothing can be redrawn
MOST_ROWS = 100  # of the table of seeds


class Counts(Protocol):
    """How far a sweep is."""

    jobs: int
    done: int
    optimal: int
    failed: int

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest will take."""


class SweepProgress:
    """Shows how far a sweep is: on one line that is redrawn, or on a new line now and then.

    Args:
        console: where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = Spinner("dots")
        self._live = Live(self._spinner, console=console, transient=True) if console.is_terminal else None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        """Begin."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the line."""
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def status(self, text: str) -> Iterator[SweepProgress]:
        """Show what is done until a job has ended; see `api.status`."""
        self.update(text)
        yield self

    def update(self, line: str) -> None:
        """Show a line in place of the last one, or below it where nothing can be redrawn."""
        if self._live is None:
            self._console.print(line, soft_wrap=True)
        else:
            self._spinner.update(text=Text(line))

    def __call__(self, result: Mapping[str, Any], counts: Counts) -> None:
        """Show a job that has ended; say at once why one failed."""
        if result["status"] != "done":
            self._console.print(Text(f"{result['job']} failed: {result['reason']}", "yellow"), soft_wrap=True)
        self.draw(progress_line(counts), counts.done + counts.failed == counts.jobs)

    def draw(self, line: str, last: bool) -> None:
        """Show a line; where nothing can be redrawn, if it is time for one, and the last in any case."""
        now = time.monotonic()
        if self._live is None and not last and now - self._drawn < LINE_SECONDS:
            return
        self._drawn = now
        self.update(line)

    def warn(self, text: str) -> None:
        """Show a line that the user should know."""
        self._console.print(Text(text, "yellow"), soft_wrap=True)


def progress_line(counts: Counts) -> str:
    """Return how far a sweep is, in one line."""
    parts = [f"{counts.done:,} of {counts.jobs:,} trained", f"{counts.optimal:,} optimal"]
    if counts.failed:
        parts.append(f"{counts.failed:,} failed")
    left = counts.seconds_left
    if left is not None and counts.done + counts.failed < counts.jobs:
        parts.append(f"{duration(left)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Format a duration."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def sweep_table(document: Mapping[str, Any]) -> RenderableType:
    """Return the final table: a row for each point, or for each seed if there is one point."""
    points = document["points"]
    if not points:  # it was interrupted before the first job had ended
        return Text(summary_line(document))
    body = points_table(points) if len(points) > 1 else seeds_table(document["runs"])
    return Group(body, Text(summary_line(document)))


def points_table(points: list[Mapping[str, Any]]) -> RenderableType:
    """Return a table with a row for each point."""
    names = list(dict.fromkeys(name for point in points for name in point["varied"]))
    rows: list[tuple[Any, ...]] = [
        (
            *(shown(point["varied"].get(name)) for name in names),
            f"{point['optimal']} of {point['seeds']}",
            number(point["score"]),
            number(point["updates"]),
            number(point["train_seconds"], 2),
            str(point["failed"] or ""),
        )
        for point in points
    ]
    header = (*names, "Optimal", "Score", "Updates", "Seconds", "Failed")
    return columns("Medians over seeds", header, rows)


def seeds_table(runs: list[Mapping[str, Any]]) -> RenderableType:
    """Return a table with a row for each seed."""
    rows: list[tuple[Any, ...]] = [seed_row(run) for run in runs[:MOST_ROWS]]
    table = columns(None, ("Seed", "Optimal", "Score", "Return", "Updates", "Seconds", "Digest"), rows)
    if len(runs) <= MOST_ROWS:
        return table
    return Group(table, Text(f"… and {len(runs) - MOST_ROWS:,} more (--json lists all)"))


def seed_row(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the row of one seed."""
    if run["status"] != "done":
        return str(run["seed"]), "failed", "–", "–", "–", "–", run["reason"]
    exact = run["exact"] or {}
    optimal = {True: "yes", False: "no", None: "unknown"}[exact.get("optimal")]
    found = exact.get("return") if exact else (run["episodes"] or {}).get("mean_return")
    return (
        str(run["seed"]),
        optimal,
        number(exact.get("normalized_score")),
        number(found),
        number(run["updates"]),
        number(run["train_seconds"], 2),
        run["weights_digest"][:12],
    )


def shown(value: Any) -> str:
    """Format the value of a setting."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return "" if value is None else str(value)


def summary_line(document: Mapping[str, Any]) -> str:
    """Return the last line: counts, time, and where the sweep is."""
    trained = f"{document['optimal']:,} of {document['done']:,} proven optimal"
    failed = f", {document['failed']:,} failed" if document["failed"] else ""
    left = document["jobs"] - document["done"] - document["failed"]
    missing = f", {left:,} left" if left else ""
    where = f"   Saved in {document['sweep']}" if document["sweep"] else ""
    return f"{trained}{failed}{missing}, in {duration(document['seconds'])}.{where}"
