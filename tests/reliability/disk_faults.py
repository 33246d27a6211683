"""Every write that deeptaxi makes, on a disk that fails at each point of it in turn: is anything lost?

Each write (`disk_writes`) is done on a folder where something stood before. Its operations on the disk are counted once
without a fault; then it is done again and again, and each time the next operation fails (`failing_disk`): with an error
(no space, an error of the device, a quota, a read-only file system in turn), as half of a write on a disk that is full
from then on, or so that everything fails from there on, as after kill -9. So no point is left out that Python can see.
Afterwards

    what stood before is there and sound, or the new one is, whole;
    the user got one line, or it was done;
    it can be done again: a training is resumed, and ends with the weights of the undisturbed one;
    nothing is left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeptaxi.errors import DeepTaxiError
from tests.reliability.disk_runs import run_writes, slow_writes
from tests.reliability.disk_writes import Write, quick_writes
from tests.reliability.failing_disk import Disk, failing

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EFBIG)
MEMORY = "/dev/shm"  # noqa: S108 - only private folders are made there
KINDS = ("error", "short", "dead")


@dataclass(frozen=True)
class Outcome:
    """What one fault came to.

    Attributes:
        write: what was being written.
        point: the number of the operation that failed, from 1.
        points: how many there are.
        kind: `error`, `short` or `dead`.
        number: the errno, by name.
        operation: what failed, and on which file.
        stands: `old` or `new`: what was there afterwards.
        line: the message to the user; None where the write was done all the same.
        fault: what was lost or left behind; None if nothing.
    """

    write: str
    point: int
    points: int
    kind: str
    number: str
    operation: str
    stands: str
    line: str | None
    fault: str | None


def writes(folder: Path, short: bool) -> list[Write]:
    """Return all writes; `short` leaves out those that take long."""
    found = [*quick_writes(folder), *run_writes(folder)]
    return found if short else [*found, *slow_writes(folder)]


def run(points: int | None = None, short: bool = False, names: Sequence[str] | None = None) -> list[Outcome]:
    """Let the disk fail at the points of every write.

    Args:
        points: how many of each kind of fault at most, evenly spread, in a write that takes its time; None for what it
            asks for. The others always have all.
        short: leave out what takes longest, such as exports that are read back.
        names: of the writes; None for all.
    """
    with in_memory() as folder:
        chosen = [write for write in writes(folder, short) if names is None or write.name in names]
        most = {write.name: write.most and min(write.most, points or write.most) for write in chosen}
        return [one for write in chosen for kind in KINDS for one in outcomes(write, kind, most[write.name])]


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    """Yield a folder for the writes; in memory where there is one: thousands of waits for a disk show nothing more."""
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="deeptaxi-faults-", dir=memory) as folder:
        yield Path(folder).resolve()


def outcomes(write: Write, kind: str, points: int | None = None) -> Iterator[Outcome]:
    """Do a write once for each of its points, where it meets a fault."""
    with undisturbed(write) as folder, failing(Disk(folder)) as disk:
        write.act(folder)
    done = disk.done
    found = [point for point, name in enumerate(done, 1) if kind != "short" or name == "write"]
    step = 1 if points is None else max(1, len(found) / points)
    chosen = [found[int(place * step)] for place in range(len(found)) if int(place * step) < len(found)]
    for point in chosen:
        number = ERRORS[point % len(ERRORS)] if kind == "error" else errno.ENOSPC
        yield outcome(write, Disk(Path(), point, number, kind), len(done))


class undisturbed:  # noqa: N801 - a context manager
    """The folder of a write, as it is before."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def __enter__(self) -> Path:
        shutil.rmtree(self._write.folder, ignore_errors=True)
        self._write.folder.mkdir(parents=True)
        self._write.prepare(self._write.folder)
        return self._write.folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._write.folder, ignore_errors=True)


def outcome(write: Write, disk: Disk, points: int) -> Outcome:
    """Do a write that meets one fault, and look what came of it."""
    line, fault, stands = None, None, "?"
    with undisturbed(write) as folder:
        disk.folder = folder
        try:
            with failing(disk):
                write.act(folder)
        except DeepTaxiError as error:
            line = str(error)
            fault = "more than one line" if "\n" in line else None
        except Exception as error:
            line, fault = repr(error), f"no error of ours: {error!r}"
        try:
            stands = write.look(folder, disk.kind == "dead", line is None)
            write.again(folder, stands)
        except Exception as error:
            fault = fault or f"afterwards: {error!r}"
    name = errno.errorcode[disk.number]
    return Outcome(write.name, disk.point, points, disk.kind, name, disk.failed or "-", stands, line, fault)
