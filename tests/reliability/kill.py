"""Part `kill`: ``kill -9`` at random moments, then ``train --resume``, until the training has come to its end.

A trial is one training that is killed once or several times, in forks or in processes of their own. Moments are aimed
at phases by looking at the run folder from outside, and what phase it was is read from what the kill has left.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability import processes
from tests.reliability.outcome import Outcome
from tests.reliability.victims import (
    RESUME,
    RUN,
    TRAININGS,
    Process,
    Undisturbed,
    aside,
    beginning,
    checked,
    claimed,
    ended,
    undisturbed,
    until,
)

SMALL = 20_000  # bytes; the first checkpoint has no arrays
SHORT, LONG = 6, 200  # kills
ROUND, AMONG = 16, 8  # trials in a round; one among so many is in processes of its own
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
        return "before the run folder was reserved"
    if (run / "card.json").exists():
        return "after the model was written"
    if aside(run) or (run / "model.keras").exists():
        return "while the model was written"
    if aside(run / "checkpoints"):
        return "inside of the write of a checkpoint"
    return "before the first checkpoint with weights" if kept[-1].stat().st_size < SMALL else "between two checkpoints"


def attempt(task: tuple[Trial, Undisturbed, Path]) -> Trial:
    """Make one trial."""
    trial, whole, folder = task
    folder.mkdir(parents=True)
    chance = random.Random(f"{trial.training}/{trial.seed}")
    wanted = chance.choices([1, 2, 3, 5], [6, 3, 2, 1])[0]
    for _ in range(50):
        resuming = claimed(folder)
        process = Process(RESUME if resuming else beginning(trial.training), folder, trial.fresh)
        if len(trial.phases) < wanted and killed(process, folder, whole, chance):
            trial.phases.append(phase(folder) + (", of a resume" if resuming else ""))
            continue
        code = process.end()
        if code == 0 or ended(folder, code, process.err):
            break
        if code == 2 and not resuming and claimed(folder) and "resume it with --resume" in process.err:
            continue  # the first checkpoint lay there whole, and this process put it into its place and says what to do
        trial.failures.append(f"exit code {code}: {process.err}")
        break
    trial.failures = [
        f"{trial.training}, seed {trial.seed}, killed {trial.phases}: {fault}"
        for fault in [*trial.failures, *checked(folder, whole)]
    ]
    if not trial.failures:
        shutil.rmtree(folder)
    return trial


def run(kills: int = LONG, seed: int = 0, jobs: int = 2, names: Sequence[str] = tuple(TRAININGS)) -> Outcome:
    """Kill trainings `kills` times at least."""
    outcome, trials = Outcome("kill"), list[Trial]()
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        folder, chance = Path(name), random.Random(seed)
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
