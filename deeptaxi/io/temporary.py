"""Scratch folders: private to a process, and removed by the next one if that process was killed.

    <where>/<prefix><host>-<random>/

A scratch folder is locked (`flock` on the folder itself) while its process lives, so its age is not needed to tell
whether it is in use. The lock is trusted only by processes on the same host: on some network file systems a lock holds
only among the processes of one host. There, and where folders cannot be locked, a folder is removed once nothing in it
has been created or removed for a week.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

ASIDE = ".deeptaxi-"  # the prefix of folders beside the destination
TEMPORARY = "deeptaxi-temporary-"  # the prefix of folders in the system's temporary folder
STALE = 7 * 24 * 3600  # seconds
MADE = re.compile("[0-9a-f]{8}-[a-z0-9_]{8}")  # <host>-<random>
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


class Scratch:
    """A folder owned by this process until `close`; also a context manager.

    Attributes:
        path: its path.
        needed: whether to leave it on closing, for `sweep` to rescue its contents.
    """

    def __init__(self, where: Path, prefix: str) -> None:
        """Create the folder.

        Args:
            where: the folder to create it in.
            prefix: the prefix by which `sweep` recognizes it.

        Raises:
            OSError: `where` cannot be written to.
        """
        self._descriptor: int | None = None
        self.needed = False
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"{prefix}{HOST}-", dir=where))
            with contextlib.suppress(BlockingIOError):  # a sweeping process came before the lock, and is removing it
                self._descriptor = locked(self.path)
                if self.path.is_dir():
                    return
            self.let_go()

    def let_go(self) -> None:
        """Unlock the folder and leave it for others to sweep."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Remove the folder unless it is needed; what cannot be removed now is swept later."""
        if not self.needed:
            shutil.rmtree(self.path, ignore_errors=True)
        self.let_go()
        if not self.needed:  # the lock may have been the last open file that `ulimit -n` allows
            shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Scratch:
        """Return the scratch folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the scratch folder."""
        self.close()


def temporary() -> Scratch:
    """Create a scratch folder in the system's temporary folder, after removing those of killed processes.

    Raises:
        OSError: there is no space for it.
    """
    where = Path(tempfile.gettempdir())
    sweep(where, TEMPORARY)
    return Scratch(where, TEMPORARY)


def put_new(aside: Path, path: Path) -> None:
    """Move a new file or folder to its destination if nothing exists there; what appeared meanwhile is left alone.

    Raises:
        FileExistsError: the destination exists.
        OSError: the disk or its permissions prevent it.
    """
    try:
        if not aside.is_dir():
            os.link(aside, path)
            return
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without links
        pass
    if os.path.lexists(path) and not aside.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    try:
        aside.rename(path)  # a folder can replace only an empty folder
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        raise


def locked(folder: Path) -> int | None:
    """Lock a folder; return the descriptor that holds the lock, or None if it cannot be locked or is gone.

    Raises:
        BlockingIOError: it is locked already.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (ImportError, AttributeError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def sweep(where: Path, prefix: str, rescue: Callable[[Path], None] | None = None) -> None:
    """Remove the scratch folders in `where` left by processes that have ended.

    Args:
        where: a folder; it may be missing.
        prefix: the prefix of the scratch folders.
        rescue: called with each folder before it is removed; if it raises OSError, the folder is left.
    """
    with contextlib.suppress(OSError):
        for folder in where.glob(f"{prefix}*"):
            if not MADE.fullmatch(folder.name.removeprefix(prefix)):
                continue  # the user's own
            with contextlib.suppress(OSError):
                sweep_one(folder, here=folder.name.startswith(f"{prefix}{HOST}-"), rescue=rescue)


def sweep_one(folder: Path, here: bool, rescue: Callable[[Path], None] | None = None) -> None:
    """Remove a scratch folder unless its process is alive; `here` says whether it ran on this host.

    Raises:
        BlockingIOError: it is alive.
        OSError: the folder is gone, or `rescue` failed.
    """
    descriptor = locked(folder)
    try:
        known = here and descriptor is not None
        if known or time.time() - folder.lstat().st_mtime > STALE:
            if folder.is_symlink():  # the cache leaves one when it moves the compiler elsewhere
                folder.unlink()
                return
            if rescue is not None:
                rescue(folder)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        if descriptor is not None:
            os.close(descriptor)
