"""Report long-running steps to a display, if one is set with `shown_by`. By default, nothing is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

Update = Callable[[str], object]

Show = Callable[[str], AbstractContextManager[Any]]
_show: ContextVar[Show | None] = ContextVar("show", default=None)


@contextmanager
def status(text: str) -> Iterator[Update]:
    """Show `text` while the block runs; yield a function that changes it. Nested calls show nothing."""
    show = _show.get()
    if show is None:
        yield ignore
        return
    with shown_by(None), show(text) as shown:
        yield getattr(shown, "update", ignore)


@contextmanager
def planning_status(text: str) -> Iterator[None]:
    """Show `text` while the block runs, and how near to the end its sweeps over a large table are."""
    from deeptaxi.mdp.sweeps import reported_to

    if _show.get() is None:
        yield
        return

    def show_sweeps(count: int, left: float, exact: bool) -> None:
        update(f"{text} sweep {count:,}, {'within' if exact else 'still changing by'} {left:.1g}")

    with status(text) as update, reported_to(show_sweeps):
        yield


def ignore(_text: str) -> None:
    """Show nothing."""


@contextmanager
def shown_by(show: Show | None) -> Iterator[None]:
    """Display the status of every step in the block with `show`; None shows nothing."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)
