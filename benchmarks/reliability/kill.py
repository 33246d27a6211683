"""Part `kill`: ``kill -9`` at random moments, then ``train --resume``, until the training has come to its end.

A trial is one training that is killed once or several times, in forks or in processes of their own. Moments are aimed
at phases by looking at the run folder from outside, and what phase it was is read from what the kill has left.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reliability import processes
from benchmarks.reliability.outcome import Outcome

RUN, LOG = "models/run", "logs/run/metrics.jsonl"
EVERY = ("--checkpoint-every", "0.05")
PATIENCE = 180.0  # seconds of one training, on a busy machine
POLL = 0.0005  # seconds between two looks at the folder
SHORT, LONG = 8, 200  # kills
ROUND, AMONG = 10, 10  # trials in a round; one among so many is in processes of its own
ALLOWED = {"model.keras", "config.toml", "card.md", "card.json", "checkpoints"}
ALL = ("--no-early-stop", "--judge-every", "100", "--replay-start", "500", "--out", RUN, "--quiet", "--json")
TRAININGS = {
    "compiled, dueling": ("Taxi-v4", "--updates", "1500"),
    "compiled, Q table": ("Taxi-v4", "--updates", "4000", "--q-table"),
    "compiled, prioritised, 3 steps": ("FrozenLake8x8-v1", "--updates", "1500", "--prioritised", "--n-step", "3"),
    "gymnasium": ("CliffWalking-v1", "--updates", "300", "--loop", "gymnasium", "--time-limit", "200"),
    "fit": ("FrozenLake-v1", "--updates", "30", "--loop", "fit", "--batch-size", "16"),
}
SHARES = dict(zip(TRAININGS, (8, 6, 4, 2, 2), strict=True))
AIMS = {"any time": 6, "claim": 2, "write": 4, "model": 3, "late": 3}


@dataclass
class Trial:
    """One training that is killed, and what became of it."""

    training: str
    fresh: bool
    seed: int
    phases: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of the resumes that were not killed


@dataclass(frozen=True)
class Undisturbed:
    """What a training comes to when it is left alone."""

    digest: str
    seconds: float  # from the place being claimed to the end
    files: frozenset[str]
    updates: tuple[int, ...]  # that the log tells of


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


GOING_ON = ("train", "--resume", RUN, "--quiet", "--json", *EVERY)


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
        return any(name.startswith(".") and name != ".lock" for name in os.listdir(folder))  # noqa: PTH208  # it is fast
    except OSError:
        return False


def killed(process: Process, folder: Path, whole: Undisturbed, chance: random.Random) -> bool:
    """Kill a process at a moment that is aimed at; return False where it came to its end before."""
    aim = chance.choices(list(AIMS), list(AIMS.values()))[0]
    run, start = folder / RUN, time.perf_counter()
    if aim == "claim":
        until(process, lambda: run.exists() or time.perf_counter() - start > whole.seconds)
        time.sleep(chance.uniform(0, 0.05))
        return process.kill()
    until(process, lambda: claimed(folder))
    if aim == "write":
        wait = chance.uniform(0, 0.7 * whole.seconds)
        time.sleep(wait)
        until(process, lambda: aside(run / "checkpoints"))
        time.sleep(chance.choice([0, 0, 0.001, 0.002]))
    elif aim == "model":
        until(process, lambda: aside(run) or (run / "card.json").exists())
        time.sleep(chance.choice([0, 0.002, 0.01, 0.03]))
    else:
        time.sleep(chance.uniform(0.7 if aim == "late" else 0, 0.95) * whole.seconds)
    return process.kill()


def phase(folder: Path) -> str:
    """Return at what a process was, by what it has left."""
    run, kept = folder / RUN, sorted((folder / RUN / "checkpoints").glob("*.npz"))
    if not kept:
        return "before the place was claimed"
    if (run / "card.json").exists():
        return "after the model was written"
    if aside(run) or (run / "model.keras").exists():
        return "while the model was written"
    if aside(run / "checkpoints"):
        return "inside of the write of a checkpoint"
    return "before the first checkpoint with weights" if kept[-1].stat().st_size < SMALL else "between two checkpoints"


SMALL = 20_000  # bytes; the first checkpoint has no arrays


def attempt(task: tuple[Trial, Undisturbed, Path]) -> Trial:
    """Make one trial."""
    trial, whole, folder = task
    folder.mkdir(parents=True)
    chance = random.Random(f"{trial.training}/{trial.seed}")  # noqa: S311
    wanted = chance.choices([1, 2, 3, 5], [6, 3, 2, 1])[0]
    for _ in range(50):
        process = Process(GOING_ON if claimed(folder) else beginning(trial.training), folder, trial.fresh)
        resuming = claimed(folder)
        if len(trial.phases) < wanted and killed(process, folder, whole, chance):
            trial.phases.append(phase(folder) + (", of a resume" if resuming else ""))
            continue
        code = process.end()
        if code == 0 or ended(folder, code, process.err):
            break
        trial.failures.append(f"exit code {code}: {process.err}")
        break
    trial.failures = [
        f"{trial.training}, seed {trial.seed}, killed {trial.phases}: {fault}"
        for fault in [*trial.failures, *checked(folder, whole)]
    ]
    if not trial.failures:
        shutil.rmtree(folder)
    return trial


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
        found.append(f"the log tells of {len(updates)} updates, undisturbed of {len(whole.updates)}")
    if files_of(folder) != whole.files:
        found.append(f"files differ: {sorted(files_of(folder) ^ whole.files)}")
    return found


def files_of(folder: Path) -> frozenset[str]:
    """Return what a run and its log consist of, checkpoints' numbers and events' times left out."""
    found = [
        path for top in (RUN, "logs") for path in (folder / top).rglob("*") if path.suffix not in (".npz", ".deeptaxi")
    ]
    return frozenset(str(path.relative_to(folder)) for path in found)


def updates_of(log: Path) -> tuple[int, ...]:
    """Return the updates of the progress records and judgements of a log, in order."""
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return tuple(record["update"] for record in records if record["kind"] in ("progress", "judgement"))


def run(kills: int = LONG, seed: int = 0, jobs: int = 2, names: Sequence[str] = tuple(TRAININGS)) -> Outcome:
    """Kill trainings `kills` times at least."""
    outcome, trials = Outcome("kill"), list[Trial]()
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        folder, chance = Path(name), random.Random(seed)  # noqa: S311
        wholes = dict(zip(names, processes.share(undisturbed, names, jobs), strict=True))
        shares = [SHARES[training] for training in names]
        while sum(len(trial.phases) for trial in trials) < kills:
            tasks = []
            for number in range(len(trials), len(trials) + min(ROUND, kills)):
                training = chance.choices(names, shares)[0]
                trial = Trial(training, number % AMONG == AMONG - 1, seed * 10_000 + number)
                tasks.append((trial, wholes[training], folder / str(number)))
            trials += processes.share(attempt, tasks, jobs)
    for trial in trials:
        for _ in trial.phases:
            outcome.count(trial.failures)
        outcome.failures = list(dict.fromkeys(outcome.failures))
    outcome.figures = figures(trials)
    return outcome


def figures(trials: list[Trial]) -> dict[str, Any]:
    """Return what was killed, where, and how often."""
    return {
        "trainings": len(trials),
        "of these in processes of their own": sum(trial.fresh for trial in trials),
        "killed once": sum(len(trial.phases) == 1 for trial in trials),
        "killed twice and more": sum(len(trial.phases) > 1 for trial in trials),
        "kills by training": dict(Counter(trial.training for trial in trials for _ in trial.phases).most_common()),
        **{f"killed {name}": times for name, times in Counter(p for t in trials for p in t.phases).most_common()},
    }
