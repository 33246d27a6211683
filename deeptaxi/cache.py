"""Compiled programs, kept from one process to the next.

XLA's own caches trust every file in their folder: TensorFlow ends the training on a truncated entry and runs one with
a flipped bit. So the compiler never sees the folder that is kept. Each process gets a folder of its own with copies of
the entries whose sha256 is right, and when it ends, what was compiled is copied, with its sha256, to the entries that
are kept:

    <root>/<backend>-<version>-<machine>/<name of the compiler>.<sha256 of the content>
    <root>/working-…/<name of the compiler>

An entry is read once, and the bytes that were hashed are the bytes that are written: no name is looked up twice, and
no file is shared with another process, which could replace or change it in between. Nothing that another process does
to the root, and no process that is killed, can then be seen by one that computes.
What a killed process leaves, the next one that ends removes (`io.temporary`). Whatever fails here only means that
there is no cache.

Entries are machine code that is run. Whoever can write an entry names it too, so its sha256 tells damage, and not who
made it; no secret in the folder could tell that to whoever can read it. What is trusted is the system's permissions:
the root and its folders must belong to the user and be written to by nobody else, nor may anyone but the user and the
system's administrator be able to put another folder in the place of the root or of one above it; an entry that is not
the user's own, or that others may write to, is removed. What runs as the user can change the cache, as it can change
deeptaxi itself. Windows, whose permissions Python does not tell, protects the user's own cache folder by default.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

import platformdirs

from deeptaxi.exactness import machine
from deeptaxi.io.temporary import Scratch, sweep, temporary

VARIABLE = "DEEPTAXI_CACHE"
LIMIT = 100 * 2**20  # bytes; the content of all entries is copied at each start, which takes 0.2 s at this size
ROOM = 4 * 2**20  # bytes that must be free; a training needs less than one
WORKING = "working-"
STORE, ENTRY = re.compile(r"\w+-.+-[0-9a-f]{16}"), re.compile(r".+\.[0-9a-f]{64}")  # what is ours to remove
OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Cache:
    """The entries of one backend on one machine, and the folder of this process.

    Attributes:
        working: where the compiler is to read and write.
    """

    def __init__(self, root: Path, *traits: str) -> None:
        """Open the cache.

        Args:
            root: the folder of all entries; it is made if it is missing.
            traits: what the entries depend on beside the program, readable first: backend, version, flags.

        Raises:
            OSError: the folder cannot be used.
        """
        digest = hashlib.sha256("\n".join((*traits, *machine())).encode()).hexdigest()
        for folder in (*reversed(root.parents), root):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._root = root = root.resolve()  # the links on the way to it are followed once, here
        self._store = root / "-".join((*traits[:2], digest[:16]))
        self._owner = os.getpid()
        check_way(root)
        self._store.mkdir(mode=0o700, exist_ok=True)
        if not is_own(self._store.lstat()):
            raise PermissionError(f"{self._store} is not the user's alone")
        self._scratch = Scratch(root, WORKING)
        self.working = self._scratch.path
        self._elsewhere: Scratch | None = None
        try:
            require_room(self.working)
            self._given = self._fill()
        except OSError:
            self._scratch.close()
            raise

    def _fill(self) -> set[str]:
        """Copy all sound entries into the working folder, remove the others; return the names."""
        names: set[str] = set()
        for entry in list_entries(self._store):
            name, _, digest = entry.name.rpartition(".")
            with contextlib.suppress(OSError):  # another process removed it, or made it
                content = entry.read_bytes() if is_own(entry.lstat()) else b""
                if not content or hashlib.sha256(content).hexdigest() != digest:
                    entry.unlink()
                elif name not in names:
                    write_whole(self.working / name, content)
                    names.add(name)
        return names

    def abandon(self) -> None:
        """Give the compiler an empty folder elsewhere: it failed with this one. Nothing is kept of this process."""
        self._given = set()
        self._elsewhere = temporary()
        with contextlib.suppress(OSError):
            if self.working.is_dir():
                shutil.rmtree(self.working)
            else:
                self.working.unlink(missing_ok=True)
        with contextlib.suppress(OSError, NotImplementedError):  # the compiler cannot be told of another path any more
            self.working.symlink_to(self._elsewhere.path, target_is_directory=True)

    def forget(self) -> None:
        """Remove the entries, as the compiler fails with them and does not without."""
        shutil.rmtree(self._store, ignore_errors=True)

    def close(self) -> None:
        """Keep what was compiled, and remove the working folder."""
        if os.getpid() != self._owner:  # a fork of the process that computes
            return
        if self._elsewhere is not None:
            self._elsewhere.close()
            with contextlib.suppress(OSError):
                self.working.unlink()
            self._scratch.let_go()
            return
        with contextlib.suppress(OSError):
            self._keep()
        self._scratch.close()
        sweep(self._root, WORKING)

    def _keep(self) -> None:
        """Copy what is new to the entries that are kept."""
        new = [path for path in self.working.iterdir() if path.name not in self._given and path.suffix != ".tmp"]
        if not new:
            return
        require_room(self.working)  # else the compiler may have run out of it in the middle of an entry
        self._store.mkdir(mode=0o700, exist_ok=True)  # another process may have forgotten all entries
        with Scratch(self._root, WORKING) as scratch:
            for path in new:
                content = path.read_bytes()
                aside = scratch.path / hashlib.sha256(content).hexdigest()
                write_whole(aside, content)
                aside.replace(self._store / f"{path.name}.{aside.name}")
        prune(self._root, LIMIT)


def default_root() -> Path | None:
    """Return the folder of the cache, or None where there is to be none: what `DEEPTAXI_CACHE` says, else the user's.

    Beneath a home folder that is not known there is none either.
    """
    named = os.environ.get(VARIABLE)
    if named is None:
        folder = platformdirs.user_cache_path("deeptaxi", appauthor=False)
        return folder if folder.is_absolute() else None
    return None if named.strip().lower() in ("", "off") else Path(named).absolute()


def open_cache(*traits: str) -> Cache | None:
    """Return the user's cache, or None where there is none or it cannot be used; the arguments are those of `Cache`."""
    root = default_root()
    if root is None:
        return None
    try:
        return Cache(root, *traits)
    except OSError:
        return None


def check_way(root: Path) -> None:
    """Raise OSError if anyone but the user and the system's administrator can put code into a folder, or replace it."""
    if not is_own(root.lstat()):
        raise PermissionError(f"{root} is not the user's alone")
    for folder in root.parents:
        found = folder.lstat()
        sticky = found.st_mode & stat.S_ISVTX  # as of /tmp: only the owner of what is in it, or its own, may rename it
        if hasattr(os, "getuid") and (found.st_uid not in (0, os.getuid()) or (found.st_mode & OTHERS and not sticky)):
            raise PermissionError(f"others may replace what is in {folder}")


def is_own(found: os.stat_result) -> bool:
    """Whether a file or folder, and no link, belongs to the user and may be written to by nobody else."""
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & OTHERS and not stat.S_ISLNK(found.st_mode)


def require_room(folder: Path) -> None:
    """Raise OSError if hardly anything more can be written there."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(ROOM))


def list_entries(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing where it is gone, or is none."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def write_whole(path: Path, content: bytes) -> None:
    """Write a new file, or leave none: half a program would be run.

    Raises:
        OSError: the disk is full, or a file is there.
    """
    try:
        with path.open("xb") as file:
            path.chmod(0o600)  # whatever the user lets others do elsewhere
            file.write(content)
    except FileExistsError:
        raise
    except OSError:
        path.unlink(missing_ok=True)
        raise


def prune(root: Path, limit: int) -> None:
    """Remove the oldest entries until the others take at most `limit` bytes."""
    found = []
    for store in [folder for folder in root.iterdir() if STORE.fullmatch(folder.name) and not folder.is_symlink()]:
        for path in [path for path in list_entries(store) if ENTRY.fullmatch(path.name)]:
            with contextlib.suppress(OSError):  # another process removes it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > limit:
            path.unlink(missing_ok=True)
