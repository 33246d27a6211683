"""Read the log of a training run: its records and visit counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.io.locks import in_use
from deeptaxi.learning.coverage import Coverage
from deeptaxi.metrics import History, read_history
from deeptaxi.storage.logs import FAILED_FILE, LOG_FILE, find_log, read_visits
from deeptaxi.storage.models import describe_unfinished
from deeptaxi.storage.run_folder import MODEL_FILE


class TrainingLog(NamedTuple):
    """The log of a run, as far as it exists; `missing` gives the reason for each missing field of a `Case`."""

    history: History | None
    coverage: Coverage | None
    missing: Mapping[str, str] = {}


BARE = TrainingLog(
    None,
    None,
    {
        "history": "a bare model file has no log",
        "visits": "a bare model file has no record of what its training tried",
        "replay": "a bare model file has no record of what its training tried",
    },
)


def read_training_log(run: Path) -> TrainingLog:
    """Read the log of a run folder."""
    history = None
    try:
        folder = find_log(run)
        history = read_history(folder / LOG_FILE)
        began = history.started
        return TrainingLog(history, read_visits(folder, began.states * began.actions if began else None))
    except DeepTaxiError as error:
        names = [name for name in BARE.missing if name != "history" or history is None]
        return TrainingLog(history, None, dict.fromkeys(names, str(error)))


def find_log_file(model: Path) -> Path | None:
    """Return the log file that `model` is, or that a folder without a model holds; None otherwise."""
    if model.suffix == ".jsonl":
        return model
    if (model / MODEL_FILE).exists():
        return None
    return next((model / name for name in (LOG_FILE, FAILED_FILE) if (model / name).is_file()), None)


def history_of(run: Path) -> History:
    """Return the records of a run folder, a log folder or a log file, finished or not.

    Raises:
        UsageError: the run does not exist, or has no log.
        DeepTaxiError: the log is empty.
    """
    if run.is_file():
        return read_history(run)
    lone = find_log_file(run)
    if lone is not None:
        return read_history(lone)
    known = describe_unfinished(run)
    if known is None:
        return read_history(find_log(run) / LOG_FILE)
    if known.log is None:
        raise UsageError(str(known) if known.holder else f"{known}; it left no log")
    return read_history(known.log)


def training_now(log: Path | None) -> str | None:
    """Return the process that is still writing to a log; None if there is none, or it is unknown."""
    return None if log is None or log.name != LOG_FILE else in_use(log.parent)
