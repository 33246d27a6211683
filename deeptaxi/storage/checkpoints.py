"""Checkpoints, from which an interrupted run resumes, bit for bit.

    <run>/checkpoints/000007.npz    numbered consecutively; the last two are kept

A checkpoint is a `.npz` without pickle or compression. Its member `about` is a JSON document: the settings, backend and
versions, the log position, and the facts of the training state (`learning.state`); the other members are the state's
arrays. The first checkpoint of a run is written before the first update and has no arrays, so that a run can always be
resumed. If a checkpoint is damaged, the previous one is used, which leads to the same weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi.errors import DeepTaxiError, DiskError, DivergedError, UsageError
from deeptaxi.io.atomic import remove_if_empty, write_atomic, write_atomic_all
from deeptaxi.io.mapped import in_blocks
from deeptaxi.io.safe_archive import ArchiveError, read_npz
from deeptaxi.io.safe_load import is_a, parse_json
from deeptaxi.learning.callbacks import Event
from deeptaxi.learning.state import CheckpointEvent, TrainingState
from deeptaxi.mdp.table import ARRAYS, TransitionTable, save_table
from deeptaxi.metrics import Warned, dated
from deeptaxi.storage.logs import Log, Position
from deeptaxi.storage.run_folder import CHECKPOINTS, MODEL_FILE, TABLE_FILE

ABOUT = "about"
VERSION = 2
KEPT = 2
NAME = re.compile(r"[0-9]{6,18}\.npz")
FIRST = 30  # offset of the first member's name in a zip archive
START = b"PK\x03\x04".ljust(FIRST, b"\0") + f"{ABOUT}.npy".encode()


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        path: the file.
        about: settings, versions and log position.
        state: training state; None before the first update.
        update: number of the last update.
        passed_over: errors of newer checkpoints, one line each.
    """

    path: Path
    about: Mapping[str, Any]
    state: TrainingState | None
    update: int
    passed_over: tuple[str, ...] = ()


def files_in(run: Path) -> list[Path]:
    """Return the checkpoints of a run folder, newest first."""
    found = [path for path in (run / CHECKPOINTS).glob("*.npz") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def write(path: Path, about: Mapping[str, Any], state: TrainingState | None) -> None:
    """Write a checkpoint atomically.

    Raises:
        DeepTaxiError: the file cannot be written.
    """
    with write_atomic(path) as aside:
        save(aside, about, state)


def save(path: Path, about: Mapping[str, Any], state: TrainingState | None) -> None:
    """Write a checkpoint to a temporary file."""
    arrays = state.arrays if state else {}
    facts = dict(state.facts) if state else None
    # A zip archive has checksums for its members but not for its directory, so the names are stored separately.
    said = {"checkpoint": VERSION, **about, "arrays": sorted(arrays), "facts": facts}
    text = json.dumps(said, default=dated)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **{ABOUT: np.array(text), **arrays})


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        DeepTaxiError: it is damaged, or was written by another version of deeptaxi.
    """
    try:
        arrays = read_npz(path, None)  # nothing in it is compressed
        about = parse_json(str(arrays.pop(ABOUT)))
        facts, version = about.pop("facts"), whole(about.pop("checkpoint"), "checkpoint", 1)
        update = 0 if facts is None else whole(facts["update"], "update", 0)
        if about.pop("arrays") != sorted(arrays):
            raise ArchiveError("arrays are missing")  # noqa: TRY301  # handled like the errors above
    except (ArchiveError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DeepTaxiError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from None
    if version > VERSION:
        raise OtherVersionError(
            f"{path} was written by a newer deeptaxi (checkpoint version {version}): upgrade deeptaxi"
        )
    if version < VERSION and facts is not None:
        raise OtherVersionError(f"{path} was written by an earlier deeptaxi: train it again, without --resume")
    return Checkpoint(path, about, None if facts is None else TrainingState(arrays, facts), update)


def whole(found: Any, name: str, least: int) -> int:
    """Return `found` if it is an integer of at least `least`.

    Raises:
        ValueError: it is not.
    """
    if not is_a(found, int) or found < least:
        raise ValueError(f"'{name}' is {str(found)[:40]}, expected {least} or more")
    return int(found)


class OtherVersionError(DeepTaxiError):
    """A checkpoint that only another version of deeptaxi can read; an older checkpoint would not help."""


def newest(run: Path) -> Checkpoint:
    """Return the newest valid checkpoint of a run folder.

    Raises:
        UsageError: there is no checkpoint.
        DeepTaxiError: all are damaged, or the newest was written by another version of deeptaxi.
    """
    faults: list[str] = []
    for path in files_in(run):
        try:
            found = read(path)
        except OtherVersionError:
            raise
        except DeepTaxiError as error:
            faults.append(str(error))
            continue
        return replace(found, passed_over=tuple(faults))
    if faults:
        raise DeepTaxiError(f"{faults[0]}; there is no other checkpoint to resume from")
    raise UsageError(f"{run} has no checkpoint to resume from: train it again (--force replaces what is there)")


def table_digest(table: TransitionTable | None) -> str | None:
    """Return the SHA-256 of a transition table, which identifies the problem; None without a table."""
    if table is None:
        return None
    digest = hashlib.sha256()
    for name in (*ARRAYS, "action_mask"):
        values = getattr(table, name)
        if values is not None:
            kind = np.dtype(np.int64) if name == "next_state" else values.dtype  # however it is kept
            digest.update(f"{name} {kind} {values.shape}".encode())
            for part in in_blocks(values):
                digest.update(np.ascontiguousarray(values[part], kind).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def begin(run: Path, about: Mapping[str, Any], table: TransitionTable | None) -> int:
    """Write the initial checkpoint of a run and return its number.

    A `table` without a file of its own is saved with it.

    Raises:
        DeepTaxiError: the file cannot be written.
    """
    first = following(run)
    with write_atomic_all(run / CHECKPOINTS) as aside:
        if table is not None:
            save_table(table, aside / TABLE_FILE, compressed=True)
        save(aside / numbered(run, first).name, {**about, "position": None}, None)
    drop_old(run)
    return first


def roll_back(run: Path, first: int, error: BaseException) -> None:
    """Remove useless checkpoints of a failed run: all if it diverged, else only a lone initial one.

    After a disk error, checkpoints are kept, unless the folder holds the model of another run, which they would hide.

    Args:
        run: the run folder.
        first: number of the run's first checkpoint.
        error: the error that ended the run.
    """
    own, diverged = [path for path in files_in(run) if int(path.stem) >= first], isinstance(error, DivergedError)
    if isinstance(error, DiskError) and not (run / MODEL_FILE).exists():
        return
    with contextlib.suppress(OSError):  # must not hide the error that ended the run
        if diverged or len(own) < KEPT:
            for path in filter(is_ours, own):
                path.unlink(missing_ok=True)
        if not files_in(run):
            (run / CHECKPOINTS / TABLE_FILE).unlink(missing_ok=True)
    remove_if_empty(run / CHECKPOINTS)


def discard(run: Path) -> None:
    """Remove all checkpoints of a run folder, because the run they belong to is gone."""
    roll_back(run, 0, DivergedError())


def numbered(run: Path, number: int) -> Path:
    """Return the path of a numbered checkpoint."""
    return run / CHECKPOINTS / f"{number:06}.npz"


def following(run: Path) -> int:
    """Return the number of the next checkpoint."""
    return max((int(path.stem) for path in files_in(run)), default=0) + 1


def drop_old(run: Path) -> None:
    """Remove all but the last two checkpoints."""
    for old in filter(is_ours, files_in(run)[KEPT:]):
        with contextlib.suppress(OSError):
            old.unlink()


def is_ours(path: Path) -> bool:
    """Return whether a file starts like a checkpoint: other programs may use the same file names."""
    try:
        with path.open("rb") as file:
            start = file.read(len(START))
    except OSError:
        return False
    return not path.is_symlink() and start[:4] == START[:4] and start[FIRST:] == START[FIRST:]


class Checkpointer:
    """Callback that writes the checkpoints of a run into its folder.

    Args:
        run: the run folder.
        about: metadata to store besides the state and the log position.
        log: log of the run.
        every: seconds between checkpoints.
        writes_last: tells at the end of the training whether to write one.
    """

    def __init__(
        self,
        run: Path,
        about: Mapping[str, Any],
        log: Log,
        every: float,
        writes_last: Callable[[], bool] = lambda: True,
    ) -> None:
        self._run = run
        self._about = about
        self._log = log
        self._every = every
        self._writes_last = writes_last
        self._number = following(run)
        self._written = time.monotonic()
        self._failing = False

    def __call__(self, event: Event) -> list[Warned]:
        """Write a checkpoint if one is due or training ends; warn if the disk is full."""
        if not isinstance(event, CheckpointEvent):
            return []
        if not (self._writes_last() if event.last else time.monotonic() - self._written >= self._every):
            return []
        failed_before, self._failing, warnings = self._failing, False, []
        try:
            self.save(self._log.position(), event.state_dict(), self._log.lost)
        except DeepTaxiError as error:
            self._failing = True
            if not failed_before:
                text = f"no-checkpoint: {error}; training continues without it"
                warnings.append(Warned(event.update, "no-checkpoint", text))
        self._written = time.monotonic()
        return warnings

    def save(self, position: Position | None, state: TrainingState, lost: str | None = None) -> None:
        """Write the next checkpoint and remove all but the last two.

        Args:
            position: position of the log.
            state: training state.
            lost: which part of the log could not be written, and why.

        Raises:
            DeepTaxiError: the file cannot be written.
        """
        about = {**self._about, "position": position._asdict() if position else None, "log_lost": lost}
        write(numbered(self._run, self._number), about, state)
        self._number += 1
        drop_old(self._run)
