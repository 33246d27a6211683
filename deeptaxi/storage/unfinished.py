"""Run folders without a model: the training still runs, has failed, or was broken off."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from deeptaxi.errors import DeepTaxiError, printable
from deeptaxi.io.locks import in_use, log_in_use
from deeptaxi.metrics import History, read_history
from deeptaxi.storage import checkpoints
from deeptaxi.storage.checkpoints import Checkpoint
from deeptaxi.storage.logs import FAILED_FILE, LOG_FILE, LOGS, place_of
from deeptaxi.storage.run_folder import MODEL_FILE


@dataclass(frozen=True)
class Unfinished:
    """Why a run folder holds no model, and what to do; as a text, in one line.

    Attributes:
        folder: the run folder, which a training that failed early has removed.
        holder: who trains it now; None where nobody does.
        log: the file of its log; None where it has none.
        failure: the error that ended it; None where none is known.
        resumable: whether it has a checkpoint to go on from.
        trusted: what `--resume` needs for an environment module: `` --trust-env`` or nothing.
    """

    folder: Path
    holder: str | None
    log: Path | None
    failure: str | None
    resumable: bool
    trusted: str

    def __str__(self) -> str:
        place = shlex.quote(str(self.folder))
        show = f"`deeptaxi logs {place}`"
        if self.holder is not None:
            watch = f"{show} shows how far it is" if self.log else "it has not made its first updates yet"
            return f"{self.folder} is still being trained, by {self.holder}: {watch}"
        resume = f"`deeptaxi train --resume {place}{self.trusted}`"
        if self.failure is not None:
            more = f", and {resume} goes on from its last checkpoint" if self.resumable else ""
            return f"{self.folder} has no model, its training failed: {self.failure}; {show} shows its log{more}"
        if not self.resumable:
            return f"{self.folder} has no model, its training was broken off: {show} shows its log"
        return f"{self.folder}: its training was broken off; {resume} goes on with it"


def unfinished(folder: Path) -> Unfinished | None:
    """Return why a run folder holds no model; None where it holds one, or nothing is known of a training into it."""
    if (folder / MODEL_FILE).exists() or folder.is_file():
        return None
    holder, kept = in_use(folder), oldest(folder)
    names = (LOG_FILE,) if holder else (LOG_FILE, FAILED_FILE)
    found = (of_this_run(place / name, folder) for place in log_folders(folder, kept) for name in names)
    history = next((log for log in found if log is not None), None)
    resumable = bool(checkpoints.files_in(folder))
    if holder is None and not resumable and history is None:
        return None
    return Unfinished(
        folder,
        holder,
        history.path if history else None,
        printable(history.failure) if history and history.failure else None,
        resumable,
        " --trust-env" if ":" in environment_of(history, kept) else "",
    )


def oldest(folder: Path) -> Checkpoint | None:
    """Return the oldest checkpoint of a run folder, which has no arrays as a rule; None where none can be read."""
    files = checkpoints.files_in(folder)
    try:
        return checkpoints.read(files[-1]) if files else None
    except DeepTaxiError:
        return None


def log_folders(folder: Path, kept: Checkpoint | None) -> list[Path]:
    """Return where the log of a run folder may be, the likeliest first."""
    absolute = folder.resolve()
    near = [LOGS, absolute.parent / LOGS, absolute.parent.parent / LOGS]
    said = [log_in_use(folder), place_of(folder, str(kept.about.get("log"))) if kept else None]
    return [*(place for place in said if place is not None), *(place / absolute.name for place in near)]


def of_this_run(log: Path, folder: Path) -> History | None:
    """Return a log that says that it is of this run folder; None where it does not."""
    if not log.is_file():
        return None
    try:
        history = read_history(log, earlier=True)
    except DeepTaxiError:
        return None
    begun = history.started
    own = begun is not None and begun.run is not None and (log.parent / begun.run).resolve() == folder.resolve()
    return history if own else None


def environment_of(history: History | None, kept: Checkpoint | None) -> str:
    """Return the id of the environment that is trained on, as far as it is known."""
    if history is not None and history.started is not None:
        return history.started.environment
    said = kept.about.get("environment") if kept else None
    return str(said.get("id")) if isinstance(said, dict) else ""
