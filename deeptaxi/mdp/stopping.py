"""End planning on request: at a million states, the evaluation of a policy takes a minute.

Planning calls `check_stop` in every loop that may take long: between sweeps, blocks of rows, policies. Within
`stop_planning_when` this raises `StopPlanning` once the user has asked to stop; what has been computed is dropped, and
nothing is kept of it. Without, it does nothing: Ctrl-C raises KeyboardInterrupt by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

EVERY = 0.05  # seconds between two questions
GRACE = 0.25  # seconds to finish in: an evaluation of a small table takes less


class StopPlanning(Exception):  # noqa: N818  # no error: named like StopIteration
    """Raised by `check_stop` to end planning."""


class _StopWatch:
    """Asks every `EVERY` seconds whether to stop.

    Args:
        stop: whether the user has asked to.
    """

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self._due = 0.0
        self._end: float | None = None  # when planning ends

    def check(self) -> None:
        """Raise `StopPlanning` if it is time to."""
        now = time.monotonic()
        if self._end is None:
            if now < self._due:
                return
            self._due = now + EVERY
            if not self._stop():
                return
            self._end = now + GRACE
        if now >= self._end:
            raise StopPlanning


_watch: ContextVar[_StopWatch | None] = ContextVar("watch", default=None)


@contextmanager
def stop_planning_when(stop: Callable[[], bool]) -> Iterator[None]:
    """End planning in the block with `StopPlanning`, `GRACE` seconds after `stop()` first holds."""
    token = _watch.set(_StopWatch(stop))
    try:
        yield
    finally:
        _watch.reset(token)


def check_stop() -> None:
    """Return, or end planning.

    Raises:
        StopPlanning: the user has asked to stop.
    """
    watch = _watch.get()
    if watch is not None:
        watch.check()
