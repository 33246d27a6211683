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
What a killed process leaves, the next one that ends removes (`deeptaxi.scratch`). Whatever fails here only means that
there is no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

import platformdirs

from deeptaxi.scratch import Scratch, sweep, temporary

VARIABLE = "DEEPTAXI_CACHE"
LIMIT = 100 * 2**20  # bytes; the content of all entries is copied at each start, which takes 0.2 s at this size
ROOM = 4 * 2**20  # bytes that must be free; a training needs less than one
WORKING = "working-"
CPU_TRAITS = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features", "isa", "cpu\t")


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
        self._root = root
        self._store = root / "-".join((*traits[:2], digest[:16]))
        self._owner = os.getpid()
        for folder in (root, self._store):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            refuse_foreign(folder)
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
        for entry in listed(self._store):
            name, _, digest = entry.name.rpartition(".")
            with contextlib.suppress(OSError):  # another process removed it, or made it
                content = entry.read_bytes()
                if hashlib.sha256(content).hexdigest() != digest:
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


def machine() -> list[str]:
    """Return what compiled code depends on: the processor, and how many there are to share the work."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    named = [platform.system(), platform.machine(), str(cores)]
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            first = iter(lines.readline, "\n")  # up to the empty line after the first processor
            return named + [line.strip() for line in first if line and line.startswith(CPU_TRAITS)]
    except OSError:
        return [*named, platform.processor(), platform.node()]


def refuse_foreign(folder: Path) -> None:
    """Raise OSError if others could put code there."""
    if hasattr(os, "getuid"):
        found = folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o002:
            raise PermissionError(f"{folder} is not the user's own")


def require_room(folder: Path) -> None:
    """Raise OSError if hardly anything more can be written there."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(ROOM))


def listed(folder: Path) -> list[Path]:
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
            file.write(content)
    except FileExistsError:
        raise
    except OSError:
        path.unlink(missing_ok=True)
        raise


def prune(root: Path, limit: int) -> None:
    """Remove the oldest entries until the others take at most `limit` bytes."""
    found = []
    for store in [folder for folder in root.iterdir() if not folder.name.startswith(WORKING)]:
        for path in listed(store):
            with contextlib.suppress(OSError):  # another process removes it
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > limit:
            path.unlink(missing_ok=True)
