"""Part `soak`: the memory of a process that trains for ten minutes.

Two forms: one long training, as it is typed, which is ended by SIGTERM; and training after training in one process, as
a notebook does it. What is resident is read from outside, twice a second. It must be flat from the end of the warm-up
on: the mean of the last tenth is at most 2 % above the mean of the first tenth.
"""

from __future__ import annotations

import itertools
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.reliability import processes
from benchmarks.reliability.outcome import Outcome
from benchmarks.run import ROOT

LONG_TRAINING = ("train", "Taxi-v4", "--updates", "1000000000", "--no-early-stop", "--quiet", "--json")
ALLOWED = 0.02
EVERY = 0.5  # seconds between two samples
WARM_UP = 0.15  # share of the time, from the first record on
START = 120.0  # seconds until a training must have begun
SHORT, LONG = 20.0, 600.0  # seconds


def run(seconds: float = LONG) -> Outcome:
    """Let both forms run for `seconds`."""
    outcome = Outcome("soak")
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        folder = Path(name)
        watch(outcome, "one training", [sys.executable, "-m", "deeptaxi", *LONG_TRAINING], folder, seconds)
        watch(outcome, "many trainings", [sys.executable, "-m", __name__], folder, seconds)
    return outcome


def watch(outcome: Outcome, name: str, words: list[str], folder: Path, seconds: float) -> None:
    """Run one form, and add what was found."""
    with (
        (folder / "err").open("w+", encoding="utf-8") as err,
        subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=err, text=True, env=processes.ours()) as process,
    ):
        samples = sampled(process, folder, seconds)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=START)
        err.seek(0)
        said = err.read().strip()
    if process.returncode not in (128 + signal.SIGTERM, -signal.SIGTERM) or len(samples) < 10:  # noqa: PLR2004
        outcome.count([f"{name}: exit code {process.returncode} after {len(samples)} samples: {said[-300:]}"])
        return
    growth, span = grown(samples), (max(samples) - min(samples)) / min(samples)
    outcome.count([f"{name}: {growth:+.1%} of memory"] if growth > ALLOWED else [])
    outcome.figures[f"{name}: resident, MB"] = [round(min(samples) / 1e6), round(max(samples) / 1e6)]
    outcome.figures[f"{name}: growth"] = round(growth, 4)
    outcome.figures[f"{name}: spread"] = round(span, 4)
    outcome.figures[f"{name}: done"] = out.count("\n") if name == "many trainings" else updates_of(out)


def updates_of(out: str) -> int:
    """Return the number of updates that the JSON tells."""
    import json

    return int(json.loads(out)["updates"])


def sampled(process: subprocess.Popen[str], folder: Path, seconds: float) -> list[int]:
    """Return what was resident from the end of the warm-up on."""
    limit = time.monotonic() + START
    while not list(folder.glob("logs/*/metrics.jsonl")) and process.poll() is None and time.monotonic() < limit:
        time.sleep(EVERY)
    time.sleep(WARM_UP * seconds)
    samples, end = [], time.monotonic() + (1 - WARM_UP) * seconds
    while time.monotonic() < end and process.poll() is None:
        samples.append(processes.resident(process.pid))
        time.sleep(EVERY)
    return samples


def grown(samples: list[int]) -> float:
    """Return by what share the last tenth of the samples is above the first."""
    tenth = max(1, len(samples) // 10)
    return statistics.mean(samples[-tenth:]) / statistics.mean(samples[:tenth]) - 1


def many() -> None:
    """Train for ever, one training after the other; print a line for each."""
    from deeptaxi import train

    small = {"updates": 300, "judge_every": 100, "early_stop": False}
    for seed in itertools.count():
        for where, more in (("Taxi-v4", {}), ("Taxi-v4", {"q_table": True}), ("FrozenLake-v1", {"loop": "gymnasium"})):
            train(where, **small, **more, seed=seed, out="models/many", force=True, logs="logs")
            print(seed, flush=True)


if __name__ == "__main__":
    many()
