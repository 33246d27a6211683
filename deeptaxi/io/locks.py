"""One writer at a time: a folder that a training writes to is locked by its file `.lock`.

The lock is the kernel's (`flock`, by the library filelock), held on the open file and not by the file being there. So
it ends with the process that holds it, however that ends: a file that a killed process left is taken without a word.
What is written in the file only tells whoever is refused by whom.

The file is removed while it is locked. A process that had opened it just before gets the lock of a file without a
name; filelock sees that (`st_nlink` is 0) and tries again with the file that has the name now. Two processes thus
never hold what each takes for the lock of one folder.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import platform
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from deeptaxi.errors import DeepTaxiError, TakenError, printable
from deeptaxi.io.atomic import CURES

LOCK_FILE = ".lock"
TRAINING = "deeptaxi train"  # what the folders of a run are held for
TRIES, PAUSE = 5, 0.02  # s; a file that is being removed as we come is no holder
LONGEST = 6_000  # characters of a file that says who holds it


class InUseError(TakenError):
    """Another training, or this process, holds the lock of a folder."""


class Lock:
    """A folder that is ours until `release`, also as a context manager."""

    def __init__(self, held: Any, path: Path) -> None:
        self._held: Any = held
        self._path = path
        self._number = number_of(path)

    def release(self) -> None:
        """Remove the file and free the folder; a second time does nothing."""
        held, self._held = self._held, None
        if held is None:
            return
        with contextlib.suppress(OSError):
            if number_of(self._path) == self._number:  # else the folder was removed, and another holds the new one
                self._path.unlink()
        with contextlib.suppress(OSError):  # the kernel's lock ends at the latest with this process
            held.release()

    def __enter__(self) -> Lock:
        """Hold it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release it."""
        self.release()


def lock(folder: Path, what: str, option: str = "--out", log: Path | None = None) -> Lock:
    """Take the lock of a folder at once, or refuse at once.

    Args:
        folder: which exists.
        what: what it is held for, for those who are refused.
        option: by which the user chooses the folder; `--resume` leaves no choice.
        log: the log folder of what is written there, for those who want to watch it.

    Raises:
        InUseError: another process holds it, or this one does already.
        DeepTaxiError: the folder cannot be written to, or its file system has no locks.
        FileNotFoundError: the folder is not there: another process that found it empty has just removed it.
    """
    from filelock import FileLock, Timeout  # 0.1 s that only a training need wait for

    path = folder.absolute() / LOCK_FILE
    # filelock's own way without `flock` is a file that outlives a killed process.
    held = FileLock(
        path,
        thread_local=False,
        fallback_to_soft=False,
        preserve_lock_file=True,
        on_acquired=lambda descriptor: write_holder(path, descriptor, what, log),
    )
    for _ in range(TRIES):
        try:
            held.acquire(blocking=False)
        except Timeout:
            time.sleep(PAUSE)
        except FileNotFoundError:
            raise
        except OSError as error:
            cure = CURES.get(error.errno or 0, f"choose an {option} on a file system that has locks")
            if path.is_symlink() or error.errno == errno.EMLINK:
                raise DeepTaxiError(f"cannot lock {folder}: {path} is a link to another file; remove it") from None
            raise DeepTaxiError(f"cannot lock {folder}: {error.strerror or error}; {cure}") from None
        else:
            return Lock(held, path)
    choice = "" if option == "--resume" else f", or choose another {option}"
    raise InUseError(f"{folder} is in use by {holder(path)}: wait for it{choice}")


def in_use(folder: Path) -> str | None:
    """Return who holds the lock of a folder now; None where nobody does, or that cannot be told.

    Nothing is made or changed, and nobody is kept from the lock for longer than it tries (`TRIES`): the file is only
    read, and a shared lock of it, which the holder's excludes, is asked for and given back at once. The file of a
    process that was killed is not locked, whatever it says.
    """
    path = folder / LOCK_FILE
    try:
        import fcntl  # not on Windows

        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (ImportError, OSError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return holder(path)
    except OSError:
        return None
    finally:
        os.close(descriptor)  # and with it the lock
    return None


def remove_stale(folder: Path) -> None:
    """Remove the lock file of a training that was killed: one that says so, and that nobody holds now."""
    if about_holder(folder / LOCK_FILE).get("what") == TRAINING:
        with contextlib.suppress(DeepTaxiError, FileNotFoundError):
            lock(folder, TRAINING).release()


def log_in_use(folder: Path) -> Path | None:
    """Return the log folder that the lock of a folder names; None where it names none."""
    said = about_holder(folder / LOCK_FILE).get("log")
    return folder / said if isinstance(said, str) else None


def number_of(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one of its name."""
    status = path.lstat()
    return status.st_dev, status.st_ino


def write_holder(path: Path, descriptor: int, what: str, log: Path | None = None) -> None:
    """Write into a lock that is held who holds it.

    Raises:
        OSError: the disk is full, and the file is gone then; or it has other names, so that it is no lock of ours.
    """
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    if os.fstat(descriptor).st_nlink > 1:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
    about = {"pid": os.getpid(), "host": platform.node(), "since": since, "what": what}
    if log is not None:
        about["log"] = os.path.relpath(log.resolve(), path.parent.resolve())
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{json.dumps(about)}\n".encode())
    except OSError:
        path.unlink(missing_ok=True)  # it is still ours
        raise


def holder(path: Path) -> str:
    """Return who holds a lock, as far as its file tells."""
    about = about_holder(path)
    try:
        since = datetime.datetime.fromisoformat(about["since"]).astimezone()
        pid, host, what = int(about["pid"]), printable(str(about["host"])), printable(str(about["what"]))
    except (ValueError, LookupError, TypeError):
        return "another process"
    day = "" if since.date() == datetime.datetime.now().astimezone().date() else f"{since:%Y-%m-%d} "
    where = "" if host == platform.node() else f" on {host}"
    who = "this process" if pid == os.getpid() and not where else f"process {pid}{where}"
    return f"{who} ({what}, since {day}{since:%H:%M})"


def about_holder(path: Path) -> dict[str, Any]:
    """Return what the file of a lock says of its holder; nothing where it cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            about = json.loads(file.read(LONGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}
