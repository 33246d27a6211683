"""The current folder as a place that modules are imported from: it is one for code that the user names, and else not.

Whoever looks at the run of a stranger often stands in the stranger's folder. Python puts that folder first on
``sys.path`` for ``python -m``, in a notebook, and for an empty entry in ``PYTHONPATH``; then whatever a library imports
only when it needs it, and does not find, is taken from there: `mujoco.py`, `pygame.py`, `jax.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def leave_current_folder() -> None:
    """Import nothing from the current folder any more in this process, which is a command's."""
    for entry in current_entries():
        sys.path.remove(entry)


@contextmanager
def hide_current_folder() -> Iterator[None]:
    """Import nothing from the current folder while the block runs; ``sys.path`` is then as it was."""
    hidden = [(at, entry) for at, entry in enumerate(sys.path) if entry in current_entries()]
    for _, entry in hidden:
        sys.path.remove(entry)
    try:
        yield
    finally:
        for at, entry in hidden:
            sys.path.insert(at, entry)


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Let modules of the current folder be imported while the block runs, as ``python -m`` does."""
    try:
        folder = os.getcwd()  # noqa: PTH109  # with pathlib, more of Python would be imported before it is left
    except FileNotFoundError:  # it was removed: there is nothing to import from
        folder = ""
    added = bool(folder) and folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added and folder in sys.path:
            sys.path.remove(folder)


def current_entries() -> list[str]:
    """Return the entries of ``sys.path`` that are the current folder, as often as they occur.

    A folder that Python's library, the installed packages or this very package stand in is code that runs already.
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
    """Return what tells a folder from all others, by whatever name; None where there is none."""
    try:
        found = os.stat(folder)  # noqa: PTH116  # likewise
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
