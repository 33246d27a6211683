"""Moving files that belong together into a folder: all of them or none, whatever fails and whenever one is killed.

What is to come lies in a scratch folder (`deeptaxi.scratch`) inside of the folder, written and synced:

    <folder>/<scratch>/entries/    what is to come
    <folder>/<scratch>/undo/       what stood in its places, while that is put aside
    <folder>/<scratch>/redo/       the same folder renamed: all of it is aside, and `entries` are moved in

A failure puts everything back. After a kill the scratch folder is left, and `rescue` does what is still to be done:
`undo` is put back, or with `redo` the rest of `entries` is moved in. A file that is replaced is there at any time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from deeptaxi.scratch import Scratch

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
