"""Scratch folders: private to a process, and swept by the next one if that process was killed.

    <where>/<prefix><host>-<random>/

A scratch folder is locked (`flock` on the folder itself) as long as its process lives, so nobody needs to guess from
its age whether it is still in use. Only a process of the same host goes by the lock: there are network file systems on
which a lock holds among the processes of one host alone. There, and where folders cannot be locked, a folder is swept
once nothing in it has been made or removed for a week.
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

ASIDE = ".deeptaxi-"  # the prefix of what is being written beside its place
TEMPORARY = "deeptaxi-temporary-"  # the prefix among the temporary files of all
STALE = 7 * 24 * 3600  # seconds
MADE = re.compile("[0-9a-f]{8}-[a-z0-9_]{8}")  # <host>-<random>
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


class Scratch:
    """A folder of this process, until `close`; also as a context manager.

    Attributes:
        path: where it is.
        needed: whether it is to stay when it is closed, for `sweep` to rescue what is in it.
    """

    def __init__(self, where: Path, prefix: str) -> None:
        """Make it.

        Args:
            where: the folder that it is made in.
            prefix: by which `sweep` knows its like.

        Raises:
            OSError: that cannot be written to.
        """
        self._descriptor: int | None = None
        self.needed = False
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"{prefix}{HOST}-", dir=where))
            with contextlib.suppress(BlockingIOError):  # who sweeps came before the lock, and removes it now
                self._descriptor = locked(self.path)
                if self.path.is_dir():
                    return
            self.let_go()

    def let_go(self) -> None:
        """Unlock the folder: what is left of it is for others to sweep."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Remove the folder unless it is needed; what cannot be removed now is swept later."""
        if not self.needed:
            shutil.rmtree(self.path, ignore_errors=True)
        self.let_go()

    def __enter__(self) -> Scratch:
        """Use it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove it."""
        self.close()


def temporary() -> Scratch:
    """Make a scratch folder among the temporary files, after those of killed processes there were removed.

    Raises:
        OSError: there is no room for it.
    """
    where = Path(tempfile.gettempdir())
    sweep(where, TEMPORARY)
    return Scratch(where, TEMPORARY)


def put_new(aside: Path, path: Path) -> None:
    """Move what was written aside to its place, if nothing stands there: what came since it was looked at is kept.

    Raises:
        FileExistsError: something stands there.
        OSError: the disk or the permissions do not allow it.
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
        aside.rename(path)  # a folder takes the place of an empty one alone
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        raise


def locked(folder: Path) -> int | None:
    """Lock a folder; return the open file that holds the lock, None where folders cannot be locked or it is gone.

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
    """Remove the scratch folders in `where` whose processes have ended without doing so.

    Args:
        where: a folder; it may be gone.
        prefix: of the scratch folders.
        rescue: called with each before it is removed; one for which it raises OSError is left there.
    """
    with contextlib.suppress(OSError):
        for folder in where.glob(f"{prefix}*"):
            if not MADE.fullmatch(folder.name.removeprefix(prefix)):
                continue  # the user's own
            with contextlib.suppress(OSError):
                sweep_one(folder, here=folder.name.startswith(f"{prefix}{HOST}-"), rescue=rescue)


def sweep_one(folder: Path, here: bool, rescue: Callable[[Path], None] | None = None) -> None:
    """Remove a scratch folder unless its process lives; `here` says whether that is one of this host.

    Raises:
        BlockingIOError: it lives.
        OSError: it is gone, or `rescue` failed.
    """
    descriptor = locked(folder)
    try:
        known = here and descriptor is not None
        if known or time.time() - folder.lstat().st_mtime > STALE:
            if folder.is_symlink():  # the cache leaves one where the compiler was sent elsewhere
                folder.unlink()
                return
            if rescue is not None:
                rescue(folder)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        if descriptor is not None:
            os.close(descriptor)
