"""Callbacks: functions that are called with every event of a training.

The log, the live display, checkpoints, trackers and warnings are callbacks, and so are a user's own. None of them can
change what is learned, except by ending the training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from deeptaxi.errors import CallbackError, UsageError, one_line
from deeptaxi.learning.state import CheckpointEvent
from deeptaxi.mdp.stopping import StopPlanning
from deeptaxi.metrics import Record, Started, Warned

Event = Record | CheckpointEvent


class StopTraining(Exception):  # noqa: N818  # no error: named like StopIteration
    """Raised by a callback to end the training after one of the next updates, keeping its result."""


class Callback(Protocol):
    """A function called with every event of a training, in order.

    It may return further records, such as warnings: they are passed to all callbacks next.
    """

    def __call__(self, event: Event, /) -> Iterable[Record] | None:
        """Handle an event.

        Raises:
            StopTraining: to end the training.
        """


class UserCallbacks:
    """A callback that calls those of a user, whose return values are ignored.

    One that raises an error is not called again, and ends the training; the others see the rest of it.

    Args:
        functions: called with every event; see `check_callbacks`.

    Attributes:
        functions: those that have not raised an error.
        error: the first error of a function, or None.
    """

    def __init__(self, functions: Iterable[Callable[[Event], object]] | None) -> None:
        self.functions = check_callbacks(functions)
        self.error: CallbackError | None = None

    def __call__(self, event: Event) -> None:
        """Call every function.

        Raises:
            StopTraining: a function raised it.
            CallbackError: a function raised another error.
        """
        stopping, errors = False, []
        for function in self.functions.copy():
            try:
                function(event)
            except (StopTraining, StopPlanning):
                stopping = True
            except Exception as error:  # whatever a user's code raises
                self.functions.remove(function)
                errors.append(describe_error(function, event, error))
        if errors:
            self.error = self.error or errors[0]
            raise errors[0]
        if stopping:
            raise StopTraining


def describe_error(function: object, event: Event, error: Exception) -> CallbackError:
    """Return the error that names the callback and the event, caused by `error`."""
    update = getattr(event, "update", getattr(event, "updates", 0) if event.kind == "finished" else 0)
    text = one_line(f"{type(error).__name__}: {error}", 300)
    found = CallbackError(f"callback '{name_of(function)}' failed at event '{event.kind}', update {update:,}: {text}")
    found.__cause__ = error
    return found


def name_of(function: object) -> str:
    """Return the name of a function or method, or of the class of another object."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return str(name).rpartition("<locals>.")[2]


def check_callbacks(functions: Any) -> list[Callable[[Event], object]]:
    """Return the callbacks of a user as a list, each of which can be called with an event.

    Raises:
        UsageError: they are no list, or one of them cannot be called with an event.
    """
    if functions is None:
        return []
    if not isinstance(functions, Iterable) or isinstance(functions, str) or callable(functions):
        check_callback(functions)
        raise UsageError(f"callbacks: expected a list, received one of type {type(functions).__name__}: callbacks=[…]")
    found = list(functions)
    for function in found:
        check_callback(function)
    return found


WANTED = "a callback is called with each event: def watch(event): print(event.kind)"


def check_callback(function: Any) -> None:
    """Reject what cannot be called with an event.

    Raises:
        UsageError: it cannot; the message says why.
    """
    cls = function if inspect.isclass(function) else type(function)
    if any(base.__name__ == "Callback" and "keras" in base.__module__ for base in cls.__mro__):
        raise UsageError(f"callbacks: {cls.__name__} is one of Keras, for Model.fit; here {WANTED}")
    if inspect.isclass(function):
        raise UsageError(f"callbacks: {cls.__name__} is a class: give an object of it, {cls.__name__}(…)")
    if not callable(function):
        raise UsageError(f"callbacks: an object of type {cls.__name__} cannot be called; {WANTED}")
    for body in (function, getattr(function, "__call__", None)):  # noqa: B004  # the method itself is inspected
        if inspect.iscoroutinefunction(body) or inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
            raise UsageError(f"callbacks: '{name_of(function)}' would not run when it is called: no async, no yield")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise UsageError(f"callbacks: '{name_of(function)}' does not take one argument; {WANTED}") from None
    except ValueError:  # some functions written in C do not say what they take
        return


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
