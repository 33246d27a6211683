"""One log after the other in one folder.

The files of a log belong to one training. Those of the training before stand aside, in `.previous`, until the new one
has ended well; if it fails they come back, and its own `metrics.jsonl` is left as `metrics.failed.jsonl`, where it
occupies no name.

Whatever breaks that off, the next training finds it out: `.previous` appears with all of its files at once, and its
records are the last to come back.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deeptaxi.artifacts.files import scratch_in
from deeptaxi.reading import MAX_LINE
from deeptaxi.records import Finished, from_line

LOG_FILE, VISITS_FILE = "metrics.jsonl", "visits.npz"
EVENTS = "events.out.tfevents.*.deeptaxi"
PREVIOUS, FAILED_FILE = ".previous", "metrics.failed.jsonl"


def files_of(folder: Path) -> list[Path]:
    """Return the files of the log in a folder; there may be others."""
    return [path for name in (LOG_FILE, VISITS_FILE, EVENTS) for path in folder.glob(name)]


def set_aside(folder: Path) -> None:
    """Set the log of the training before aside, unless one stands there already: that of the run that was kept.

    All of its files are aside at the same moment, so that none is lost if this breaks off.
    """
    if (folder / PREVIOUS).exists():
        settle(folder, failed=end_of(folder / LOG_FILE) is None)
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
    """Give a file a second name, or copy it where the file system has no such thing."""
    try:
        other.hardlink_to(path)
    except (OSError, NotImplementedError):
        shutil.copyfile(path, other)


def settle(folder: Path, failed: bool) -> None:
    """Drop the log that stands aside, or put it back if the new training failed; again, if that was broken off."""
    previous = folder / PREVIOUS
    aside = files_of(previous)
    if failed and (aside or not previous.exists()):  # else all is back
        give_up(folder)
        for path in reversed(aside):  # the records last: while they are aside, the log is
            path.replace(folder / path.name)
    shutil.rmtree(previous, ignore_errors=True)


def give_up(folder: Path) -> None:
    """Let the log in a folder be that of a training that failed: its records keep another name, the rest goes."""
    log, old = folder / LOG_FILE, folder / PREVIOUS / LOG_FILE
    if not log.exists():
        return
    for path in files_of(folder):
        if path != log:
            path.unlink()
    if not (old.exists() and log.samefile(old)):  # else it is the old one, which was about to go
        log.replace(folder / FAILED_FILE)


def end_of(log: Path) -> Finished | None:
    """Return what a log says of the end of its training; None where it has none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_LINE))
            *_, last = file.read(MAX_LINE).splitlines() or [b""]
        record = from_line(last)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, Finished) else None
