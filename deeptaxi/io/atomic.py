"""Write files so that a crash leaves either the old one or the new one, never half of one.

Files are written in a scratch folder beside their destination, synced and renamed; then the destination folder is
synced, so that their names last as well. Files that belong together are moved into a folder all
or none, whatever fails and whenever the process is killed.

**Scratch folders** are private to a process, and removed by the next one if that process was killed.

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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from deeptaxi.errors import DiskError, TakenError, UsageError, encodable

ENTRIES, UNDO, REDO = "entries", "undo", "redo"


def move_in(scratch: Scratch, stood: Iterable[str] = (), last: str = "") -> None:
    """Move the `entries` of a scratch folder to its parent, `last` last; remove the others in `stood`.

    Raises:
        OSError: something failed; the folder is unchanged, or `rescue` will repair it.
    """
    aside, folder = scratch.path, scratch.path.parent
    names = sorted((path.name for path in (aside / ENTRIES).iterdir()), key=last.__eq__)
    undo, redo = aside / UNDO, aside / REDO
    done: list[str] = []
    try:
        undo.mkdir()
        for name in set(stood).difference(names):
            (folder / name).rename(undo / name)
        for name in names:
            put_aside(folder / name, undo / name)
        undo.rename(redo)
        sync_folder(aside)
        for name in names:
            (aside / ENTRIES / name).replace(folder / name)
            done.append(name)
        sync_folder(folder)
    except BaseException:
        scratch.needed = True  # in case the next lines fail too
        go_back(aside, done)
        scratch.needed = False
        raise


def put_aside(path: Path, aside: Path) -> None:
    """Give an existing entry a second name, so that it is replaced atomically; a folder is renamed."""
    if path.is_symlink() or path.is_file():
        try:
            os.link(path, aside, follow_symlinks=False)
        except (OSError, NotImplementedError):  # a file system without links
            path.rename(aside)
    elif path.exists():
        path.rename(aside)


def go_back(aside: Path, done: Iterable[str]) -> None:
    """Roll back the folder around `aside`: remove the entries `done` and restore the previous ones."""
    folder = aside.parent
    if (aside / REDO).exists():
        for name in done:
            (folder / name).rename(aside / ENTRIES / name)
        (aside / REDO).rename(aside / UNDO)
    put_back(aside)


def put_back(aside: Path) -> None:
    """Restore the entries put aside, and mark that as done."""
    if (aside / UNDO).exists():
        for old in (aside / UNDO).iterdir():
            if not os.path.lexists(aside.parent / old.name):
                old.rename(aside.parent / old.name)
        (aside / UNDO).rename(aside / "undone")


def rescue(aside: Path) -> None:
    """Complete what a killed process was doing; `aside` is the scratch folder it left.

    Raises:
        OSError: it cannot be completed now.
    """
    if any((aside / name).is_symlink() for name in (ENTRIES, UNDO, REDO)):  # not ours
        return
    if (aside / REDO).exists():
        for new in (aside / ENTRIES).iterdir() if (aside / ENTRIES).exists() else ():
            new.replace(aside.parent / new.name)
    else:
        put_back(aside)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, on systems that can sync folders."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


SPARE = ".spare-"  # the prefix of the file that reserves space (`spare`)


CURES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have your quota raised",
    errno.EFBIG: "have the limit raised (`ulimit -f`), or choose another file system",
    errno.EIO: "the disk or the way to it is at fault: choose another",
    errno.EMFILE: "allow this program more open files (`ulimit -n`)",
    errno.ENFILE: "close other programs: the system has no more files to open",
    errno.EROFS: "choose a place where you may write",
    errno.EACCES: "choose a place where you may write",
    errno.EPERM: "choose a place where you may write",
}


def cannot_write(path: Path, error: OSError) -> DiskError:
    """Create the error for a path that cannot be written: what is wrong, and what to do."""
    cure = CURES.get(error.errno or 0)
    return DiskError(f"cannot write {path}: {error.strerror or error}{f'; {cure}' if cure else ''}")


def of_the_disk(error: Exception) -> OSError | None:
    """Convert a library's error that is not an OSError to one if it is about the disk; else return None."""
    numbers = (number for number in CURES if os.strerror(number) in str(error))
    return next((OSError(number, os.strerror(number)) for number in numbers), None)


@contextlib.contextmanager
def write_atomic(path: Path, force: bool = True) -> Iterator[Path]:
    """Yield a path of the same name in a folder beside `path`; what is written there is synced and replaces it.

    The block may write a file or a folder. An existing folder keeps its identity (a link, a mount, the current
    folder): its entries are replaced, and those that are not written again are removed, so check first. Entries that
    others add meanwhile are left alone; without `force`, so is a file.

    Raises:
        TakenError: a file appeared there meanwhile.
        DiskError: the disk or its permissions prevent it. What was there before is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stood = {item.name for item in listed(path)} if path.is_dir() else None
        with scratch_in(path.parent if stood is None else path) as scratch:
            aside = scratch.path / (path.name or "new")
            yield aside
            sync(aside)
            if stood is not None and aside.is_dir():
                aside.rename(scratch.path / ENTRIES)
                move_in(scratch, stood)
            else:
                (Path.replace if force else put_new)(aside, path)
                sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, FileExistsError) and not force:
            raise TakenError(f"{path} was written by another process meanwhile; overwrite it with --force") from None
        raise cannot_write(path, error) from None


@contextlib.contextmanager
def write_atomic_all(folder: Path, last: str = "") -> Iterator[Path]:
    """Yield a folder for files that belong together; all or none are moved to `folder`, created if missing.

    The file named `last` is moved last: whoever sees it sees all.

    Raises:
        DiskError: the disk or its permissions prevent it. What was there before is intact.
        UsageError: the folder's path is an existing file.
    """
    new: list[Path] = []
    try:
        new = make_folder(folder)
        with scratch_in(folder) as scratch:
            entries = scratch.path / ENTRIES
            entries.mkdir()
            yield entries
            sync(entries)
            move_in(scratch, last=last)
    except BaseException as error:
        for made in new:
            remove_if_empty(made)
        if isinstance(error, OSError):
            raise cannot_write(folder, error) from None
        raise


def scratch_in(folder: Path) -> Scratch:
    """Create a scratch folder, after cleaning up those of killed processes."""
    tidy(folder)
    return Scratch(folder, ASIDE)


def tidy(folder: Path) -> None:
    """Complete or remove what killed processes had begun to write in a folder."""
    sweep(folder, ASIDE, rescue)
    sweep(folder, SPARE)


def listed(folder: Path) -> list[Path]:
    """Return the contents of a folder, without what other processes are writing there."""
    return [path for path in folder.iterdir() if not path.name.startswith(ASIDE)]


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    for item in [*path.rglob("*"), path] if path.is_dir() else [path]:
        if item.is_dir():
            sync_folder(item)
        elif item.is_file():
            with item.open("rb+") as file:
                os.fsync(file.fileno())


def write_text(path: Path, text: str, force: bool = True) -> None:
    """Write a text file atomically; see `write_atomic`."""
    with write_atomic(path, force) as aside:
        aside.write_text(text, encoding="utf-8")


def check_free(path: Path, force: bool, replaceable: bool = True, option: str = "--out") -> None:
    """Refuse to write to an existing path.

    Args:
        path: where a file or folder is about to be written.
        force: whether the user asked to overwrite.
        replaceable: whether the existing entry is of the kind that would replace it.
        option: the option by which the user chooses the path.

    Raises:
        TakenError: it exists, and may be overwritten with `force`.
        UsageError: it exists and is of another kind.
    """
    if not os.path.lexists(path):  # true for a dangling link, too
        return
    if not replaceable:
        raise UsageError(
            f"{path} exists and is something else, so --force does not replace it; choose another {option}"
        )
    if not force:
        raise TakenError(f"{path} exists; choose another {option}, or overwrite it with --force")


def check_no_link(path: Path) -> None:
    """Reject one of our folders if it is a link: files removed through it would not be ours.

    Raises:
        UsageError: it is a link.
    """
    if path.is_symlink():
        raise UsageError(f"{path} is a link, which is not followed: remove it, or replace it with what it points to")


def make_folder(path: Path) -> list[Path]:
    """Create a writable folder; return the newly created folders, innermost first.

    Raises:
        DeepTaxiError: it cannot be created or written to.
        UsageError: a file of that name exists, or the name cannot be encoded as text.
        FileNotFoundError: another process is removing it.
    """
    if not encodable(str(path)):
        raise UsageError(f"{path}: the name is not valid Unicode; choose another")
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return new
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} cannot be a folder: a file of that name is in the way") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from None


def remove_if_empty(path: Path) -> None:
    """Remove a folder if it is empty."""
    with contextlib.suppress(OSError):
        path.rmdir()


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
