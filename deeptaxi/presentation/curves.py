"""The log of a training for people: its curves, its warnings and how it ended."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from deeptaxi.metrics import History
from deeptaxi.presentation.charts import braille, buckets
from deeptaxi.presentation.console import number
from deeptaxi.presentation.numbers import plain
from deeptaxi.presentation.progress import duration, significant

HEIGHT, LOW_HEIGHT, WIDEST = 5, 3, 100
SMALL = 1e-3  # below which four decimals tell too little
NARROWEST = 40  # letters; on less the curves are a table


@dataclass(frozen=True)
class Curve:
    """One number over the updates.

    Attributes:
        name: what it is.
        updates: where it is known, `[n]`.
        values: `[n]`.
        reference: what it is to be compared with, such as the optimum.
        reference_name: what that is.
        floor: a value that the chart begins at, or at less.
        height: of the chart, in lines.
    """

    name: str
    updates: Sequence[int]
    values: Sequence[float]
    reference: float | None = None
    reference_name: str = ""
    floor: float = math.inf
    height: int = LOW_HEIGHT


def curves_of(history: History) -> list[Curve]:
    """Return the curves that the log has numbers for."""
    progress, evaluations, snapshots = history.progress, history.evaluations, history.snapshots
    last = evaluations[-1] if evaluations else None
    known = last is not None and last.value is not None and last.value_gap is not None
    optimum = last.value + last.value_gap if known else None
    states = snapshots[-1].states_reachable if snapshots else None
    pairs = snapshots[-1].pairs_reachable if snapshots else None
    found = [
        curve("value", evaluations, "value", reference=optimum, reference_name="optimum", height=HEIGHT),
        curve("return while exploring", progress, "mean_return", height=HEIGHT),
        curve("TD error", progress, "td_error", floor=0, height=HEIGHT),
        curve("ε", progress, "epsilon", floor=0),
        curve("learning rate", progress, "learning_rate", floor=0),
        curve("mean Q", snapshots, "q_mean"),
        curve("states tried", snapshots, "states_covered", reference=states, reference_name="reachable", floor=0),
        curve("pairs tried", snapshots, "pairs_covered", reference=pairs, reference_name="reachable", floor=0),
    ]
    return [found_curve for found_curve in found if found_curve.values]


def curve(name: str, records: Iterable[Any], field: str, **how: Any) -> Curve:
    """Return the course of one field, without the records in which it is not known."""
    known = [record for record in records if getattr(record, field) is not None]
    return Curve(name, [record.update for record in known], [float(getattr(record, field)) for record in known], **how)


def chart(curve: Curve, width: int, last: int) -> Text:
    """Return a curve as a chart over the updates 0 … `last`, at most `width` letters wide."""
    low, high = min(*curve.values, curve.floor), max(curve.values)
    if curve.reference is not None:
        low, high = min(low, curve.reference), max(high, curve.reference)
    labels = [significant(high), *[""] * (curve.height - 2), significant(low)]
    margin = max(map(len, labels))
    columns_of_dots = 2 * (width - margin - 2)
    line = buckets(curve.updates, curve.values, columns_of_dots, last)
    drawn = braille(line, curve.height, low, high, curve.reference)
    title = Text.assemble((curve.name, "bold"), f"  {shown(curve.values[-1])}", no_wrap=True, overflow="ellipsis")
    if curve.reference is not None:
        title.append(f" of {number(curve.reference)} ({curve.reference_name}, dotted)", style="dim")
    for label, letters in zip(labels, drawn, strict=True):
        title.append(f"\n{label:>{margin}} ", style="dim").append("│" if not label else "┤", style="dim")
        title.append(letters, style="cyan")
    axis = f"{last:,} updates"
    title.append(f"\n{'0':>{margin + 2}}{axis:>{width - margin - 2}}", style="dim")
    return title


def shown(value: float) -> str:
    """Return a number for people; a small one, such as a learning rate at its end, is not rounded to 0."""
    return plain(value) if 0 < abs(value) < SMALL else number(value)


def summary(curve: Curve) -> str:
    """Return a curve in words, for a screen that is too narrow for it."""
    numbers = (significant(value) for value in (min(curve.values), max(curve.values), curve.values[-1]))
    return f"{curve.name}: from {{}} to {{}}, in the end {{}}".format(*numbers)


def log_view(history: History, console: Console, running: str | None = None) -> RenderableType:
    """Return all of a log, as wide as the console allows; `running` is who still writes to it."""
    curves, width = curves_of(history), min(console.width, WIDEST)
    last = max((update for found in curves for update in found.updates), default=0)
    parts: list[RenderableType] = [Text(headline(history), style="bold"), Text()]
    if width < NARROWEST or console.options.ascii_only:
        parts += [Text(summary(found)) for found in curves] + [Text()]
    else:
        parts += [part for found in curves for part in (chart(found, width, last), Text())]
    parts += [Text(f"Warning at update {told.update:,}: {told.text}", style="yellow") for told in history.warnings]
    return Group(*parts, Text(ending(history, running)))


def headline(history: History) -> str:
    """Return what was trained."""
    started = history.started
    if started is None:
        return str(history.path or "a training")
    return f"{started.environment}, {started.network}, {started.loop} loop, seed {started.seed}"


def without_end(history: History, running: str | None) -> str:
    """Return how far a training came that has not ended well: it still runs, has failed, or was killed."""
    last = history.progress[-1].update if history.progress else 0
    planned = f" of {history.started.updates:,}" if history.started else ""
    if running is not None:
        return f"No end yet: the training still runs, after update {last:,}{planned}, by {running}."
    if history.failed is not None:
        return f"No end: the training failed after update {last:,}{planned}: {history.failed.failure}."
    if history.path and ".failed" in history.path.suffixes:
        return f"No end: the training failed after update {last:,}{planned}."
    why = "the training was broken off, or its log could not be written"
    return f"No end: the log stops after update {last:,}{planned}; {why}."


def ending(history: History, running: str | None = None) -> str:
    """Return how the training ended, and how good the weights are that were kept."""
    finished = history.finished
    if finished is None or running is not None:
        return without_end(history, running)
    why = "it failed" if finished.failure else STOPPED.get(finished.stopped, finished.stopped)
    text = f"Ended after {finished.updates:,} updates and {length(finished.train_seconds)}: {why}."
    if finished.failure:
        text += f" {finished.failure}."
    if not finished.exact or not all(isinstance(finished.exact.get(name), int | float) for name in TOLD):
        return text
    return f"{text} {kept(finished.exact)} The weights kept are those of update {finished.best_update:,}."


STOPPED = {
    "optimal": "three evaluations in a row found it optimal",
    "updates": "all updates were made",
    "interrupted": "it was interrupted",
    "stop-after": "it was told to stop there",
}


TOLD = ("value", "optimal_value", "optimal_start_states", "start_states")


def kept(exact: Mapping[str, Any]) -> str:
    """Return the verdict in a sentence."""
    value = f"value {number(exact['value'])} of {number(exact['optimal_value'])}"
    return f"{exact['optimal_start_states']:,} of {exact['start_states']:,} starts are played optimally, {value}."


def length(seconds: float) -> str:
    """Return how long a training took; of a short one the tenths are of interest."""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
