"""Trainings that are to be killed: what is typed, how one comes to its end, and what it must have left by then."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deeptaxi.storage.logs import FAILED_FILE
from tests.reliability import processes

RUN, LOG = "models/run", "logs/run/metrics.jsonl"
EVERY = ("--checkpoint-every", "0.05")
PATIENCE = 180.0  # seconds of one training, on a busy machine
POLL = 0.0005  # seconds between two looks at the folder
ALL = ("--no-early-stop", "--eval-every", "100", "--replay-start", "500", "--out", RUN, "--quiet", "--json")
TRAININGS = {
    "compiled, dueling": ("Taxi-v4", "--updates", "1500"),
    "compiled, Q table": ("Taxi-v4", "--updates", "4000", "--q-table"),
    "compiled, prioritized, 3 steps": ("FrozenLake8x8-v1", "--updates", "1500", "--prioritized", "--n-step", "3"),
    "gymnasium": ("CliffWalking-v1", "--updates", "200", "--loop", "gymnasium", "--time-limit", "200"),
    "fit": ("FrozenLake-v1", "--updates", "12", "--loop", "fit", "--batch-size", "16"),
}
RESUME = ("train", "--resume", RUN, "--quiet", "--json", *EVERY)


@dataclass(frozen=True)
class Undisturbed:
    """What a training comes to when it is left alone."""

    digest: str
    seconds: float  # from the reservation of the run folder to the end
    files: frozenset[str]
    updates: tuple[int, ...]  # in the log


class Process:
    """A command under way, in a fork or in a process of its own."""

    def __init__(self, words: tuple[str, ...], folder: Path, fresh: bool) -> None:
        self._folder, self._fresh = folder, fresh
        self._out, self._err = folder / "out", folder / "err"
        if fresh:
            with self._out.open("w") as out, self._err.open("w") as err:
                self._process = processes.fresh(words, folder, out, err)
            self.number = self._process.pid
        else:
            self.number = processes.command(words, folder, self._out, self._err)
        self.code: int | None = None

    def alive(self) -> bool:
        """Whether it still runs."""
        if self.code is None:
            self.code = processes.wait(self.number, 0)
        return self.code is None

    def kill(self) -> bool:
        """Kill it; return False where it had ended before."""
        if not self.alive():
            return False
        os.kill(self.number, signal.SIGKILL)
        self.code = processes.wait(self.number, PATIENCE)
        return self.code == -signal.SIGKILL

    def end(self) -> int | None:
        """Wait for its end; return its exit code, or None where it hangs."""
        if self.code is None:
            self.code = processes.wait(self.number, PATIENCE)
        if self.code is None:
            self.kill()
            return None
        return self.code

    @property
    def out(self) -> str:
        """What it printed."""
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        """What it said."""
        return " ".join(self._err.read_text(encoding="utf-8", errors="replace").split())[-300:]


def beginning(training: str) -> tuple[str, ...]:
    """Return the words that begin a training."""
    return ("train", *TRAININGS[training], *ALL, *EVERY)


def undisturbed(training: str) -> Undisturbed:
    """Train and leave it alone, twice: the second time finds everything compiled."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        trained(training, Path(name) / "1")
        return trained(training, Path(name) / "2")


def trained(training: str, folder: Path) -> Undisturbed:
    """Train and leave it alone."""
    folder.mkdir()
    process = Process(beginning(training), folder, fresh=False)
    until(process, lambda: claimed(folder))
    start = time.perf_counter()
    if process.end() != 0:
        raise RuntimeError(f"{training}: {process.err}")
    digest = json.loads(process.out)["weights_digest"]
    return Undisturbed(digest, time.perf_counter() - start, frozenset(files_of(folder)), updates_of(folder / LOG))


def until(process: Process, reached: Callable[[], bool]) -> bool:
    """Wait until something is so or the process ends; return whether it still runs."""
    limit = time.monotonic() + PATIENCE
    while not reached() and process.alive() and time.monotonic() < limit:
        time.sleep(POLL)
    return process.alive()


def claimed(folder: Path) -> bool:
    """Whether there is a checkpoint."""
    return any((folder / RUN / "checkpoints").glob("*.npz"))


def aside(folder: Path) -> bool:
    """Whether something is being written aside in a folder."""
    try:
        return any(name.startswith(".deeptaxi-") for name in os.listdir(folder))  # noqa: PTH208  # it is fast
    except OSError:
        return False


def ended(folder: Path, code: int | None, said: str) -> bool:
    """Whether a resume was refused because the killed process had brought the run to its end."""
    return code == 2 and "has made all its" in said and (folder / RUN / "card.json").exists()


def checked(folder: Path, whole: Undisturbed) -> list[str]:
    """Return what is wrong with a run that has come to its end."""
    found = []
    try:
        card = json.loads((folder / RUN / "card.json").read_text(encoding="utf-8"))
        digest = card["weights_digest"]
        updates = updates_of(folder / LOG)
    except (OSError, ValueError, KeyError) as error:
        return [f"{type(error).__name__}: {error}"]
    if digest != whole.digest:
        found.append(f"digest {digest[:12]}, undisturbed {whole.digest[:12]}")
    if updates != whole.updates:
        found.append(f"the log has {len(updates)} updates, undisturbed of {len(whole.updates)}")
    if files_of(folder) != whole.files:
        found.append(f"files differ: {sorted(files_of(folder) ^ whole.files)}")
    return found


def files_of(folder: Path) -> frozenset[str]:
    """Return what a run and its log consist of, checkpoints' numbers and events' times left out.

    So is the log of an attempt that was killed before the first checkpoint knew of it: the one after begins a new log.
    """
    paths = [path for top in (RUN, "logs") for path in (folder / top).rglob("*")]
    named = [path for path in paths if path.suffix not in (".npz", ".deeptaxi") and path.name != FAILED_FILE]
    return frozenset(str(path.relative_to(folder)) for path in named)


def updates_of(log: Path) -> tuple[int, ...]:
    """Return the updates of the progress records and evaluations of a log, in order."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return tuple(record["update"] for record in records if record["kind"] in ("progress", "evaluation"))
