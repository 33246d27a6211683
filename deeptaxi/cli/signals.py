"""Ctrl-C and SIGTERM: they end a command at once, or a training between two updates.

The handlers remember what came, because an exception raised from a handler can be lost: Python drops it where it
happens to land in a callback of compiled code, as the import of TensorFlow has many.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)
received: list[int] = []


def end(number: int, _frame: FrameType | None = None) -> None:
    """Remember the signal and leave by an exception, so that what was begun is cleared away."""
    received.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def stop_printing() -> None:
    """Let standard output lead nowhere once its reader has gone, so that Python finds no fault at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def print_anything() -> None:
    """Let what an encoding has no sign for be printed by its number: signs of ours, names in other bytes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let both signals end the command by an exception."""
    received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:  # a command may have found a reason to ignore it from now on
                signal.signal(number, handler)


@contextmanager
def stopping_gently() -> Generator[Callable[[], int]]:
    """Note the signals instead of dying of them; a third Ctrl-C interrupts at once.

    Yields a function that answers with the first signal noted, or 0.
    """
    if received:  # the exception of a signal in the meantime was lost
        end(received[0])
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        if noted.count(signal.SIGINT) > 2:
            raise KeyboardInterrupt
        if len(noted) == 1:
            # click.echo would go past the live view, which has put itself in the place of standard error.
            sys.stderr.write("Stopping, and keeping the best weights (Ctrl-C twice more gives them up) …\n")
            sys.stderr.flush()

    before = {number: signal.signal(number, note) for number in ENDING}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in before.items():
            # After the first signal the program only ends; a second one must not break that off.
            signal.signal(number, signal.SIG_IGN if noted else handler)
