"""The log folder of a run.

metrics.jsonl              a record a line, the first of which says whose log this is
events.out.tfevents.*      the same for TensorBoard (`tensorboard`)
visits.npz                 what the training tried (`visits`)
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

from deeptaxi.artifacts.files import CONFIG_FILE, cannot_write, written_aside
from deeptaxi.artifacts.succession import EVENTS, LOG_FILE, PREVIOUS, end_of, set_aside, settle
from deeptaxi.config import read_toml as read_settings
from deeptaxi.errors import DeepTaxiError, DivergedError, EnvironmentFailedError, UsageError
from deeptaxi.reading import read_toml
from deeptaxi.records import Failed, Record, Started, to_line

LOGS = Path("logs")
WRITE_SECONDS = 0.5  # between two writes: they cost more than the records


class Writer(Protocol):
    """A file of the log, open."""

    def write(self, records: Sequence[Record]) -> None:
        """Add records and hand them to the operating system."""

    def close(self) -> None:
        """Close the file."""


class Position(NamedTuple):
    """How far a log has come: what a checkpoint says of it."""

    head: str  # the sha256 of its first line, which tells it from every other log
    lines: int


class Lines:
    """`metrics.jsonl`, a record a line.

    Args:
        folder: the log folder.
        kept: the log that is there, to go on with; None to begin one.
    """

    def __init__(self, folder: Path, kept: Kept | None = None) -> None:
        if kept:
            with written_aside(folder / LOG_FILE) as aside:
                aside.write_bytes(kept.text)
        self._file = (folder / LOG_FILE).open("a" if kept else "w", encoding="utf-8")
        self.position = kept.position if kept else None

    def write(self, records: Sequence[Record]) -> None:
        """Append the records, and hand them to the operating system, so that a crash loses none of them."""
        lines = [f"{to_line(record)}\n" for record in records]
        self._file.writelines(lines)
        self._file.flush()
        if lines:
            known = self.position or Position(head_of(lines[0].encode()), 0)
            self.position = known._replace(lines=known.lines + len(lines))

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Log:
    """Writes the records of a training into its log folder as they come, but not more often than twice a second.

    Args:
        folder: the log folder.
        run: the run folder that it belongs to.
        writers: what else than `Lines` to open in the folder, at the first record.
        kept: the log that is there, where the training goes on with it (`continuing`).
    """

    def __init__(
        self, folder: Path, run: Path, writers: Sequence[Callable[[Path], Writer]] = (), kept: Kept | None = None
    ) -> None:
        self._folder = folder
        self._run = os.path.relpath(run.resolve(), folder.resolve())
        self._kinds = writers
        self._kept = kept
        self._begun = False
        self._lines: Lines | None = None
        self._writers: list[Writer] = []
        self._waiting: list[Record] = []
        self._update = 0  # of the latest record
        self._written = 0.0

    def __enter__(self) -> Log:
        """Open nothing yet: a training that never starts leaves no log."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what waits and close the log; after a failure, say which, and put things back."""
        if isinstance(error, Exception) and (self._waiting or self._lines):  # else the user ended it, or nothing began
            self._waiting.append(failed(error, self._update))
        try:
            with ExitStack() as closing:
                closing.callback(self._settle, failed=error is not None)
                for writer in self._writers:
                    closing.callback(writer.close)
                self._write()
        except OSError as fault:
            if error is None:
                raise cannot_write(self._folder, fault) from None
        except DeepTaxiError:
            if error is None:  # else that came first, and says more
                raise

    def _settle(self, failed: bool) -> None:
        """Say what becomes of the log that stands aside, if this one has begun to take its place."""
        stands_aside = (self._folder / PREVIOUS).exists()
        if failed and self._kept is not None and not stands_aside:
            return  # it is that of the run that is there, and of the checkpoints
        if self._writers or (self._begun and stands_aside):
            settle(self._folder, failed)

    def write(self, record: Record) -> None:
        """Take one record; it is on disk within half a second, or when the next one comes.

        Raises:
            DeepTaxiError: the disk or the permissions do not allow it.
        """
        if isinstance(record, Started):
            record = dataclasses.replace(record, run=self._run)
        self._update = getattr(record, "update", self._update)
        self._waiting.append(record)
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        records, self._waiting = self._waiting, []
        try:
            if records and self._lines is None:
                self._lines = self._open()
            for writer in self._writers:
                writer.write(records)
        except OSError as error:
            raise cannot_write(self._folder, error) from None
        self._written = time.monotonic()

    def _open(self) -> Lines:
        """Begin a log, or go on with the one that was kept: other files than its lines are written anew."""
        self._begun = True
        if self._kept is None:
            set_aside(self._folder)
        for events in self._folder.glob(EVENTS):
            events.unlink()
        lines = Lines(self._folder, self._kept)
        self._writers.append(lines)
        for open_writer in self._kinds:
            self._writers.append(open_writer(self._folder))
            self._writers[-1].write(self._kept.records if self._kept else ())
        return lines

    def position(self) -> Position | None:
        """Bring all records to the disk, and return how far the log has come then; None where it has not begun.

        Raises:
            DeepTaxiError: the disk or the permissions do not allow it.
        """
        self._write()
        if self._lines is None:
            return None
        try:
            self._lines.sync()
        except OSError as error:
            raise cannot_write(self._folder, error) from None
        return self._lines.position


def failed(error: Exception, update: int) -> Failed:
    """Return the record of a training that failed after an update."""
    told = str(error) if isinstance(error, DeepTaxiError) else f"{type(error).__name__}: {error}"
    causes = {DivergedError: "diverged", EnvironmentFailedError: "environment"}
    cause = next((name for cls, name in causes.items() if isinstance(error, cls)), "other")
    return Failed(update, " ".join(told.split()), cause)


class Kept(NamedTuple):
    """What a log holds up to a position."""

    position: Position
    records: tuple[Record, ...]
    text: bytes  # its lines


def head_of(line: bytes) -> str:
    """Return the sha256 of a log's first line."""
    return hashlib.sha256(line).hexdigest()


def find_log(run: Path) -> Path:
    """Return the log folder of a run.

    It is where the run says it is, as seen from here, from beside the run's own folder of runs or from beside the run,
    else the folder of the run's name in `logs/`. A log folder is its own log. The log of a training that ended with
    other weights is no log of this run: an agent that came without its log has a name that others may use.

    Raises:
        UsageError: there is no such run, or no log of it.
    """
    if (run / LOG_FILE).is_file():
        return run
    config = run / CONFIG_FILE
    if not config.is_file():
        raise UsageError(f"{run} is neither a run folder nor a log folder: it holds no {CONFIG_FILE} and no {LOG_FILE}")
    try:
        about = read_toml(config).get("run", {})
    except (OSError, ValueError) as error:
        raise DeepTaxiError(f"cannot read {config}: {error}") from None
    read_settings(config)  # for its checks: what nobody reads is told
    about = about if isinstance(about, dict) else {}
    said, digest = Path(str(about.get("log", ""))), about.get("weights_digest")
    absolute = run.resolve()
    beside, above = absolute.parents[:2] if len(absolute.parents) > 1 else (absolute.parent, absolute.parent)
    places = [said, above / said, beside / said, above / LOGS / absolute.name / LOG_FILE]
    found = [place for place in places if place.name == LOG_FILE and os.path.isfile(place)]  # noqa: PTH113  # any name
    for place in found:
        end = end_of(place)
        if digest is None or end is None or end.weights_digest in (digest, None):
            return place.parent
    fault = "is of another training" if found else "is not there"
    raise UsageError(f"{run} has no log: it says {said}, which {fault} (training it again keeps one)")
