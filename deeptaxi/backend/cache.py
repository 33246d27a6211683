"""A persistent cache of compiled programs.

XLA's own caches trust every file in their folder: TensorFlow aborts the training on a truncated entry and executes one
with a flipped bit. So the compiler never sees the persistent folder. Each process gets its own working folder with
copies of the entries whose sha256 matches; on exit, newly compiled programs are copied, with their sha256, to the
persistent entries:

    <root>/<backend>-<version>-<machine>/<compiler's file name>.<sha256 of the content>
    <root>/working-…/<compiler's file name>

An entry is read once, and the bytes that were hashed are the bytes that are written: no name is resolved twice, and no
file is shared with another process, which could replace or change it in between. So a computing process is unaffected
by whatever another process does to the root, and by processes that are killed. The working folder of a killed process
is removed by the next process that exits (`io.atomic`). Any failure here only means running without a cache.

Entries are executable machine code. Anyone who can write an entry can also name it, so the sha256 detects damage but
does not authenticate; a secret in the folder would not either, as anyone who can read it could use it. What is trusted
is file permissions: the root and its folders must belong to the user and be writable by nobody else, and only the user
and the administrator may be able to replace the root or a folder above it; an entry that is not the user's own, or
that others may write to, is removed. Any process running as the user can change the cache, just as it can change
deeptaxi itself. On Windows, whose permissions Python does not expose, the user's cache folder is protected by default.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from deeptaxi.io.atomic import Scratch, sweep, temporary
from deeptaxi.io.permissions import check_way, is_own
from deeptaxi.machine import compiler_target

VARIABLE = "DEEPTAXI_CACHE"
LIMIT = 100 * 2**20  # bytes; all entries are copied at each start, which takes 0.2 s at this size
ROOM = 4 * 2**20  # bytes that must be free; a training needs less than one
WORKING = "working-"
STORE, ENTRY = re.compile(r"\w+-.+-[0-9a-f]{16}"), re.compile(r".+\.[0-9a-f]{64}")  # files that we may remove


class Cache:
    """The entries for one backend on one machine, and the working folder of this process.

    Attributes:
        working: the folder that the compiler reads and writes.
    """

    def __init__(self, root: Path, *traits: str) -> None:
        """Open the cache.

        Args:
            root: the folder of all entries; created if missing.
            traits: what the entries depend on besides the program, most readable first: backend, version, flags.

        Raises:
            OSError: the folder cannot be used.
        """
        digest = hashlib.sha256("\n".join((*traits, *compiler_target())).encode()).hexdigest()
        for folder in (*reversed(root.parents), root):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._root = root = root.resolve()  # resolve symbolic links once, here
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
        """Copy all valid entries into the working folder and remove the others; return the names."""
        names: set[str] = set()
        for entry in list_entries(self._store):
            name, _, digest = entry.name.rpartition(".")
            with contextlib.suppress(OSError):  # another process removed or created it
                content = entry.read_bytes() if is_own(entry.lstat()) else b""
                if not content or hashlib.sha256(content).hexdigest() != digest:
                    entry.unlink()
                elif name not in names:
                    write_whole(self.working / name, content)
                    names.add(name)
        return names

    def abandon(self) -> None:
        """Move the compiler, which failed with this folder, to an empty one; save nothing from this process."""
        self._given = set()
        self._elsewhere = temporary()
        with contextlib.suppress(OSError):
            if self.working.is_dir():
                shutil.rmtree(self.working)
            else:
                self.working.unlink(missing_ok=True)
        with contextlib.suppress(OSError, NotImplementedError):  # the compiler's path can no longer be changed
            self.working.symlink_to(self._elsewhere.path, target_is_directory=True)

    def forget(self) -> None:
        """Remove the entries: the compiler fails with them and works without."""
        shutil.rmtree(self._store, ignore_errors=True)

    def close(self) -> None:
        """Save newly compiled programs and remove the working folder."""
        if os.getpid() != self._owner:  # a fork of the computing process
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
        """Copy new programs to the persistent entries."""
        new = [path for path in self.working.iterdir() if path.name not in self._given and path.suffix != ".tmp"]
        if not new:
            return
        require_room(self.working)  # otherwise the compiler may have run out of space in the middle of an entry
        self._store.mkdir(mode=0o700, exist_ok=True)  # another process may have removed all entries
        with Scratch(self._root, WORKING) as scratch:
            for path in new:
                content = path.read_bytes()
                aside = scratch.path / hashlib.sha256(content).hexdigest()
                write_whole(aside, content)
                aside.replace(self._store / f"{path.name}.{aside.name}")
        prune(self._root, LIMIT)


def default_root() -> Path | None:
    """Return the cache folder: `DEEPTAXI_CACHE`, else the user's; None if disabled.

    Without a known home folder there is no cache either.
    """
    named = os.environ.get(VARIABLE)
    if named is None:
        folder = platformdirs.user_cache_path("deeptaxi", appauthor=False)
        return folder if folder.is_absolute() else None
    return None if named.strip().lower() in ("", "off") else Path(named).absolute()


def open_cache(*traits: str) -> Cache | None:
    """Open the user's cache; return None if it is disabled or unusable. Takes the arguments of `Cache`."""
    root = default_root()
    if root is None:
        return None
    try:
        return Cache(root, *traits)
    except OSError:
        return None


def require_room(folder: Path) -> None:
    """Raise OSError if the disk is almost full."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(ROOM))


def list_entries(folder: Path) -> list[Path]:
    """Return the contents of a folder, or nothing if it is missing or not a folder."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def write_whole(path: Path, content: bytes) -> None:
    """Write a new file completely or not at all: half a program would be executed.

    Raises:
        OSError: the disk is full, or the file exists.
    """
    try:
        with path.open("xb") as file:
            path.chmod(0o600)  # regardless of the user's umask
            file.write(content)
    except FileExistsError:
        raise
    except OSError:
        path.unlink(missing_ok=True)
        raise


def prune(root: Path, limit: int) -> None:
    """Remove the oldest entries until the others take at most `limit` bytes."""
    stores = [folder for folder in root.iterdir() if STORE.fullmatch(folder.name) and not folder.is_symlink()]
    remove_oldest([path for store in stores for path in list_entries(store) if ENTRY.fullmatch(path.name)], limit)


def remove_oldest(paths: Iterable[Path], limit: int) -> None:
    """Remove the oldest files until the others take at most `limit` bytes."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):  # another process is removing it
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    total = 0
    for _, size, path in sorted(found, reverse=True):
        total += size
        if total > limit:
            path.unlink(missing_ok=True)
