"""What all tests share. Keras is imported once, as the command line does it: quietly and single-threaded.

Programs are compiled once for all tests and the processes that they start, and not into the user's own cache.
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import tempfile

import hypothesis.entry_points  # noqa: F401  # before Keras: what is imported by then is frozen, and it looks for that
import pytest

from deeptaxi.backend import cache, keras_backend, program
from deeptaxi.mdp import remembered

for library in ("OPENBLAS", "MKL"):  # as in `deeptaxi.cli.main`: threads that wait for a busy core burn another
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
if os.environ.get(cache.VARIABLE) is None:  # else whoever started the tests has named a folder for them
    folder = tempfile.mkdtemp(prefix="deeptaxi-tests-")
    os.environ[cache.VARIABLE] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after the cache is closed: the last is the first
data = tempfile.mkdtemp(prefix="deeptaxi-tests-data-")
os.environ[remembered.VARIABLE] = data  # whoever runs the tests remembers nothing of them
atexit.register(shutil.rmtree, data, ignore_errors=True)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, by all that is started here too
keras_backend.start()
# Nearly all that a test takes is compilation: what one of them compiled, all of the process have.
program.IDLE = keras_backend.SHARED = 64


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Draw the weights of layers without a seed, which Keras takes from these numbers, alike in any order of tests."""
    random.seed(0)
