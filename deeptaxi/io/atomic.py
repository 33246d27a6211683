"""Write files so that a crash leaves either the old one or the new one, never half of one.

They are written in a temporary folder (`io.temporary`) beside their place, synced and renamed; then the folder that
they came into is synced, for their names to last as well. Files that belong together are moved into a folder all or
none, whatever fails and whenever the process is killed.
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
    """Move the `entries` of a scratch folder into the folder around it, `last` last; what else `stood` there goes.

    Raises:
        OSError: something failed; the folder is as it was, or `rescue` will mend it.
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
        scratch.needed = True  # should the next lines fail too
        go_back(aside, done)
        scratch.needed = False
        raise


def put_aside(path: Path, aside: Path) -> None:
    """Give what stands in a place a second name, so that it is replaced at once; a folder only has the other name."""
    if path.is_symlink() or path.is_file():
        try:
            os.link(path, aside, follow_symlinks=False)
        except (OSError, NotImplementedError):  # a file system without links
            path.rename(aside)
    elif path.exists():
        path.rename(aside)


def go_back(aside: Path, done: Iterable[str]) -> None:
    """Put the folder around `aside` into the state before: the entries `done` go, what stood there comes back."""
    folder = aside.parent
    if (aside / REDO).exists():
        for name in done:
            (folder / name).rename(aside / ENTRIES / name)
        (aside / REDO).rename(aside / UNDO)
    put_back(aside)


def put_back(aside: Path) -> None:
    """Put back what was put aside, for once and for all."""
    if (aside / UNDO).exists():
        for old in (aside / UNDO).iterdir():
            if not os.path.lexists(aside.parent / old.name):
                old.rename(aside.parent / old.name)
        (aside / UNDO).rename(aside / "undone")


def rescue(aside: Path) -> None:
    """Finish what a process was at when it was killed; `aside` is the scratch folder that it left.

    Raises:
        OSError: that cannot be done now.
    """
    if any((aside / name).is_symlink() for name in (ENTRIES, UNDO, REDO)):  # none of ours
        return
    if (aside / REDO).exists():
        for new in (aside / ENTRIES).iterdir() if (aside / ENTRIES).exists() else ():
            new.replace(aside.parent / new.name)
    else:
        put_back(aside)


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder have reached the disk, where it knows that of folders."""
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


SPARE = ".spare-"  # the prefix of what keeps room in it (`spare`)


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
    """Return the error for a place that cannot be written to: what is wrong, and what to do."""
    cure = CURES.get(error.errno or 0)
    return DiskError(f"cannot write {path}: {error.strerror or error}{f'; {cure}' if cure else ''}")


def of_the_disk(error: Exception) -> OSError | None:
    """Return what an error of a library that does not raise OSError says of the disk; None if it says nothing of it."""
    numbers = (number for number in CURES if os.strerror(number) in str(error))
    return next((OSError(number, os.strerror(number)) for number in numbers), None)


@contextlib.contextmanager
def write_atomic(path: Path, force: bool = True) -> Iterator[Path]:
    """Yield a path in a folder beside `path`, with the same name, to write to; it is synced and takes its place.

    What the block writes may be a file or a folder. A folder that stands in the place stays what it is (a link, a
    mount, the current folder): its entries are replaced, and those that are not written again are removed, so check
    first. What others put there meanwhile is left alone; without `force`, so is a file.

    Raises:
        TakenError: a file came there meanwhile.
        DiskError: the disk or the permissions do not allow it. What stood there before still does.
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
    """Yield a folder to write files to that belong together; all of them, or none, come into `folder`, which is made.

    The one that is called `last` comes last: who sees it sees all.

    Raises:
        DiskError: the disk or the permissions do not allow it. What stood there before still does.
        UsageError: a file stands in the place of the folder.
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
    """Make a scratch folder, after those of killed processes have been seen to."""
    tidy(folder)
    return Scratch(folder, ASIDE)


def tidy(folder: Path) -> None:
    """Finish, or remove, what processes that were killed had begun to write in a folder."""
    sweep(folder, ASIDE, rescue)
    sweep(folder, SPARE)


def listed(folder: Path) -> list[Path]:
    """Return what is in a folder, without what processes are writing there."""
    return [path for path in folder.iterdir() if not path.name.startswith(ASIDE)]


def sync(path: Path) -> None:
    """Make sure that what was written, a file or a folder, has reached the disk."""
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
    """Refuse to write to a place that is taken.

    Args:
        path: where a file or folder is about to be written.
        force: whether the user asked to overwrite.
        replaceable: whether what stands there is of the kind that would replace it.
        option: by which the user chooses the place.

    Raises:
        TakenError: it is taken, and may be overwritten with `force`.
        UsageError: it is taken by something else.
    """
    if not os.path.lexists(path):  # a link that leads nowhere stands there, too
        return
    if not replaceable:
        raise UsageError(
            f"{path} exists and is something else, so --force does not replace it; choose another {option}"
        )
    if not force:
        raise TakenError(f"{path} exists; choose another {option}, or overwrite it with --force")


def check_no_link(path: Path) -> None:
    """Refuse a folder of ours that is a link: what is removed in it would be somebody else's.

    Raises:
        UsageError: it is one.
    """
    if path.is_symlink():
        raise UsageError(f"{path} is a link, which is not followed: remove it, or put what it leads to in its place")


def make_folder(path: Path) -> list[Path]:
    """Create a folder that can be written to; return the folders that are new, the innermost first.

    Raises:
        DeepTaxiError: it cannot be created or written to.
        UsageError: a file stands in its place, or its name is no text, so that no file could tell it.
        FileNotFoundError: another process removes it at this moment.
    """
    if not encodable(str(path)):
        raise UsageError(f"{path}: a name that is no Unicode text; choose another")
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return new
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} cannot be a folder: a file of that name stands in the way") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from None


def remove_if_empty(path: Path) -> None:
    """Remove a folder if nothing is in it."""
    with contextlib.suppress(OSError):
        path.rmdir()
