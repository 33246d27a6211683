"""Progress of a training: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deeptaxi import records
from deeptaxi.presentation.console import number

PLAIN_SHARE = 10  # where there is no terminal to redraw: a line every tenth of the updates,
PLAIN_SECONDS = 2.0  # but not more often than this


class TrainingProgress:
    """Shows the records of a training as they come.

    Args:
        console: where to show them.
        updates: the total number of updates.
    """

    def __init__(self, console: Console, updates: int) -> None:
        self._console = console
        self._updates = updates
        self._last_line = (0, 0.0)  # its update and second
        self._verdict = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[verdict]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("updates", total=updates, speed="", verdict="")

    def __enter__(self) -> TrainingProgress:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, record: records.Record) -> None:
        """Show one record."""
        if isinstance(record, records.Judgement):
            played = f"{record.optimal_start_states}/{record.start_states} starts optimal"
            self._verdict = f"exact gap {number(record.gap)}, {played}"
            self._bar.update(self._task, verdict=self._verdict)
        elif isinstance(record, records.Progress):
            rates = (record.update / record.seconds, record.environment_steps / record.seconds)
            speed = f"{rates[0]:,.0f} updates/s, {rates[1]:,.0f} steps/s"
            self._bar.update(self._task, completed=record.update, speed=speed)
            update, second = self._last_line
            due = record.update - update >= self._updates / PLAIN_SHARE and record.seconds - second >= PLAIN_SECONDS
            if due and not self._console.is_terminal:
                self._last_line = (record.update, record.seconds)
                line = (f"{record.update:,} of {self._updates:,} updates", speed, self._verdict)
                self._console.print(", ".join(part for part in line if part), soft_wrap=True)
