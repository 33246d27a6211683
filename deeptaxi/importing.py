"""How a large compiled library is imported quickly and unnoticed."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator

# What Keras imports if it can, and a process never asks it for. The command line names the packages of
# `keras.visualization`, which take a sixth of a start; to whoever imports Keras by way of us, nothing may be missing.
unused: tuple[str, ...] = ()


@contextlib.contextmanager
def pause_collector() -> Iterator[None]:
    """Keep the garbage collector from what is imported, as it comes, later on, and when the process ends.

    A backend defines a million objects that stay; to look through them again and again takes a third of its import.
    """
    gc.collect()  # what is garbage before that shall not stay
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def hide_modules(*packages: str) -> Iterator[None]:
    """Let packages seem not to be installed, unless they are imported already: libraries import more than they need."""
    missing = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # None is how Python marks such a module
    try:
        yield
    finally:
        for package in missing:
            del sys.modules[package]


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Hold Ctrl-C, SIGTERM and every other signal with a Python handler back until the block is over.

    An exception in the middle of the import of a compiled library can be lost, or crash the process as it ends.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    handled = {number for number in signal.valid_signals() if callable(signal.getsignal(number))}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, *handled})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def standard_error_aside() -> Iterator[None]:
    """Turn file descriptor 2 aside: start-up lines of compiled libraries ignore ``sys.stderr``.

    If the block raises, what was written comes out after all.
    """
    try:
        kept = os.dup(2)
    except OSError:  # it is closed: there is nothing to turn aside
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(kept, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
