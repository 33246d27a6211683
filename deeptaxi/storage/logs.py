"""The log folder of a run: writing it, replacing it, and resuming it.

metrics.jsonl              one record per line; the first identifies the run
events.out.tfevents.*      the same for TensorBoard (`tensorboard`)
visits.npz                 int64 `[S, A]`: `visits`, how often each (state, action) was tried during training, and
                           `replay`, how many entries the replay buffer held of it at the end

**Replacing a log.** The files of a log belong to one run. Those of the previous run are set aside in `.previous` until
the new run succeeds; if it fails, they are restored, and its own `metrics.jsonl` is left as `metrics.failed.jsonl`,
where it blocks no name. If this is interrupted, the next run completes it: `.previous` appears with all of its files at
once, and its records are restored last.

**Resuming.** A checkpoint stores the position of the log. Lines written since, complete or partial, are cut off when
the resumed run writes its first record, and are written again.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Protocol

import numpy as np

from deeptaxi.config import read_toml as read_settings
from deeptaxi.errors import DeepTaxiError, DiskError, DivergedError, EnvironmentFailedError, UsageError
from deeptaxi.io.atomic import cannot_write, scratch_in, write_atomic
from deeptaxi.io.safe_archive import ArchiveError, read_npz
from deeptaxi.io.safe_load import MAX_LINE, read_toml
from deeptaxi.learning.callbacks import Event
from deeptaxi.learning.coverage import Coverage
from deeptaxi.learning.state import CheckpointEvent
from deeptaxi.machine import physical_memory
from deeptaxi.metrics import Failed, Finished, Record, Started, Warned, from_line, to_line
from deeptaxi.storage.run_folder import CONFIG_FILE

LOG_FILE, VISITS_FILE = "metrics.jsonl", "visits.npz"
EVENTS = "events.out.tfevents.*.deeptaxi"
PREVIOUS, FAILED_FILE = ".previous", "metrics.failed.jsonl"


def files_of(folder: Path) -> list[Path]:
    """Return the log files in a folder, ignoring other files."""
    return [path for name in (LOG_FILE, VISITS_FILE, EVENTS) for path in folder.glob(name)]


def back_up(folder: Path) -> None:
    """Set the previous log aside, unless the log of the saved run already is.

    All of its files are moved at once, so that none is lost if this is interrupted.
    """
    if (folder / PREVIOUS).exists():
        resolve_backup(folder, failed=end_of(folder / LOG_FILE) is None)
    files = files_of(folder)
    if not files:
        return
    with scratch_in(folder) as scratch:
        aside = scratch.path / "log"
        aside.mkdir()
        for path in files:
            name_also(path, aside / path.name)
        aside.rename(folder / PREVIOUS)
    for path in files:
        path.unlink()


def name_also(path: Path, other: Path) -> None:
    """Hard-link a file, or copy it if the file system has no hard links."""
    try:
        other.hardlink_to(path)
    except (OSError, NotImplementedError):
        shutil.copyfile(path, other)


def resolve_backup(folder: Path, failed: bool) -> None:
    """Remove the log that was set aside, or restore it if the new run failed; safe to repeat if interrupted."""
    previous = folder / PREVIOUS
    aside = files_of(previous)
    if failed and (aside or not previous.exists()):  # else everything is restored
        mark_failed(folder)
        for path in reversed(aside):  # the records last: until then, the log counts as set aside
            path.replace(folder / path.name)
    shutil.rmtree(previous, ignore_errors=True)


def mark_failed(folder: Path) -> None:
    """Turn the log in a folder into that of a failed run: rename its records and remove the rest."""
    log, old = folder / LOG_FILE, folder / PREVIOUS / LOG_FILE
    if not log.exists():
        return
    for path in files_of(folder):
        if path != log:
            path.unlink()
    if not (old.exists() and log.samefile(old)):  # else it is the old log, which was about to be removed
        log.replace(folder / FAILED_FILE)


def end_of(log: Path) -> Finished | None:
    """Return the final record of a log; None if it has none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_LINE))
            *_, last = file.read(MAX_LINE).splitlines() or [b""]
        record = from_line(last)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, Finished) else None


VISITS_BYTES = 2**30  # limit for two counts of eight bytes if the number of (state, action) is unknown
COUNTS = 2 * 8  # bytes per (state, action)
HEADERS = 2**12


def save_visits(log: Path, coverage: Coverage) -> None:
    """Write `visits.npz` into the log folder."""
    with write_atomic(log / VISITS_FILE) as aside:
        aside.write_bytes(visits_file(coverage))


def visits_file(coverage: Coverage) -> bytes:
    """Return the content of `visits.npz`."""
    file = io.BytesIO()
    np.savez_compressed(file, **coverage._asdict())
    return file.getvalue()


def text_of(records: Iterable[Record]) -> bytes:
    """Return the content of `metrics.jsonl` in the run folder itself."""
    lines = (dataclasses.replace(record, run=".") if isinstance(record, Started) else record for record in records)
    return "".join(f"{to_line(record)}\n" for record in lines).encode()


def read_visits(log: Path, pairs: int | None = None) -> Coverage | None:
    """Read `visits.npz` of a log folder; None if it is missing, as for an interrupted run.

    Args:
        log: the log folder.
        pairs: number of states times actions, S·A, from the records; None if unknown.

    Raises:
        DeepTaxiError: the file is damaged.
    """
    path = log / VISITS_FILE
    if not path.is_file():
        return None
    limit = VISITS_BYTES if pairs is None else min(COUNTS * pairs, int(min(2**62, physical_memory()))) + HEADERS
    try:
        arrays = read_npz(path, limit)
    except ArchiveError as error:
        raise DeepTaxiError(f"{path} is damaged: {error}") from None
    for name in Coverage._fields:
        if (
            name not in arrays
            or arrays[name].dtype.kind not in "iu"
            or arrays[name].ndim != 2
            or arrays[name].min() < 0
        ):
            raise DeepTaxiError(f"{path} is damaged: it has no counts '{name}'")
    if len({arrays[name].shape for name in Coverage._fields}) > 1:
        raise DeepTaxiError(f"{path} is damaged: its counts differ in shape")
    return Coverage(*(arrays[name].astype(np.int64) for name in Coverage._fields))


LOGS = Path("logs")
NO_LOG = "no-log"  # the finding that a log file cannot be written
WRITE_SECONDS = 0.5  # minimum time between writes, which cost more than the records


class Writer(Protocol):
    """An open log file."""

    def write(self, records: Sequence[Record]) -> None:
        """Append records and flush them to the operating system."""

    def close(self) -> None:
        """Close the file."""


class Position(NamedTuple):
    """The position of a log, as stored in a checkpoint."""

    head: str  # SHA-256 of its first line, which identifies the log
    lines: int


class Lines:
    """Writer of `metrics.jsonl`, one record per line.

    Args:
        folder: the log folder.
        kept: existing log to continue; None to start a new one.
    """

    def __init__(self, folder: Path, kept: LogPrefix | None = None) -> None:
        self._path = folder / LOG_FILE
        if kept:
            with write_atomic(self._path) as aside:
                aside.write_bytes(kept.text)
        self._file = self._path.open("ab" if kept else "xb")  # "x" never follows a link
        self._size = self._file.tell()
        self.position = kept.position if kept else None

    def write(self, records: Sequence[Record]) -> None:
        """Append records and flush them to the operating system, so that a crash loses none.

        Raises:
            OSError: writing fails, or the file was removed; no partial line is left then.
        """
        lines = [f"{to_line(record)}\n".encode() for record in records]
        try:
            self._check_place()
            self._file.writelines(lines)
            self._file.flush()
        except OSError:
            self._cut()
            raise
        self._size += sum(map(len, lines))
        if lines:
            known = self.position or Position(head_of(lines[0]), 0)
            self.position = known._replace(lines=known.lines + len(lines))

    def _check_place(self) -> None:
        """Raise if the file was removed or replaced, so that its lines would be lost silently."""
        try:
            there = os.path.samestat(os.fstat(self._file.fileno()), self._path.lstat())
        except FileNotFoundError:
            there = False
        if not there:
            raise FileNotFoundError(errno.ENOENT, "it was removed or replaced meanwhile")

    def _cut(self) -> None:
        """Close the file and remove a partial line at its end, as left by a full disk."""
        number = os.dup(self._file.fileno())
        with suppress(OSError):
            self._file.close()  # tries to write the rest once more
        with suppress(OSError):
            os.ftruncate(number, self._size)
        os.close(number)

    def sync(self) -> None:
        """Wait until everything is on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Log:
    """Writes the records of a run into its log folder as they come, at most twice a second.

    A run is worth more than its log. If a log file cannot be written, training continues, and `warnings` gets one
    warning. Lost records are still in memory, and the next call of `position` tries to write them again.

    Args:
        folder: the log folder.
        run: the run folder that it belongs to.
        writers: factories of writers besides `Lines`, by file name, called at the first record.
        kept: existing log to continue, if any.
    """

    def __init__(
        self,
        folder: Path,
        run: Path,
        writers: Mapping[str, Callable[[Path], Writer]] = MappingProxyType({}),
        kept: LogPrefix | None = None,
    ) -> None:
        self._folder = folder
        self._run = os.path.relpath(run.resolve(), folder.resolve())
        self._kinds = writers
        self._kept = kept
        self._begun = False
        self._took_place = kept is not None  # whether the previous log is out of the way
        self._writers: dict[str, Writer] = {}
        self._waiting: list[Record] = []
        self._written: list[Record] = []  # all records passed to the writers, even if writing failed
        self._position = kept.position if kept else None  # position that is known to be in the file
        self._update = 0  # update of the latest record
        self._seconds = 0.0  # time of the last write
        self._lost: dict[str, DiskError] = {}
        self._warned: set[str] = set()
        self.warnings: list[Warned] = []

    def __enter__(self) -> Log:
        """Return the log without opening a file: a run that never starts leaves no log."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write pending records and close the log; after a failure, record it and restore the previous log."""
        if isinstance(error, Exception) and (self._waiting or self._begun):  # else stopped by the user or never begun
            self._waiting.append(failed(error, self._update))
        self._write()
        self._close()
        with suppress(OSError):  # the next run finds what was set aside
            self._resolve_backup(failed=error is not None)

    @property
    def lost(self) -> str | None:
        """Which log file could not be written and why, `metrics.jsonl` first; None if all were written."""
        return next((str(self._lost[name]) for name in (LOG_FILE, *self._lost) if name in self._lost), None)

    @contextmanager
    def surviving(self, name: str) -> Iterator[None]:
        """Record a failure to write the log file `name` in the block, instead of raising."""
        try:
            yield
            self._lost.pop(name, None)
        except (OSError, DiskError) as error:
            fault = error if isinstance(error, DiskError) else cannot_write(self._folder / name, error)
            self._lost[name] = fault
            writer = self._writers.pop(name, None)
            if writer is not None:
                with suppress(OSError):
                    writer.close()
            if not self._warned & {name, LOG_FILE}:
                self._warned.add(name)
                text = f"{NO_LOG}: {fault}; training continues without it"
                self.warnings.append(Warned(self._update, NO_LOG, text))

    def _resolve_backup(self, failed: bool) -> None:
        """Remove or restore the log that was set aside, if this one has started to replace it."""
        stands_aside = (self._folder / PREVIOUS).exists()
        if failed and self._kept is not None and not stands_aside:
            return  # the log belongs to the existing run and its checkpoints
        if self._begun and (self._took_place or stands_aside):
            resolve_backup(self._folder, failed)

    def __call__(self, event: Event) -> list[Warned]:
        """Write a record; return a warning if a file could not be written, unless it is the last record."""
        if isinstance(event, CheckpointEvent):
            return []
        self.write(event)
        if isinstance(event, Finished):
            return []
        new, self.warnings = self.warnings, []
        return new

    def write(self, record: Record) -> None:
        """Add a record; it is written at once, or with a later record if the last write was under half a second ago."""
        if isinstance(record, Started):
            record = dataclasses.replace(record, run=self._run)
        self._update = getattr(record, "update", self._update)
        self._waiting.append(record)
        if time.monotonic() - self._seconds >= WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        records, self._waiting = self._waiting, []
        if records and not self._begun:
            self._open(self._kept)
        for name, writer in list(self._writers.items()):
            with self.surviving(name):
                writer.write(records)
        self._written += records
        lines = self._writers.get(LOG_FILE)
        if isinstance(lines, Lines):
            self._position = lines.position
        self._seconds = time.monotonic()

    def _open(self, kept: LogPrefix | None) -> None:
        """Start a log, or continue an existing one; files other than `metrics.jsonl` are rewritten."""
        self._begun = True
        with self.surviving(LOG_FILE):
            if not self._took_place:
                back_up(self._folder)
                self._took_place = True
            self._writers[LOG_FILE] = Lines(self._folder, kept)
        if LOG_FILE in self._lost:
            return
        before = set(self._folder.glob(EVENTS))
        for name, open_writer in self._kinds.items():
            with self.surviving(name):
                self._writers[name] = open_writer(self._folder)
                self._writers[name].write(kept.records if kept else ())
        new = set(self._folder.glob(EVENTS)) - before
        for events in new if EVENTS in self._lost else before:
            with suppress(OSError):  # two files of events are better than no training
                events.unlink(missing_ok=True)

    def _close(self) -> None:
        for name, writer in list(self._writers.items()):
            with self.surviving(name):
                writer.close()
        self._writers.clear()

    def _write_again(self) -> None:
        """Rewrite the whole log from memory, unless another run's log is in its place."""
        head, text = begins_with(self._folder / LOG_FILE), self._kept.text if self._kept else b""
        lines = [f"{to_line(record)}\n".encode() for record in self._written]
        text += b"".join(lines)
        own = head_of(text.split(b"\n", 1)[0] + b"\n")
        if not text or (self._took_place and head not in (own, None)):
            return
        before = self._kept.position.lines if self._kept else 0
        records = (*(self._kept.records if self._kept else ()), *self._written)
        self._close()
        self._open(LogPrefix(Position(own, before + len(lines)), records, text))

    def position(self) -> Position | None:
        """Flush all records to disk and return the position of the log; None if it was not started.

        Failed writes are retried. If the log is lost, its last known position is returned.
        """
        self._write()
        if self._lost.keys() & {LOG_FILE, *self._kinds}:
            self._write_again()
        lines = self._writers.get(LOG_FILE)
        if isinstance(lines, Lines):
            with self.surviving(LOG_FILE):
                lines.sync()
            self._position = lines.position
        return self._position


def failed(error: Exception, update: int) -> Failed:
    """Build the record of a run that failed after an update."""
    text = str(error) if isinstance(error, DeepTaxiError) else f"{type(error).__name__}: {error}"
    causes = {DivergedError: "diverged", EnvironmentFailedError: "environment"}
    cause = next((name for cls, name in causes.items() if isinstance(error, cls)), "other")
    return Failed(update, " ".join(text.split()), cause)


class LogPrefix(NamedTuple):
    """The content of a log up to a position."""

    position: Position
    records: tuple[Record, ...]
    text: bytes  # its lines


def head_of(line: bytes) -> str:
    """Return the SHA-256 of a log's first line."""
    return hashlib.sha256(line).hexdigest()


def begins_with(log: Path) -> str | None:
    """Return the hash that identifies a log; None if there is no log."""
    try:
        with log.open("rb") as file:
            return head_of(file.readline(MAX_LINE))
    except OSError:
        return None


def find_log(run: Path) -> Path:
    """Return the log folder of a run.

    This is the recorded path, relative to the run folder, else the folder of the run's name in `logs/`. Earlier
    versions recorded it relative to the folder of the training: the current one, or any that the run is in. A log
    folder is its own log. A log whose training ended with other weights is ignored: the name of a run that was copied
    without its log may be in use for another one.

    Raises:
        UsageError: the run does not exist, or has no log.
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
    read_settings(config)  # only to validate the settings
    about = about if isinstance(about, dict) else {}
    said, digest = Path(str(about.get("log", ""))), about.get("weights_digest")
    absolute = run.resolve()
    named = absolute.parent.parent / LOGS / absolute.name / LOG_FILE
    places = [place_of(run, said), said, *(folder / said for folder in absolute.parents), named]
    found = [path for path in places if path.name == LOG_FILE and os.path.isfile(path)]  # noqa: PTH113  # any name
    for path in found:
        end = end_of(path)
        if digest is None or end is None or end.weights_digest in (digest, None):
            return path.parent
    fault = "belongs to another training" if found else "does not exist"
    raise UsageError(f"{run} has no log: its {CONFIG_FILE} says {said}, which {fault} (train it again to get one)")


def read_log_until(folder: Path, position: Position) -> LogPrefix | None:
    """Restore a log and return its content up to a position; None if it is missing or has lost lines.

    Raises:
        UsageError: the log of another run is in its place.
        DeepTaxiError: the log cannot be read or restored.
    """
    try:
        if not brought_back(folder, position.head):
            return None
        with (folder / LOG_FILE).open("rb") as file:
            lines = [line for line, _ in zip(file, range(position.lines), strict=False) if line.endswith(b"\n")]
    except OSError as error:
        raise DeepTaxiError(f"cannot write in {folder}: {error.strerror or error}") from None
    if len(lines) < position.lines:
        return None
    try:
        records = [from_line(line) for line in lines]
    except ValueError:
        return None
    return LogPrefix(position, tuple(record for record in records if record), b"".join(lines))


def brought_back(folder: Path, head: str) -> bool:
    """Restore the log with this first-line hash to its place; return whether there is one."""
    stands, failed, aside = (begins_with(folder / name) for name in (LOG_FILE, FAILED_FILE, f"{PREVIOUS}/{LOG_FILE}"))
    if stands == head:
        return True
    if failed == head:
        back_up(folder)
        (folder / FAILED_FILE).replace(folder / LOG_FILE)
        return True
    if aside == head:
        resolve_backup(folder, failed=True)
        return True
    if stands is not None:
        raise UsageError(f"{folder / LOG_FILE} is the log of another training than the checkpoint's: move it away")
    return False


def place_of(run: Path, said: str | Path) -> Path:
    """Return a path that is recorded relative to a run folder; it is relative to the current folder if `run` is."""
    found = os.path.normpath(run.resolve() / said)
    return Path(found if run.is_absolute() else os.path.relpath(found))
