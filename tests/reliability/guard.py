"""Sees every file that Python opens for writing, moves or removes, and forbids those outside of the given folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.mkdir": 1,
    "os.rename": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
}
HARMLESS = ("/dev/", "/proc/self/")


class Guard:
    """An audit hook; it stays for as long as the process lives, and acts only while it is watching."""

    def __init__(self, *folders: Path) -> None:
        self._folders = tuple(f"{folder.resolve()}{os.sep}" for folder in folders)
        self._outside: list[str] | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        """Yield a list of what is touched outside of the folders meanwhile."""
        self._outside = []
        try:
            yield self._outside
        finally:
            self._outside = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._outside is None:
            return
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            paths = arguments[:1]
        elif event in CHANGES:
            paths = arguments[: CHANGES[event]]
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike) and not self._allowed(os.fsdecode(path)):
                self._outside.append(f"{event} {os.fsdecode(path)}")
                raise PermissionError(1, "outside of the folders", os.fsdecode(path))

    def _allowed(self, path: str) -> bool:
        whole = os.path.abspath(path)  # noqa: PTH100  # pathlib's resolve() would follow the links that are removed
        return f"{whole}{os.sep}".startswith(self._folders) or whole.startswith(HARMLESS)
