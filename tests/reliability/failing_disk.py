"""A disk that fails: within `failing`, operation number N on a folder, as Python sees it, ends in an error.

Every call of this process that can change what is in the folder, or fail on the way, is counted: to open for writing,
write, close, sync, make, link, rename, remove, cut. The call is the operating system's own (`os.*`, and the raw layer
beneath `open`), so it does not matter which library makes it; what C++ writes by itself (a SavedModel) is not seen.

A fault is one of

    error     the call fails with an errno and does nothing
    short     a write takes half of what it is given and says so, and nothing can be written or made from then on: a
              disk that fills up
    dead      this call and all later ones fail: to the folder it is the same as kill -9 at that moment
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ON_PATHS = ("mkdir", "rmdir", "unlink", "remove", "truncate", "chmod", "utime")
ON_TWO_PATHS = ("rename", "replace", "link", "symlink")
GROWING = ("write", "mkdir", "link", "symlink")
ON_FILES = ("write", "fsync", "fdatasync", "ftruncate")


@dataclass
class Disk:
    """What happens to a folder.

    Attributes:
        folder: operations below it count.
        point: the number of the operation that fails, from 1; 0 for none.
        number: the errno.
        kind: `error`, `short` or `dead`.
        only: the names of the operations that count; empty for all.
        done: the operations so far, by name.
        failed: what failed, or None.
    """

    folder: Path
    point: int = 0
    number: int = errno.ENOSPC
    kind: str = "error"
    only: tuple[str, ...] = ()
    done: list[str] = field(default_factory=list)
    failed: str | None = None

    def meets(self, operation: str, path: str) -> bool:
        """Count an operation; whether it is to be a short write. Raises OSError where it is to fail."""
        if not inside(path, self.folder) or (self.only and operation not in self.only):
            return False
        self.done.append(operation)
        now = len(self.done)
        after_half = self.kind == "short" and self.failed is not None and operation in GROWING
        if now == self.point and self.kind == "short" and operation == "write":
            self.failed = f"short {operation} {path}"
            return True
        if now == self.point or after_half or (self.kind == "dead" and 0 < self.point <= now):
            self.failed = self.failed or f"{operation} {path}"
            raise OSError(self.number, os.strerror(self.number), path)
        return False


def inside(path: str, folder: Path) -> bool:
    """Whether a path, as a system call was given it, lies in a folder."""
    full = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))  # noqa: PTH118, PTH120, PTH119
    return full == str(folder) or full.startswith(f"{folder}{os.sep}")


def named(path: Any, folder_descriptor: int | None = None) -> str:
    """Return the path that a call means; an open file by the name that it has."""
    if isinstance(path, int):
        return LINK(f"/proc/self/fd/{path}")
    text = os.fsdecode(path)
    return text if folder_descriptor is None else f"{LINK(f'/proc/self/fd/{folder_descriptor}')}/{text}"


LINK, OPEN, WRITE = os.readlink, io.open, os.write


@contextlib.contextmanager
def failing(disk: Disk) -> Iterator[Disk]:
    """Let the disk fail while the block runs."""
    disk.folder = disk.folder.resolve()
    kept = {name: getattr(os, name) for name in (*ON_PATHS, *ON_TWO_PATHS, *ON_FILES, "open", "close")}
    opening = opener(disk)
    try:
        for name in (*ON_PATHS, *ON_TWO_PATHS):
            setattr(os, name, on_path(disk, name, kept[name]))
        for name in ON_FILES:
            setattr(os, name, on_file(disk, name, kept[name]))
        os.open = on_open(disk, kept["open"])
        io.open = builtins.open = opening  # type: ignore[assignment]
        yield disk
    finally:
        io.open = builtins.open = OPEN
        for name, call in kept.items():
            setattr(os, name, call)


def on_path(disk: Disk, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call on one or two paths that may fail."""

    def counted(path: Any, *rest: Any, **more: Any) -> Any:
        targets = [named(path, more.get("dir_fd", more.get("src_dir_fd")))]
        if name in ON_TWO_PATHS:
            targets.append(named(rest[0], more.get("dst_dir_fd")))
        inner = next((target for target in reversed(targets) if inside(target, disk.folder)), targets[0])
        disk.meets(name, inner)
        return call(path, *rest, **more)

    return counted


def on_file(disk: Disk, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call on an open file that may fail."""

    def counted(descriptor: int, *rest: Any) -> Any:
        if disk.meets(name, named(descriptor)):
            return call(descriptor, memoryview(rest[0])[: max(1, len(rest[0]) // 2)])
        return call(descriptor, *rest)

    return counted


def on_open(disk: Disk, call: Callable[..., int]) -> Callable[..., int]:
    """Return an `os.open` that may fail."""

    def counted(path: Any, flags: int, *rest: Any, dir_fd: int | None = None, **more: Any) -> int:
        if flags & WRITING:
            disk.meets("open", named(path, dir_fd))
        return call(path, flags, *rest, dir_fd=dir_fd, **more)

    return counted


class Raw(io.FileIO):
    """The raw layer of a file that is written to."""

    disk: Disk

    def write(self, data: Any) -> int:
        """Write, or fail to."""
        if self.disk.meets("write", named(self.fileno())):
            data = memoryview(data).cast("B")
            data = data[: max(1, len(data) // 2)]
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        """Cut, or fail to."""
        self.disk.meets("ftruncate", named(self.fileno()))
        return super().truncate(size)

    def close(self) -> None:
        """Close; some file systems fail only then."""
        if not self.closed:
            place = named(self.fileno())
            super().close()
            self.disk.meets("close", place)


def opener(disk: Disk) -> Callable[..., Any]:
    """Return an `open` whose files may fail."""

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+") or not inside(named(file), disk.folder):
            return OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if opener is None:  # else that meets the disk by itself
            disk.meets("open", named(file))
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.disk = disk
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    return opened
