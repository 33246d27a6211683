"""Checkpoints: what a training that was broken off goes on from, to the bit.

    <run>/checkpoints/000007.npz    numbered on; the last two are kept

A checkpoint is a `.npz` without pickle and without compression. Its member `about` is one JSON text: the settings, the
backend and the versions, where the log stood, and the facts of the state (`learning.state`); the others are its
arrays. The first one of a training is written before anything is learned and has no arrays: from then on there is
always something to go on from. A damaged one falls back to the one before, which leads to the same weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi.errors import DeepTaxiError, DiskError, DivergedError, UsageError
from deeptaxi.io.atomic import remove_if_empty, write_atomic, write_atomic_all
from deeptaxi.io.safe_archive import ArchiveError, read_npz
from deeptaxi.io.safe_load import parse_json
from deeptaxi.learning.state import CheckpointEvent, TrainingState
from deeptaxi.mdp.table import ARRAYS, TransitionTable, save_table
from deeptaxi.metrics import Warned, dated
from deeptaxi.storage.logs import Log, Position
from deeptaxi.storage.run_folder import CHECKPOINTS, MODEL_FILE, TABLE_FILE

ABOUT = "about"
VERSION = 1
KEPT = 2
NAME = re.compile(r"[0-9]{6,18}\.npz")
FIRST = 30  # where a zip archive has the name of its first member
START = b"PK\x03\x04".ljust(FIRST, b"\0") + f"{ABOUT}.npy".encode()


@dataclass(frozen=True)
class Checkpoint:
    """What a file says.

    Attributes:
        path: the file.
        about: settings, versions and where the log stood.
        state: of the training; None before its first update.
        update: the last one that was made.
        passed_over: what is wrong with newer ones, a line each.
    """

    path: Path
    about: Mapping[str, Any]
    state: TrainingState | None
    update: int
    passed_over: tuple[str, ...] = ()


def files_in(run: Path) -> list[Path]:
    """Return the checkpoints of a run folder, the newest first."""
    found = [path for path in (run / CHECKPOINTS).glob("*.npz") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def write(path: Path, about: Mapping[str, Any], state: TrainingState | None) -> None:
    """Write a checkpoint.

    Raises:
        DeepTaxiError: the disk or the permissions do not allow it.
    """
    with write_atomic(path) as aside:
        save(aside, about, state)


def save(path: Path, about: Mapping[str, Any], state: TrainingState | None) -> None:
    """Write the file of a checkpoint, which is aside still."""
    arrays = state.arrays if state else {}
    facts = dict(state.facts) if state else None
    # A zip archive has checksums of its members, and none of its directory: the names are told apart.
    said = {"checkpoint": VERSION, **about, "arrays": sorted(arrays), "facts": facts}
    text = json.dumps(said, default=dated)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **{ABOUT: np.array(text), **arrays})


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        DeepTaxiError: it is damaged, or of a newer deeptaxi.
    """
    try:
        arrays = read_npz(path, None)  # nothing in it is compressed
        about = parse_json(str(arrays.pop(ABOUT)))
        facts, version = about.pop("facts"), whole(about.pop("checkpoint"), "checkpoint", 1)
        update = 0 if facts is None else whole(facts["update"], "update", 0)
        if about.pop("arrays") != sorted(arrays):
            raise ArchiveError("it has lost arrays")  # noqa: TRY301  # like what the lines before raise
    except (ArchiveError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DeepTaxiError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from None
    if version > VERSION:
        raise NewerCheckpointError(f"{path} is of a newer deeptaxi (checkpoint version {version}): upgrade deeptaxi")
    return Checkpoint(path, about, None if facts is None else TrainingState(arrays, facts), update)


def whole(found: object, name: str, least: int) -> int:
    """Return a whole number of a checkpoint that is `least` or more.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise ValueError(f"'{name}' is {str(found)[:40]}, expected {least} or more")
    return found


class NewerCheckpointError(DeepTaxiError):
    """A checkpoint that only a newer deeptaxi can read: the one before would be of no use."""


def newest(run: Path) -> Checkpoint:
    """Return the newest checkpoint of a run folder that is sound.

    Raises:
        UsageError: there is none.
        DeepTaxiError: all are damaged, or the newest is of a newer deeptaxi.
    """
    faults: list[str] = []
    for path in files_in(run):
        try:
            found = read(path)
        except NewerCheckpointError:
            raise
        except DeepTaxiError as error:
            faults.append(str(error))
            continue
        return replace(found, passed_over=tuple(faults))
    if faults:
        raise DeepTaxiError(f"{faults[0]}; there is no other checkpoint to go on from")
    raise UsageError(f"{run} has no checkpoint to go on from: train it again (--force replaces what is there)")


def table_digest(table: TransitionTable | None) -> str | None:
    """Return the sha256 of a transition table: the problem that a training is on; None where there is none."""
    if table is None:
        return None
    digest = hashlib.sha256()
    for name in (*ARRAYS, "action_mask"):
        values = getattr(table, name)
        if values is not None:
            digest.update(f"{name} {values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def begin(run: Path, about: Mapping[str, Any], table: TransitionTable | None) -> int:
    """Write the first checkpoint of a training, from which it begins; return its number.

    A `table` that has no file is kept beside it.

    Raises:
        DeepTaxiError: the disk or the permissions do not allow it.
    """
    first = following(run)
    with write_atomic_all(run / CHECKPOINTS) as aside:
        if table is not None:
            save_table(table, aside / TABLE_FILE)
        save(aside / numbered(run, first).name, {**about, "position": None}, None)
    drop_old(run)
    return first


def take_back(run: Path, first: int, error: BaseException) -> None:
    """Remove what a training that failed has no use for: all, where it diverged, else a lone first checkpoint.

    A disk that failed is no reason to remove anything, but where another run stands, which that hides.

    Args:
        run: the run folder.
        first: the number of its first checkpoint.
        error: what it failed of.
    """
    own, diverged = [path for path in files_in(run) if int(path.stem) >= first], isinstance(error, DivergedError)
    if isinstance(error, DiskError) and not (run / MODEL_FILE).exists():
        return
    with contextlib.suppress(OSError):  # what the training failed of is what the user needs to know
        if diverged or len(own) < KEPT:
            for path in filter(is_ours, own):
                path.unlink(missing_ok=True)
        if not files_in(run):
            (run / CHECKPOINTS / TABLE_FILE).unlink(missing_ok=True)
    remove_if_empty(run / CHECKPOINTS)


def give_up(run: Path) -> None:
    """Remove all checkpoints of a run folder: they are of a training that is there no more."""
    take_back(run, 0, DivergedError())


def numbered(run: Path, number: int) -> Path:
    """Return the path of a checkpoint."""
    return run / CHECKPOINTS / f"{number:06}.npz"


def following(run: Path) -> int:
    """Return the number of the next checkpoint."""
    return max((int(path.stem) for path in files_in(run)), default=0) + 1


def drop_old(run: Path) -> None:
    """Let go of the checkpoints before the last two."""
    for old in filter(is_ours, files_in(run)[KEPT:]):
        with contextlib.suppress(OSError):
            old.unlink()


def is_ours(path: Path) -> bool:
    """Whether a file is a checkpoint by what it begins with: the name is one that others may give to theirs, too."""
    try:
        with path.open("rb") as file:
            start = file.read(len(START))
    except OSError:
        return False
    return not path.is_symlink() and start[:4] == START[:4] and start[FIRST:] == START[FIRST:]


class Checkpointer:
    """Writes the checkpoints of one training into its run folder.

    Args:
        run: the run folder.
        about: what they say beside the state and the log.
        log: of the training.
        every: seconds from one to the next.
    """

    def __init__(self, run: Path, about: Mapping[str, Any], log: Log, every: float) -> None:
        self._run = run
        self._about = about
        self._log = log
        self._every = every
        self._number = following(run)
        self._written = time.monotonic()
        self._failing = False

    def __call__(self, hold: CheckpointEvent) -> Generator[Warned]:
        """Keep a state if it is time to, or the training ends; a disk that is full does not end it."""
        if not hold.last and time.monotonic() - self._written < self._every:
            return
        try:
            self.save(self._log.position(), hold.state_dict(), self._log.lost)
            self._failing = False
        except DeepTaxiError as error:
            if not self._failing:
                yield Warned(hold.update, "no-checkpoint", f"no-checkpoint: {error}; the training goes on without it")
            self._failing = True
        self._written = time.monotonic()

    def save(self, position: Position | None, state: TrainingState, lost: str | None = None) -> None:
        """Write the next checkpoint, and let go of those before the last two.

        Args:
            position: how far the log has come.
            state: of the training.
            lost: what of the log could not be written, and why.

        Raises:
            DeepTaxiError: the disk or the permissions do not allow it.
        """
        about = {**self._about, "position": position._asdict() if position else None, "log_lost": lost}
        write(numbered(self._run, self._number), about, state)
        self._number += 1
        drop_old(self._run)
