"""Handle Ctrl-C, SIGTERM and a closing terminal: end a command at once, or training between two updates.

The handlers record signals, because an exception raised in a handler can be lost: Python drops it inside a callback of
compiled code, of which the import of TensorFlow has many.

A closed terminal takes standard output and standard error with it: every later write fails (EIO, or EPIPE at the other
end of a pipe). Standard error only informs the user, so a failing write to it never fails a command.
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
# SIGBREAK: Ctrl-Break, and a closing console, on Windows. SIGQUIT (Ctrl-\) remains the way to kill a process at once.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGBREAK")
ENDING: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
GONE = (errno.EPIPE, errno.EIO)  # errors of a write whose reader is gone
KEEPING = "Stopping and keeping the best weights (press Ctrl-C twice more to discard them) …"
received: list[int] = []


def end(number: int, _frame: FrameType | None = None) -> None:
    """Record the signal and raise an exception, so that cleanup runs."""
    received.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_IGN)  # kernel and shell each send SIGHUP: the second must not interrupt cleanup
    sys.exit(128 + number)


def listened_to() -> list[signal.Signals]:
    """Return the signals to handle: not those that the parent process set to be ignored, as `nohup` does.

    SIGINT is always handled: shells ignore it for background jobs, but `kill -INT` should still end them.
    """
    return [number for number in ENDING if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]


class LastingStream:
    """A text stream that silently drops its output once its reader is gone."""

    def __init__(self, stream: TextIO, descriptor: int) -> None:
        self._stream = stream
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        """Write text, or drop it if the reader is gone."""
        try:
            return self._stream.write(text)
        except OSError:
            lead_nowhere(self._stream, self._descriptor)
            return len(text)

    def flush(self) -> None:
        """Flush to the operating system, or drop the text if the reader is gone."""
        try:
            self._stream.flush()
        except OSError:
            lead_nowhere(self._stream, self._descriptor)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def lead_nowhere(stream: TextIO, descriptor: int) -> None:
    """Redirect a standard stream to the null device, so that Python's final flush does not fail."""
    try:
        own = stream.fileno() == descriptor
    except (OSError, ValueError):  # a stream set by a script or a test
        return
    if own:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    with contextlib.suppress(OSError):
        stream.flush()


def reader_gone(error: OSError) -> bool:
    """Return whether a write to standard output failed because its reader is gone, not because of the disk."""
    if error.errno not in GONE:
        return False
    try:
        return not stat.S_ISREG(os.fstat(1).st_mode)
    except OSError:
        return True


def stop_printing() -> None:
    """Redirect standard output to the null device."""
    lead_nowhere(sys.__stdout__ or sys.stdout, 1)


def flush_output() -> None:
    """Flush standard output at the end of a command; if that fails, redirect it to the null device."""
    try:
        sys.stdout.flush()
    except OSError:
        stop_printing()


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Make the standard streams exist, outlive the terminal, and escape unencodable characters.

    If a stream is closed at the start (``2>&-``), the next file opened gets its descriptor, and compiled libraries
    would write their standard error into that file.
    """
    open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # our symbols and undecodable names are escaped
    before = sys.stderr
    lasting = cast("TextIO", LastingStream(before, 2))
    sys.stderr = lasting
    try:
        yield
    finally:
        if sys.stderr is lasting:
            sys.stderr = before


def open_missing() -> None:
    """Open the null device in place of closed standard streams."""
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
        else:  # another file has taken the descriptor since: it must not be written to
            where = os.devnull
        stream = open(where, mode, encoding="utf-8", closefd=where != descriptor)  # noqa: SIM115  # open for the life of the process
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)  # libraries fall back to it


@contextmanager
def ending_at_once() -> Iterator[None]:
    """End the command with an exception when a signal arrives in the block."""
    received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in listened_to()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:  # else `end` has set it to be ignored
                signal.signal(number, handler)


@contextmanager
def stopping_gently(notice: str = KEEPING) -> Generator[Callable[[], int]]:
    """Record signals instead of ending, and say so; a third Ctrl-C interrupts at once.

    Yields a function that returns the first signal recorded, or 0.
    """
    if received:  # the exception raised for an earlier signal was lost
        end(received[0])
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        if noted.count(signal.SIGINT) > 2:
            raise KeyboardInterrupt
        if len(noted) == 1:
            # click.echo would bypass the live view, which has replaced standard error. If the signal arrives during a
            # write to it, Python raises an error.
            with contextlib.suppress(OSError, RuntimeError):
                sys.stderr.write(f"{notice}\n")
                sys.stderr.flush()

    before = {number: signal.signal(number, note) for number in listened_to()}
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for number, handler in before.items():
            # After the first signal the program is only shutting down, which a second one must not interrupt.
            signal.signal(number, signal.SIG_IGN if noted else handler)
