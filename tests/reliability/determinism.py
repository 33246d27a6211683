"""Part `determinism`: a training in many processes, by an empty and a filled compile cache, alone and under load.

One of each kind is a fork of a process that has only imported Keras: what the part `kill` is made of.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deeptaxi.backend import cache
from tests.reliability import processes
from tests.reliability.outcome import Outcome

NETWORKS = {"dueling": (), "Q table": ("--q-table",)}
TRAINING = ("train", "Taxi-v4", "--updates", "600", "--eval-every", "100", "--no-early-stop", "--json", "--quiet")
PATIENCE = 300.0  # seconds of one process, on a busy machine
SHORT, LONG = 2, 20  # processes a network


@contextmanager
def load(processors: int) -> Iterator[None]:
    """Keep every processor busy."""
    with ExitStack() as ending:
        for _ in range(processors):
            ending.callback(processes.kill, processes.call(spin))
        yield


def spin() -> None:
    """Compute nothing, forever."""
    while True:
        pass


def trained(words: tuple[str, ...], folder: Path, root: Path) -> dict[str, Any]:
    """Train in a process of its own; return the JSON of it, or what went wrong."""
    with processes.fresh([*TRAINING, *words], folder, **{cache.VARIABLE: str(root)}) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"failed": "it hung"}
    found: dict[str, Any] = json.loads(out) if process.returncode == 0 else {"failed": err.strip()[-300:]}
    return found


def forked(words: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Train in a fork of this process."""
    out, err = folder / "out", folder / "err"
    code = processes.wait(processes.command([*TRAINING, *words], folder, out, err), PATIENCE)
    text = out.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text) if code == 0 else {"failed": err.read_text(encoding="utf-8")[-300:]}
    return found


def run(count: int = LONG, networks: Sequence[str] = tuple(NETWORKS)) -> Outcome:
    """Train `count` times with each network in processes of its own, and once in a fork."""
    outcome = Outcome("determinism")
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        folder, warm = Path(name), Path(name) / "warm"
        for network in networks:
            words = NETWORKS[network]
            digests, seconds, numbers = set(), [], itertools.count()
            for number in range(count):
                cold, busy = number % 2 == 0, number % 4 > 1  # the first one fills the other cache
                root = warm if number == 0 or not cold else folder / f"{network}-{number}"
                target = made(folder, f"{network}-{next(numbers)}")
                with load(os.cpu_count() or 1 if busy else 0):
                    start = time.perf_counter()
                    found = trained(words, target, root)
                    seconds.append(time.perf_counter() - start)
                digests.add(found.get("weights_digest"))
                what = (
                    f"{network}, process {number}, {'cold' if cold else 'warm'} cache{', under load' if busy else ''}"
                )
                outcome.count([f"{what}: {found['failed']}"] if "failed" in found else [])
            digests.add(forked(words, made(folder, f"{network}-fork")).get("weights_digest"))
            if len(digests) != 1:
                outcome.failures.append(f"{network}: {len(digests)} digests: {sorted(map(str, digests))}")
            outcome.figures[f"{network}: digests"] = len(digests)
            outcome.figures[f"{network}: digest"] = str(min(map(str, digests)))[:16]
            outcome.figures[f"{network}: seconds a process"] = [round(min(seconds), 1), round(max(seconds), 1)]
    return outcome


def made(folder: Path, name: str) -> Path:
    """Return a new folder."""
    (folder / name).mkdir()
    return folder / name
