"""Write files so that a crash leaves either the old one or the new one, never half of one.

Files are written in a temporary folder (`io.temporary`) beside their destination, synced and renamed; then the
destination folder is synced, so that their names last as well. Files that belong together are moved into a folder all
or none, whatever fails and whenever the process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from deeptaxi.errors import DiskError, TakenError, UsageError, encodable
from deeptaxi.io.temporary import ASIDE, Scratch, put_new, sweep

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
