"""Import large compiled libraries quickly and silently."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator

# Optional imports of Keras that a command never uses. The command line adds the packages of `keras.visualization`,
# which take a sixth of the start-up time; programs that import Keras through deeptaxi must find everything.
unused: tuple[str, ...] = ()


@contextlib.contextmanager
def pause_collector() -> Iterator[None]:
    """Disable GC during the import and freeze the imported objects.

    A backend creates a million permanent objects; scanning them repeatedly takes a third of its import time.
    """
    gc.collect()  # do not freeze existing garbage
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
    """Make packages seem uninstalled unless they are imported already: libraries import more than they need."""
    missing = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # None is how Python marks such a module
    try:
        yield
    finally:
        for package in missing:
            del sys.modules[package]


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """Defer Ctrl-C, SIGTERM and every other signal with a Python handler until the block ends.

    An exception during the import of a compiled library can be lost, or crash the process at exit.
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
    """Redirect file descriptor 2: start-up messages of compiled libraries ignore ``sys.stderr``.

    If the block raises, the captured output is printed after all.
    """
    try:
        kept = os.dup(2)
    except OSError:  # closed: there is nothing to redirect
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
