"""What takes a while, in a few words, for whoever shows it. By itself nothing is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

Show = Callable[[str], AbstractContextManager[Any]]
_show: ContextVar[Show | None] = ContextVar("show", default=None)


@contextmanager
def status(text: str) -> Iterator[None]:
    """Tell that something is being done while the block runs; within it, nothing else is told."""
    show = _show.get()
    if show is None:
        yield
        return
    with shown_by(None), show(text):
        yield


@contextmanager
def shown_by(show: Show | None) -> Iterator[None]:
    """Let `show` open a context for every stage of the block; None shows nothing."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)
