"""Keep the current folder off the import path, except for code that the user names.

Users often inspect a stranger's run from within the stranger's folder. Python puts that folder first on ``sys.path``
for ``python -m``, in a notebook, and for an empty entry in ``PYTHONPATH``; any optional module that a library imports
lazily and that is not installed would then be loaded from there: `mujoco.py`, `pygame.py`, `jax.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def leave_current_folder() -> None:
    """Stop importing from the current folder in this process, which runs a command."""
    for entry in current_entries():
        sys.path.remove(entry)


@contextmanager
def hide_current_folder() -> Iterator[None]:
    """Do not import from the current folder within the block; restore ``sys.path`` afterwards."""
    hidden = [(at, entry) for at, entry in enumerate(sys.path) if entry in current_entries()]
    for _, entry in hidden:
        sys.path.remove(entry)
    try:
        yield
    finally:
        for at, entry in hidden:
            sys.path.insert(at, entry)


@contextmanager
def folder_first(folder: str) -> Iterator[None]:
    """Allow imports from a folder within the block, as ``python -m`` does from the current one; not if it is empty."""
    added = bool(folder) and folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def current_entries() -> list[str]:
    """Return the entries of ``sys.path`` that are the current folder, with duplicates.

    Folders of the standard library, installed packages or this package itself are excluded: their code runs already.
    """
    here = identity(".")
    entries = [entry for entry in sys.path if not entry or (here is not None and identity(entry) == here)]
    return [] if entries and here is not None and here in map(identity, installed()) else entries


def installed() -> list[str]:
    """Return the folders that hold installed code."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120  # as above
    site = sys.modules.get("site")
    packages = [*site.getsitepackages(), site.getusersitepackages()] if site else []
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  # likewise
    return [library, os.path.join(library, "lib-dynload"), *packages, own]  # noqa: PTH118


def identity(folder: str) -> tuple[int, int] | None:
    """Return the identity of a folder regardless of its name, or None if it does not exist."""
    try:
        found = os.stat(folder)  # noqa: PTH116  # likewise
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
