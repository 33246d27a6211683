"""Callbacks: functions that are called with every event of a training.

The log, the live display, checkpoints and warnings are callbacks. None of them can change what is learned, except by
ending the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from deeptaxi.learning.state import CheckpointEvent
from deeptaxi.metrics import Record, Started, Warned

Event = Record | CheckpointEvent


class StopTraining(Exception):  # noqa: N818  # no error: named like StopIteration
    """Raised by a callback to end the training after the current update, keeping its result."""


class Callback(Protocol):
    """A function called with every event of a training, in order.

    It may return further records, such as warnings: they are passed to all callbacks next.
    """

    def __call__(self, event: Event, /) -> Iterable[Record] | None:
        """Handle an event.

        Raises:
            StopTraining: to end the training.
        """


def stop_when(condition: Callable[[], bool]) -> Callback:
    """Return a callback that ends the training, between two updates, once `condition()` holds."""

    def check(event: Event) -> None:
        if isinstance(event, CheckpointEvent) and not event.last and condition():
            raise StopTraining

    return check


def each_record(function: Callable[[Record], object]) -> Callback:
    """Return a callback that calls `function` with every record."""

    def call(event: Event) -> None:
        if not isinstance(event, CheckpointEvent):
            function(event)

    return call


def warn_first(warnings: Iterable[Warned]) -> Callback:
    """Return a callback that adds `warnings` after the first record that follows `Started`."""
    waiting = list(warnings)

    def add(event: Event) -> list[Warned]:
        if isinstance(event, Started):
            return []
        ready = waiting.copy()
        waiting.clear()
        return ready

    return add
