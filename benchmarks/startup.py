"""Whole processes: ``deeptaxi train Taxi-v4`` as a user starts it, beside ``python -c "import keras"``, in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.run import ROOT, pinned

TRAIN = ("-m", "deeptaxi", "train", "Taxi-v4", "--json")
COMMANDS = {
    'python -c "import keras"': (("-c", "import keras"), "tensorflow"),
    "deeptaxi train Taxi-v4": (TRAIN, "tensorflow"),
    "deeptaxi train Taxi-v4 --q-table": ((*TRAIN, "--q-table"), "tensorflow"),
    "KERAS_BACKEND=jax deeptaxi train Taxi-v4": (TRAIN, "jax"),
    "KERAS_BACKEND=jax deeptaxi train Taxi-v4 --q-table": ((*TRAIN, "--q-table"), "jax"),
}


def timed(words: tuple[str, ...], backend: str, core: int) -> dict[str, Any]:
    """Run one command to its end; return CPU seconds, of all its threads and children, and those of the wall."""
    with tempfile.TemporaryDirectory() as folder:
        places = ["--out", f"{folder}/run", "--logs", f"{folder}/logs"] if "train" in words else []
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *words, *places],
            cwd=ROOT,
            env={**os.environ, "KERAS_BACKEND": backend},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(Path(folder) / "errors").open("wb"),
            preexec_fn=pinned(core),
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begin
        if process.returncode:
            told = (Path(folder) / "errors").read_text(errors="replace").strip().splitlines()
            return {"failed": (told or [f"exit {process.returncode}"])[-1][:200]}
    return {"process_cpu_seconds": used.ru_utime + used.ru_stime, "process_wall_seconds": wall}


def measure(core: int, repeats: int) -> list[dict[str, Any]]:
    """Run every command once to fill the caches, uncounted, then all in turn."""
    rows = []
    for repeat in range(-1, repeats):
        for name, (words, backend) in COMMANDS.items():
            row = {"part": "p", "name": name, "seed": repeat, **timed(words, backend, core)}
            print(f"  {name}: {row.get('process_cpu_seconds', row.get('failed'))}", file=sys.stderr, flush=True)
            if repeat >= 0:
                rows.append(row)
    return rows
