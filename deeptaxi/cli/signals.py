"""Ctrl-C, SIGTERM, a terminal that closes: they end a command at once, or a training between two updates.

The handlers remember what came, because an exception raised from a handler can be lost: Python drops it where it
happens to land in a callback of compiled code, as the import of TensorFlow has many.

A terminal that has closed takes standard output and standard error with it: every write fails from then on (EIO, or
EPIPE at the other end of a pipe). What goes to standard error is for whoever watches, so it never fails a command.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO, cast

# Not every system has all of them. SIGHUP: the terminal closed. SIGXCPU: the soft limit on CPU time, before the kill.
# SIGBREAK: Ctrl-Break, and the console closing, on Windows. SIGQUIT (Ctrl-\) stays the way to kill a process at once.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGBREAK")
ENDING: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
GONE = (errno.EPIPE, errno.EIO)  # what a write fails with once its reader has gone
received: list[int] = []


def end(number: int, _frame: FrameType | None = None) -> None:
    """Remember the signal and leave by an exception, so that what was begun is cleared away."""
    received.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_IGN)  # the kernel and the shell each send SIGHUP: the second must not break it off
    sys.exit(128 + number)


def listened_to() -> list[signal.Signals]:
    """Return the signals to handle: not those that whoever started the command has it ignore, as `nohup` does.

    A shell ignores SIGINT for its background jobs, which `kill -INT` is to end all the same.
    """
    return [number for number in ENDING if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]


class LastingStream:
    """A text stream that may lose its reader: what nobody can read any more is dropped and raises nothing."""

    def __init__(self, stream: TextIO, descriptor: int) -> None:
        self._stream = stream
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        """Write a text, as far as there is anybody to read it."""
        try:
            return self._stream.write(text)
        except OSError:
            lead_nowhere(self._stream, self._descriptor)
            return len(text)

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        try:
            self._stream.flush()
        except OSError:
            lead_nowhere(self._stream, self._descriptor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lead_nowhere(stream: TextIO, descriptor: int) -> None:
    """Let a standard stream lead nowhere, so that Python finds no fault with what it holds at the end."""
    try:
        own = stream.fileno() == descriptor
    except (OSError, ValueError):  # a stream of a script or a test
        return
    if own:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    with contextlib.suppress(OSError):
        stream.flush()


def reader_gone(error: OSError) -> bool:
    """Whether a write to standard output failed because nobody is left to read it; a disk that fails is no reader."""
    if error.errno not in GONE:
        return False
    try:
        return not stat.S_ISREG(os.fstat(1).st_mode)
    except OSError:
        return True


def stop_printing() -> None:
    """Let standard output lead nowhere once its reader has gone."""
    lead_nowhere(sys.__stdout__ or sys.stdout, 1)


def flush_output() -> None:
    """Flush standard output at the end of a command that has nothing more to say; let it lead nowhere if that fails."""
    try:
        sys.stdout.flush()
    except OSError:
        stop_printing()


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let the standard streams be there and outlive the terminal, and print what an encoding has no sign for.

    A stream that was closed at the start (``2>&-``) leaves its number to the next file that is opened, which would then
    hold what compiled libraries write to standard error.
    """
    open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # signs of ours, names in other bytes: by their numbers
    before = sys.stderr
    lasting = cast("TextIO", LastingStream(before, 2))
    sys.stderr = lasting
    try:
        yield
    finally:
        if sys.stderr is lasting:
            sys.stderr = before


def open_missing() -> None:
    """Open the null device in the place of standard streams that are closed."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        where: int | str = descriptor
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
        else:  # a file of somebody else was opened since and has the number: it must not be written to
            where = os.devnull
        stream = open(where, mode, encoding="utf-8", closefd=where != descriptor)  # noqa: SIM115  # as long as Python runs
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)  # which libraries fall back to


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let the signals end the command by an exception."""
    received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in listened_to()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:  # else it is to be ignored from now on
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
            # click.echo would go past the live view, which has put itself in the place of standard error. The signal
            # may have come in the middle of a write to it, which Python takes for a fault.
            with contextlib.suppress(OSError, RuntimeError):
                sys.stderr.write("Stopping, and keeping the best weights (Ctrl-C twice more gives them up) …\n")
                sys.stderr.flush()

    before = {number: signal.signal(number, note) for number in listened_to()}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in before.items():
            # After the first signal the program only ends; a second one must not break that off.
            signal.signal(number, signal.SIG_IGN if noted else handler)
