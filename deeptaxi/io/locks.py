"""One writer at a time: a folder that a training writes to is locked by its file `.lock`.

The lock is the kernel's (`flock`, through the library filelock): it is held on the open file, not by the file's
existence. So it ends with the process that holds it, however that ends, and a file left by a killed process does not
block anyone. The file's content only tells others who holds the lock.

The file is removed while it is locked. A process that opened it just before locks a file without a name; filelock
detects that (`st_nlink` is 0) and retries with the file that now has the name. So two processes never both hold what
each takes for the lock of one folder.
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
TRAINING = "deeptaxi train"  # what the folders of a run are locked for
TRIES, PAUSE = 5, 0.02  # s; a file being removed just then does not count as held
LONGEST = 6_000  # characters of the file that names the holder


class InUseError(TakenError):
    """Another training, or this process, holds the lock of a folder."""


class Lock:
    """A folder locked until `release`; also a context manager."""

    def __init__(self, held: Any, path: Path) -> None:
        self._held: Any = held
        self._path = path
        self._number = number_of(path)

    def release(self) -> None:
        """Remove the file and unlock the folder; calling it again does nothing."""
        held, self._held = self._held, None
        if held is None:
            return
        with contextlib.suppress(OSError):
            if number_of(self._path) == self._number:  # else another process holds a new file
                self._path.unlink()
        with contextlib.suppress(OSError):  # the kernel's lock ends at the latest with this process
            held.release()

    def __enter__(self) -> Lock:
        """Return the lock."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the lock."""
        self.release()


def lock(folder: Path, what: str, option: str = "--out", log: Path | None = None) -> Lock:
    """Lock a folder, or fail immediately.

    Args:
        folder: an existing folder.
        what: the purpose, shown to other processes.
        option: the option by which the user chooses the folder; `--resume` leaves no choice.
        log: the log folder of the run, for those who want to watch it.

    Raises:
        InUseError: another process, or this one, holds the lock already.
        DeepTaxiError: the folder cannot be written to, or its file system has no locks.
        FileNotFoundError: the folder is missing: another process that found it empty has just removed it.
    """
    from filelock import FileLock, Timeout  # 0.1 s that only a training needs to wait for

    path = folder.absolute() / LOCK_FILE
    # Without `flock`, filelock falls back to a file that outlives a killed process.
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
    """Return the current holder of a folder's lock; None if nobody holds it, or it is unknown.

    Nothing is created or changed, and nobody is kept from the lock for longer than they retry (`TRIES`): the file is
    only read, and a shared lock, which the holder's lock excludes, is requested and released at once. The file of a
    killed process is not locked, whatever it says.
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
        os.close(descriptor)  # also releases the lock
    return None


def remove_stale(folder: Path) -> None:
    """Remove the lock file of a killed training: one that says so, and that nobody holds now."""
    if about_holder(folder / LOCK_FILE).get("what") == TRAINING:
        with contextlib.suppress(DeepTaxiError, FileNotFoundError):
            lock(folder, TRAINING).release()


def log_in_use(folder: Path) -> Path | None:
    """Return the log folder recorded in a folder's lock, or None."""
    said = about_holder(folder / LOCK_FILE).get("log")
    return folder / said if isinstance(said, str) else None


def number_of(path: Path) -> tuple[int, int]:
    """Return the identity of a file, regardless of its name."""
    status = path.lstat()
    return status.st_dev, status.st_ino


def write_holder(path: Path, descriptor: int, what: str, log: Path | None = None) -> None:
    """Record the holder in a lock that is held.

    Raises:
        OSError: the disk is full, and the file has been removed; or it has other links, so it is not our lock.
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
    """Return who holds a lock, according to its file."""
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
    """Return what a lock file says about its holder; empty if it cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            about = json.loads(file.read(LONGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}
