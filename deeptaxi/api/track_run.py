"""Track a run: describe it to the trackers at its start, and give them verdict and files at its end."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from deeptaxi.api.run_data import RunData
from deeptaxi.api.save_run import describe, write_model
from deeptaxi.api.status import status
from deeptaxi.config import TrainConfig
from deeptaxi.metrics import Record, Tracked, Warned
from deeptaxi.storage.model_card import describe_verdict, write_card
from deeptaxi.storage.run_folder import (
    CARD_FILE,
    CARD_JSON,
    CONFIG_FILE,
    MODEL_FILE,
    OBSERVATIONS_FILE,
    TABLE_FILE,
)
from deeptaxi.storage.scalars import hyperparameters
from deeptaxi.tracking.callback import TrackingCallback, open_tracker
from deeptaxi.tracking.tracker import TRACKERS, RunDescription

Kind = TypeVar("Kind", bound=RunData)
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a run of a tracker: a log may come from anywhere
FILES = (MODEL_FILE, CONFIG_FILE, CARD_FILE, CARD_JSON, TABLE_FILE, OBSERVATIONS_FILE)


@contextmanager
def open_trackers(
    names: Sequence[str], name: str, config: TrainConfig, before: Iterable[Record]
) -> Iterator[list[TrackingCallback]]:
    """Start a run of each tracker for the duration of the block; if it raises, they end as failed.

    Args:
        names: of the trackers.
        name: of the run.
        config: the complete configuration.
        before: the records of the training that is resumed; runs of trackers among them are continued.

    Raises:
        DeepTaxiError: a tracker cannot be started.
    """
    if not names:
        yield []
        return
    settings = {name: value for name, value in hyperparameters(config).items() if value is not None}
    tags = {"deeptaxi.version": metadata.version("deeptaxi"), "deeptaxi.environment": config.environment.id}
    tracked = (record for record in before if isinstance(record, Tracked))
    previous = {record.tracker: record.run for record in tracked if IDENTIFIER.fullmatch(record.run)}
    found: list[TrackingCallback] = []
    try:
        for tracker in names:
            with status(f"starting {TRACKERS[tracker]} …"):
                found.append(
                    TrackingCallback(
                        tracker, open_tracker(tracker, RunDescription(name, settings, tags, previous.get(tracker)))
                    )
                )
        yield found
    except BaseException as error:
        for tracking in found:
            tracking.finish({"deeptaxi.failure": f"{type(error).__name__}: {error}".strip(": ")}, (), failed=True)
        raise


def finish_tracking(run: Kind, trackers: Sequence[TrackingCallback], warn: Callable[[Warned], object]) -> Kind:
    """Give the trackers the verdict and the files of a run; warn if one cannot take them, and keep that in the run."""
    if not trackers:
        return run
    with files_of_run(run) as files, status("tracking the run …"):
        for tracking in trackers:
            tracking.finish(tags_of(run), files, failed=run.failure is not None)
            for warning in tracking.warnings:
                warn(warning)
    lost = [tracking.lost for tracking in trackers if tracking.lost]
    return replace(run, tracking_unavailable="; ".join(lost) or None)


def tags_of(run: RunData) -> dict[str, str]:
    """Return the facts of a finished run by the names of their tags."""
    found = {
        "verdict": describe_verdict(run.exact, run.exact_unavailable),
        "weights_digest": run.finished.weights_digest if run.finished else None,
        "stopped": run.finished.stopped if run.finished else None,
        "preset": run.facts.get("preset"),
        "failure": run.failure,
        **{f"finding.{warning.finding}": warning.text for warning in (run.history.warnings if run.history else ())},
        **{f"episodes.{name}": str(value) for name, value in (run.episodes or {}).items() if value is not None},
    }
    return {f"deeptaxi.{name}": value for name, value in found.items() if value is not None}


@contextmanager
def files_of_run(run: RunData) -> Iterator[list[Path]]:
    """Yield the files of a run folder; those of a run in memory are written for the duration of the block."""
    with contextlib.ExitStack() as stack:
        folder = run.folder or write_files(run, Path(stack.enter_context(TemporaryDirectory(prefix="deeptaxi-"))))
        yield [folder / name for name in FILES if (folder / name).is_file()]


def write_files(run: RunData, folder: Path) -> Path:
    """Write the files of a run that is not saved into a folder; return the folder."""
    if run.config is None or run.finished is None or run.history is None:
        return folder
    card, files = describe(run, Path(run.name))
    for name, content in files.items():
        (folder / name).write_bytes(content)
    write_card(folder, card)
    write_model(run, folder)
    return folder
