"""A training on the terminal: a live display or one line per second while it runs, text charts afterwards.

The display is redrawn when a record arrives, but no more often than the eye needs: a drawing thread would take time
from the training, which shares its processor.

A chart of several lines is made of Braille characters, grids of 2 × 4 dots; a character's code is U+2800 plus one bit
per dot. The bits follow the order of dots in the Braille alphabet, which had 2 × 3 of them before a row was added
below: Unicode Standard, chapter 21.1.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from deeptaxi import metrics
from deeptaxi.display.console import number, plain
from deeptaxi.metrics import History

BLOCKS = "▁▂▃▄▅▆▇█"
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] of a character
NOISE = 1e-6  # relative: values that differ by no more are drawn as equal
Values = Sequence[float | None]


def buckets(positions: Sequence[float], values: Values, count: int, last: float) -> list[float | None]:
    """Average the values whose positions, from 0 to `last`, fall into each of `count` equal bins.

    Empty bins between two others are interpolated linearly; those before the first or after the last are None.
    """
    found: list[list[float]] = [[] for _ in range(count)]
    for position, value in zip(positions, values, strict=True):
        if value is not None and math.isfinite(value):
            found[min(int(position / last * count) if last else 0, count - 1)].append(value)
    means = {index: sum(part) / len(part) for index, part in enumerate(found) if part}
    return bridge_gaps(means, count)


def bridge_gaps(known: dict[int, float], count: int) -> list[float | None]:
    """Return `count` values: the known ones, with linear interpolation between them."""
    line: list[float | None] = [None] * count
    before: int | None = None
    for index, value in sorted(known.items()):
        start = index if before is None else before
        for between in range(start, index + 1):
            share = (between - start) / (index - start) if index > start else 0.0
            line[between] = known[start] * (1 - share) + value * share
        before = index
    return line


def sparkline(values: Values, width: int, high: float | None = None) -> str:
    """Draw a curve one line high, at most `width` characters wide; `high`, if given, is the value of a full block."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or width < 1:
        return ""
    parts = buckets(range(len(known)), known, min(width, len(known)), len(known))
    drawn = [value for value in parts if value is not None]
    low, top = min(drawn), max([*drawn, *([] if high is None else [high])])
    span = 0.0 if is_noise(low, top) else top - low
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1)) if span else 0] for value in drawn)


def is_noise(low: float, high: float) -> bool:
    """Whether `low` and `high` are equal up to rounding; a chart must not stretch that."""
    return high - low <= NOISE * max(abs(low), abs(high))


def braille(line: Values, height: int, low: float, high: float, reference: float | None = None) -> list[str]:
    """Draw a curve as `height` lines of Braille characters.

    Args:
        line: a value per column of dots, two per character; None leaves a gap.
        height: in characters, of four dots each.
        low: the value of the lowest row of dots.
        high: the value of the highest.
        reference: a value to draw as a dotted line.
    """
    rows, width = 4 * height, -(-len(line) // 2)
    letters = [[0] * width for _ in range(height)]

    def row_of(value: float) -> int:
        share = 0.5 if is_noise(low, high) else (high - value) / (high - low)
        return round(min(max(share, 0.0), 1.0) * (rows - 1))

    def put(row: int, column: int) -> None:
        letters[row // 4][column // 2] |= DOTS[row % 4][column % 2]

    if reference is not None:
        for column in range(0, len(line), 4):
            put(row_of(reference), column)
    before: int | None = None
    for column, value in enumerate(line):
        now = None if value is None else row_of(value)
        if now is not None:
            put(now, column)
            for row in range(min(now, before) + 1, max(now, before)) if before is not None else ():
                put(row, column)
        before = now
    return ["".join(chr(BRAILLE + bits) for bits in letter_row) for letter_row in letters]


DRAW_SECONDS = 0.5
LINE_SECONDS = 1.0
SPEED_SECONDS = 4.0  # window over which the speed is measured
BAR, CURVE = 60, 24  # widths
NARROW = 80  # narrower terminals show no curves


class Speed:
    """The recent speed of a training: updates per second, by the viewer's clock."""

    def __init__(self, second: float = 0.0, update: int = 0) -> None:
        self.began = update
        self._marks = deque([(second, update)])
        self.updates = 0.0

    def add(self, second: float, update: int) -> None:
        """Add a measurement; records that arrive together, as from one compiled chunk, count as one."""
        marks = self._marks
        if len(marks) > 1 and second - marks[-1][0] < DRAW_SECONDS / 2:
            marks.pop()
        marks.append((second, update))
        while len(marks) > 2 and marks[1][0] <= second - SPEED_SECONDS:
            marks.popleft()
        self.updates = (update - marks[0][1]) / max(second - marks[0][0], 1e-9)


class Standing:
    """The state of a training so far: the latest record of each kind, and the curves."""

    def __init__(self) -> None:
        self.started: metrics.Started | None = None
        self.progress: metrics.Progress | None = None
        self.evaluation: metrics.Evaluated | None = None
        self.snapshot: metrics.Snapshot | None = None
        self.warned: metrics.Warned | None = None
        self.evaluating: str | None = None  # how far a long evaluation is
        self.update = 0
        self.speed = Speed()
        self.steps_per_update = 0.0
        self.td_errors: list[float | None] = []
        self.returns: list[float | None] = []
        self.values: list[float | None] = []

    def take(self, record: metrics.Record, second: float) -> None:
        """Process a record that arrived `second` seconds after the first."""
        self.evaluating = None
        if isinstance(record, metrics.Progress | metrics.Evaluated | metrics.Snapshot):
            self.update = record.update
            self.speed.add(second, record.update)
        match record:
            case metrics.Started():
                self.started = record
            case metrics.Resumed():
                self.update, self.speed = record.update, Speed(second, record.update)
            case metrics.Progress():
                before = (self.progress.update, self.progress.environment_steps) if self.progress else (0, 0)
                if self.progress or self.speed.began == 0:
                    self.steps_per_update = (record.environment_steps - before[1]) / (record.update - before[0])
                self.progress = record
                self.td_errors.append(record.td_error)
                self.returns += [] if record.mean_return is None else [record.mean_return]
            case metrics.Evaluated():
                self.evaluation = record
                self.values += [] if record.value is None else [record.value]
            case metrics.Snapshot():
                self.snapshot = record
            case metrics.Warned():
                self.warned = record

    @property
    def seconds_left(self) -> float | None:
        """The time left at the recent speed; None if unknown."""
        if not (self.started and self.speed.updates):
            return None
        return (self.started.updates - self.update) / self.speed.updates


class TrainingProgress:
    """Shows the records of a training as they arrive.

    Args:
        console: the console to use; a quiet one shows nothing.
        clock: returns seconds, for the speed and the redraw rate.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._standing = Standing()
        self._begun = clock()
        self._shown = 0.0  # seconds after the first record
        self._live = Live(console=console, auto_refresh=False, transient=True, get_renderable=self._picture)

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, record: metrics.Record) -> None:
        """Show one record."""
        if isinstance(record, metrics.Started):
            self._begun = self._clock()
        second = self._clock() - self._begun
        self._standing.take(record, second)
        if isinstance(record, metrics.Resumed):
            self._console.print(f"Resumed after update {record.update:,}.", soft_wrap=True)
        if isinstance(record, metrics.Tracked):
            verb = "continued in" if record.resumed else "in"
            text = f"Tracked by {record.tracker} {verb} run {record.run}: {record.place}."
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)
        if isinstance(record, metrics.Warned):
            self._console.print(Text(f"Warning: {record.text}", style="yellow"), soft_wrap=True)
        if self._console.quiet:
            return
        if self._console.is_terminal and isinstance(record, metrics.Started):
            self._live.start()
        else:
            self._draw(second)

    def show_sweeps(self, sweeps: int, left: float, exact: bool) -> None:
        """Show how far the planning of an evaluation is: see `mdp.sweeps.reported_to`."""
        self._standing.evaluating = f"sweep {sweeps:,}, {'within' if exact else 'still changing by'} {left:.1g}"
        if not self._console.quiet:
            self._draw(self._clock() - self._begun)

    def _draw(self, second: float) -> None:
        """Draw the display, or print a line, if it is time to."""
        if second - self._shown >= (DRAW_SECONDS if self._console.is_terminal else LINE_SECONDS):
            self._shown = second
            if self._console.is_terminal:
                self._live.refresh()
            else:
                self._console.print(line(self._standing), soft_wrap=True)

    def _picture(self) -> Text:
        return picture(self._standing, self._console.width)


def line(standing: Standing) -> str:
    """Format the progress of a training in one line."""
    return ", ".join([how_far(standing), *(f"{name} {text}".strip() for name, text, _ in parts(standing))])


def how_far(standing: Standing) -> str:
    """Format the number of updates done, of how many, and the time left."""
    started, left = standing.started, standing.seconds_left
    text = f"{standing.update:,}"
    text += f" of {started.updates:,} updates" if started else " updates"
    return text if left is None else f"{text}, {duration(left)} left"


def picture(standing: Standing, width: int) -> Text:
    """Draw the progress of a training: a bar, and a line for each quantity, with curves if there is room.

    The columns are laid out here: a rich table takes ten times as long, several times a second.
    """
    rows = parts(standing)
    first = max((len(name) for name, _, _ in rows), default=0)
    second = max((len(text) for _, text, _ in rows), default=0)
    lines = [Text(how_far(standing)), bar(standing, min(width, BAR))]
    for name, text, curve in rows:
        line = Text.assemble((f"{name:<{first}}  ", "dim"), text)
        if curve and width >= NARROW:
            line.append(" " * (second - len(text) + 2)).append(curve, style="cyan")
        lines.append(line)
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True).join(lines)


def bar(standing: Standing, width: int) -> Text:
    """Draw the progress bar."""
    done = round(width * standing.update / standing.started.updates) if standing.started else 0
    return Text("━" * done, style="green") + Text("─" * (width - done), style="dim")


def parts(standing: Standing) -> list[tuple[str, str, str]]:
    """Return the lines of the display: name, value and curve."""
    progress, snapshot, found = standing.progress, standing.snapshot, []
    if standing.update:
        speed, steps = standing.speed.updates, standing.steps_per_update
        found.append(("speed", f"{speed:,.0f} updates/s" + (f", {speed * steps:,.0f} steps/s" if steps else ""), ""))
    if progress:
        found.append(("ε", f"{number(progress.epsilon)}, learning rate {significant(progress.learning_rate)}", ""))
        found.append(("TD error", significant(progress.td_error), sparkline(standing.td_errors, CURVE)))
    found += outcome(standing)
    if snapshot:
        states = f"{share(snapshot.states_covered, snapshot.states_reachable)} states"
        pairs = f"{share(snapshot.pairs_covered, snapshot.pairs_reachable)} pairs"
        found.append(("tried", f"{states}, {pairs}", ""))
    if standing.evaluating:
        found.append(("evaluating", standing.evaluating, ""))
    if standing.warned:
        found.append(("finding", f"{standing.warned.finding}, update {standing.warned.update:,}", ""))
    return found


def outcome(standing: Standing) -> list[tuple[str, str, str]]:
    """Return the policy's quality: the exact value against the optimum, and the returns during exploration."""
    last, found = standing.evaluation, []
    if standing.returns:
        curve = sparkline(standing.returns, CURVE)
        found.append(("return", f"{number(standing.returns[-1], 2)} while exploring", curve))
    if last:
        optimum = None if last.value is None or last.value_gap is None else last.value + last.value_gap
        starts = f"{last.optimal_start_states:,} of {last.start_states:,} starts optimal"
        text = f"{number(last.value, 3)} of {number(optimum, 3)}, {starts}"
        found.append(("value", text, sparkline(standing.values, CURVE, optimum)))
    return found


def share(part: int, whole: int | None) -> str:
    """Format a count, and the total if it is known."""
    return f"{part:,}" if whole is None else f"{part:,} of {whole:,}"


def significant(value: Any) -> str:
    """Format a number with three significant digits, or all those before the point; None as a dash."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Format a time for people: ``8 s``, ``2:05 min``, ``1:02:05 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02} h"


HEIGHT, LOW_HEIGHT, WIDEST = 5, 3, 100
SMALL = 1e-3  # below this, four decimals show too little
NARROWEST = 40  # characters; on narrower screens the curves become a table


@dataclass(frozen=True)
class Curve:
    """A quantity over the updates.

    Attributes:
        name: its name.
        updates: the updates at which it is known, `[n]`.
        values: `[n]`.
        reference: a value to compare it with, such as the optimum.
        reference_name: the name of that value.
        floor: the upper limit for the start of the value axis.
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
    """Return the curves for which the log has numbers."""
    progress, evaluations, snapshots = history.progress, history.evaluations, history.snapshots
    last = evaluations[-1] if evaluations else None
    optimum = None
    if last is not None and last.value is not None and last.value_gap is not None:
        optimum = last.value + last.value_gap
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
    """Return the curve of a field, without the records in which it is unknown."""
    known = [record for record in records if getattr(record, field) is not None]
    return Curve(name, [record.update for record in known], [float(getattr(record, field)) for record in known], **how)


def chart(curve: Curve, width: int, last: int) -> Text:
    """Draw a curve over the updates 0 … `last`, at most `width` characters wide."""
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
    """Format a number for people; small ones, such as a final learning rate, are not rounded to 0."""
    return plain(value) if 0 < abs(value) < SMALL else number(value)


def summary(curve: Curve) -> str:
    """Summarize a curve in words, for a screen too narrow for a chart."""
    numbers = (significant(value) for value in (min(curve.values), max(curve.values), curve.values[-1]))
    return f"{curve.name}: from {{}} to {{}}, finally {{}}".format(*numbers)


def log_view(history: History, console: Console, running: str | None = None) -> RenderableType:
    """Format a whole log to the width of the console; `running` is the process still writing it."""
    curves, width = curves_of(history), min(console.width, WIDEST)
    last = max((update for found in curves for update in found.updates), default=0)
    parts: list[RenderableType] = [Text(headline(history), style="bold"), Text()]
    if width < NARROWEST or console.options.ascii_only:
        parts += [Text(summary(found)) for found in curves] + [Text()]
    else:
        parts += [part for found in curves for part in (chart(found, width, last), Text())]
    parts += [
        Text(f"Warning at update {warned.update:,}: {warned.text}", style="yellow") for warned in history.warnings
    ]
    return Group(*parts, Text(ending(history, running)))


def headline(history: History) -> str:
    """Describe what was trained."""
    started = history.started
    if started is None:
        return str(history.path or "a training")
    return f"{started.environment}, {started.network}, {started.loop} loop, seed {started.seed}"


def without_end(history: History, running: str | None) -> str:
    """Describe how far an unfinished training came: it is still running, has failed, or was killed."""
    last = history.progress[-1].update if history.progress else 0
    planned = f" of {history.started.updates:,}" if history.started else ""
    if running is not None:
        return f"Still running, after update {last:,}{planned}, by {running}."
    if history.failed is not None:
        return f"Failed after update {last:,}{planned}: {history.failed.failure}."
    if history.path and ".failed" in history.path.suffixes:
        return f"Failed after update {last:,}{planned}."
    why = "the training was interrupted, or its log could not be written"
    return f"Incomplete: the log stops after update {last:,}{planned}; {why}."


def ending(history: History, running: str | None = None) -> str:
    """Describe how the training ended, and how good the saved weights are."""
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
    "stop-after": "--stop-after ended it there",
}


TOLD = ("value", "optimal_value", "optimal_start_states", "start_states")


def kept(exact: Mapping[str, Any]) -> str:
    """Format the verdict as a sentence."""
    value = f"value {number(exact['value'])} of {number(exact['optimal_value'])}"
    return f"{exact['optimal_start_states']:,} of {exact['start_states']:,} starts are played optimally, {value}."


def length(seconds: float) -> str:
    """Format the duration of a training; a short one with tenths."""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
