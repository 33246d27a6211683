"""A training while it runs: a small picture on a terminal, a line a second elsewhere.

It is drawn when a record comes, and not more often than the eye needs: a thread that draws by itself would take its
time from the training, which shares the processor with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from deeptaxi import metrics
from deeptaxi.presentation.charts import sparkline
from deeptaxi.presentation.console import number

DRAW_SECONDS = 0.5
LINE_SECONDS = 1.0
SPEED_SECONDS = 4.0  # speed is that of so long ago until now
BAR, CURVE = 60, 24  # widths
NARROW = 80  # a terminal that is narrower than this shows no curves


class Speed:
    """How fast a training is of late: updates a second, by the clock of whoever watches."""

    def __init__(self, second: float = 0.0, update: int = 0) -> None:
        self.began = update
        self._marks = deque([(second, update)])
        self.updates = 0.0

    def add(self, second: float, update: int) -> None:
        """Take how far it is; records that come at once, as those of a compiled piece, are one mark."""
        marks = self._marks
        if len(marks) > 1 and second - marks[-1][0] < DRAW_SECONDS / 2:
            marks.pop()
        marks.append((second, update))
        while len(marks) > 2 and marks[1][0] <= second - SPEED_SECONDS:
            marks.popleft()
        self.updates = (update - marks[0][1]) / max(second - marks[0][0], 1e-9)


class Standing:
    """What is known of a training so far: the latest record of each kind, and the curves."""

    def __init__(self) -> None:
        self.started: metrics.Started | None = None
        self.progress: metrics.Progress | None = None
        self.evaluation: metrics.Evaluated | None = None
        self.snapshot: metrics.Snapshot | None = None
        self.warned: metrics.Warned | None = None
        self.update = 0
        self.speed = Speed()
        self.steps_per_update = 0.0
        self.td_errors: list[float | None] = []
        self.returns: list[float | None] = []
        self.values: list[float | None] = []

    def take(self, record: metrics.Record, second: float) -> None:
        """Take one record, which came so many seconds after the first."""
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
        """How long the updates that are left take at the speed of late; None where that is not known."""
        if not (self.started and self.speed.updates):
            return None
        return (self.started.updates - self.update) / self.speed.updates


class TrainingProgress:
    """Shows the records of a training as they come.

    Args:
        console: where to show them; a quiet one shows nothing.
        clock: seconds, for the speed and for how often to draw.
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
        if isinstance(record, metrics.Warned):
            self._console.print(Text(f"Warning: {record.text}", style="yellow"), soft_wrap=True)
        if self._console.quiet:
            return
        if self._console.is_terminal and isinstance(record, metrics.Started):
            self._live.start()
        elif second - self._shown >= (DRAW_SECONDS if self._console.is_terminal else LINE_SECONDS):
            self._shown = second
            if self._console.is_terminal:
                self._live.refresh()
            else:
                self._console.print(line(self._standing), soft_wrap=True)

    def _picture(self) -> Text:
        return picture(self._standing, self._console.width)


def line(standing: Standing) -> str:
    """Return where a training stands, in one line."""
    return ", ".join([how_far(standing), *(f"{name} {text}".strip() for name, text, _ in parts(standing))])


def how_far(standing: Standing) -> str:
    """Return the updates that are made, of how many, and the time that is left."""
    started, left = standing.started, standing.seconds_left
    text = f"{standing.update:,}"
    text += f" of {started.updates:,} updates" if started else " updates"
    return text if left is None else f"{text}, {duration(left)} left"


def picture(standing: Standing, width: int) -> Text:
    """Return where a training stands: a bar, and a line for each of its parts; curves where there is room.

    The columns are set here: a table of rich takes ten times as long, several times a second.
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
    """Return how far the training has come, as a line that fills up."""
    done = round(width * standing.update / standing.started.updates) if standing.started else 0
    return Text("━" * done, style="green") + Text("─" * (width - done), style="dim")


def parts(standing: Standing) -> list[tuple[str, str, str]]:
    """Return the parts of the picture: what it is, how much, and a curve."""
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
    if standing.warned:
        found.append(("finding", f"{standing.warned.finding}, update {standing.warned.update:,}", ""))
    return found


def outcome(standing: Standing) -> list[tuple[str, str, str]]:
    """Return how good the policy is: the exact value beside the optimum, and the returns while exploring."""
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
    """Return a number of things, and of how many where that is known."""
    return f"{part:,}" if whole is None else f"{part:,} of {whole:,}"


def significant(value: Any) -> str:
    """Return three digits of a number, or all those before the point; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time for people: ``8 s``, ``2:05 min``, ``1:02:05 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02} h"
