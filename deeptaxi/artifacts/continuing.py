"""Going on with the log of a training that was broken off.

A checkpoint says how far the log had come. What was written since, whole lines and half ones, is cut off when the
training writes its first record (`logs`), and is written again: one that does not come so far harms nothing. The log
may have been put elsewhere in its folder (`logs`): where the training failed, it is `metrics.failed.jsonl`; where
another one began in its place and did not end well, it stands aside.
"""

from __future__ import annotations

import os
from pathlib import Path

from deeptaxi.artifacts.logs import Kept, Position, begins_with
from deeptaxi.artifacts.succession import FAILED_FILE, LOG_FILE, PREVIOUS, set_aside, settle
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.records import from_line


def take_up(folder: Path, position: Position) -> Kept | None:
    """Put a log back where it was, and return what it holds up to a position; None where it is gone, or has lost lines.

    Raises:
        UsageError: the log of another training stands in its place.
        DeepTaxiError: the disk or the permissions do not allow it.
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
    return Kept(position, tuple(record for record in records if record), b"".join(lines))


def brought_back(folder: Path, head: str) -> bool:
    """Put the log that begins with this line where it belongs; whether there is one."""
    stands, failed, aside = (begins_with(folder / name) for name in (LOG_FILE, FAILED_FILE, f"{PREVIOUS}/{LOG_FILE}"))
    if stands == head:
        return True
    if failed == head:
        set_aside(folder)
        (folder / FAILED_FILE).replace(folder / LOG_FILE)
        return True
    if aside == head:
        settle(folder, failed=True)
        return True
    if stands is not None:
        raise UsageError(f"{folder / LOG_FILE} is the log of another training than the checkpoint's: move it away")
    return False


def place_of(run: Path, said: str) -> Path:
    """Return the log folder of a run: where its checkpoint says it is, as seen from the run folder."""
    return Path(os.path.normpath(os.path.relpath(run.resolve() / said)))
