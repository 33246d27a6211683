"""``deeptaxi logs``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options


@click.command("logs")
@click.argument("run", type=options.PATH)
@options.json_option
@options.shared_options
def command(run: Path, as_json: bool) -> None:
    """Show how the training of RUN went: curves, warnings, outcome.

    RUN is a run folder, a log folder or a log file, even of a training that is still running or has failed. The curves
    are as wide as the terminal; if it is too narrow, they are described in words. `tensorboard --logdir logs` shows the
    same, and several runs side by side.
    """
    from deeptaxi.api.run_data import history_of, training_now
    from deeptaxi.display import console, training

    history = history_of(run)
    if history.skipped:
        console.err().print(skipped_lines(history), style="yellow", soft_wrap=True)
    if as_json:
        options.print_json({**series(history), "running": training_now(history.path)})
        return
    screen = console.out()
    if not screen.is_terminal:
        screen.width = training.WIDEST
    screen.print(training.log_view(history, screen, training_now(history.path)))


def skipped_lines(history: Any) -> str:
    """Report which lines of the log were skipped."""
    numbers, more = history.skipped[:5], len(history.skipped) - 5
    which = ", ".join(map(str, numbers)) + (f" and {more} more" if more > 0 else "")
    return f"Skipped in {history.path}: line {which}, which {'is' if len(history.skipped) == 1 else 'are'} no record"


def series(history: Any) -> dict[str, Any]:
    """Return the log as in the JSON, each kind of record by columns."""
    kinds = {name: getattr(history, name) for name in ("progress", "evaluations", "snapshots", "warnings")}
    ends = {name: getattr(history, name) for name in ("started", "finished", "failed")}
    return {
        "log": str(history.path),
        "started": dataclasses.asdict(ends["started"]) if ends["started"] else None,
        **{name: by_columns(records) for name, records in kinds.items()},
        "finished": dataclasses.asdict(ends["finished"]) if ends["finished"] else None,
        "failed": dataclasses.asdict(ends["failed"]) if ends["failed"] else None,
        "skipped_lines": list(history.skipped),
    }


def by_columns(records: Any) -> dict[str, list[Any]]:
    """Return records of one kind as one list per field."""
    names = [item.name for item in dataclasses.fields(records[0])] if records else []
    return {name: [getattr(record, name) for record in records] for name in names}
