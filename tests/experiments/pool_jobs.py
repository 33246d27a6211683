"""Jobs for the tests of a pool: small functions that a worker imports."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from deeptaxi.errors import DeepTaxiError


def echo(job):
    """Say who ran the job."""
    return {"job": job.name, "status": "done", "pid": os.getpid(), "at": time.monotonic()}


def run(job):
    """Do what the setting "updates" says: 7 kills the worker, 8 kills the first one, 9 takes long."""
    number = job.values.get("updates")
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 8:
        mark = Path(job.values["network"]["builder"])
        if not mark.exists():
            mark.touch()
            os._exit(3)
    if number == 9:
        time.sleep(600)
    time.sleep(0.02)
    return echo(job)


def build():
    """Return what runs a job."""
    return run


def build_nothing():
    """Fail, as every worker does where there is no backend."""
    raise DeepTaxiError("there is no backend")
