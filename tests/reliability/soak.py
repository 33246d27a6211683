"""Part `soak`: the memory of a process that trains for ten minutes.

Two forms: one long training, as it is typed, which is ended by SIGTERM; and training after training in one process, as
a notebook does it. What a process has in memory is read from outside, ten times a second. It must be flat from the end
of the warm-up on: what it has allocated itself is at most 2 % of its memory more in the last tenth of the time than in
the first. Of a tenth, the least counts: a checkpoint needs 50 MB for a moment. And what is mapped from files is left
out, as the kernel drops such pages where memory is short, and reads them again.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.reliability import processes
from tests.reliability.outcome import Outcome

LONG_TRAINING = (
    *("train", "Taxi-v4", "--updates", "1000000000", "--eval-every", "10000", "--no-early-stop"),
    *("--out", "run", "--quiet", "--json"),
)
ALLOWED = 0.02
EVERY = 0.1  # seconds between two samples
WARM_UP = 0.15  # share of the time, from then on
START = 120.0  # seconds until a training must have begun, or ended
FEWEST = 10  # samples
KINDS = 3  # of trainings, in the second form
SHORT, LONG = 20.0, 600.0  # seconds


FORMS = {
    "one training": (sys.executable, "-m", "deeptaxi", *LONG_TRAINING),
    "many trainings": (sys.executable, "-m", __name__),
}


def run(seconds: float = LONG, forms: Sequence[str] = tuple(FORMS)) -> Outcome:
    """Let the forms run for `seconds`, side by side."""
    outcome = Outcome("soak")
    with tempfile.TemporaryDirectory(prefix="reliability-") as name, ThreadPoolExecutor() as pool:
        folders = {form: Path(name) / form for form in forms}
        for folder in folders.values():
            folder.mkdir()
        for wrong, figures in pool.map(lambda form: watched(form, folders[form], seconds), forms):
            outcome.count(wrong)
            outcome.figures |= figures
    return outcome


def watched(form: str, folder: Path, seconds: float) -> tuple[list[str], dict[str, Any]]:
    """Run one form; return what was wrong, and its figures."""
    with (
        (folder / "err").open("w+", encoding="utf-8") as err,
        (folder / "out").open("w+", encoding="utf-8") as out,
        subprocess.Popen(FORMS[form], cwd=folder, stdout=out, stderr=err, env=processes.ours()) as process,
    ):
        samples = sampled(process, folder, seconds)
        process.send_signal(signal.SIGTERM)
        code = process.wait(START)
        said = [file.seek(0) or file.read() for file in (err, out)]
    if code not in (128 + signal.SIGTERM, -signal.SIGTERM) or len(samples) < FEWEST:
        return [f"{form}: exit code {code} after {len(samples)} samples: {said[0][-300:]}"], {}
    growth, own = grown(samples), [sample.own / 1e6 for sample in samples]
    figures = {
        "own memory, MB": [round(min(own)), round(max(own))],
        "resident, MB": round(max(sample.resident for sample in samples) / 1e6),
        "growth": round(growth, 4),
        **(json.loads(said[1]) if said[1].startswith("{") else {"trainings": said[1].count("\n")}),
    }
    wrong = [f"{form}: {growth:+.1%} of memory"] if growth > ALLOWED else []
    kept = ("own memory, MB", "resident, MB", "growth", "trainings", "updates")
    return wrong, {f"{form}: {key}": figures[key] for key in kept if key in figures}


def sampled(process: subprocess.Popen[bytes], folder: Path, seconds: float) -> list[processes.Memory]:
    """Return what was in memory from the end of the warm-up on."""
    limit = time.monotonic() + START
    while not begun(folder) and process.poll() is None and time.monotonic() < limit:
        time.sleep(EVERY)
    time.sleep(WARM_UP * seconds)
    samples, end = [], time.monotonic() + (1 - WARM_UP) * seconds
    while time.monotonic() < end and process.poll() is None:
        samples.append(processes.memory_of(process.pid))
        time.sleep(EVERY)
    return samples


def begun(folder: Path) -> bool:
    """Whether the long training has been evaluated twice, or each kind of the many has been trained twice.

    A log has its first line before its training has loaded all that it needs.
    """
    evaluated = [path.read_bytes().count(b'"evaluation"') for path in folder.glob("logs/run/*.jsonl")]
    return len((folder / "out").read_bytes().splitlines()) >= KINDS * 2 or any(count >= 2 for count in evaluated)


def grown(samples: list[processes.Memory]) -> float:
    """Return how much more was allocated in the last tenth of the samples than in the first, as a share of all."""
    tenth = max(1, len(samples) // 10)
    first, last = (min(sample.own for sample in part) for part in (samples[:tenth], samples[-tenth:]))
    return (last - first) / max(sample.resident for sample in samples)


def many() -> None:
    """Train forever, one training after the other; print a line for each."""
    from deeptaxi import train

    small = {"updates": 300, "eval_every": 100, "early_stop": False}
    for seed in itertools.count():
        for more in ({}, {"q_table": True}, {"loop": "gymnasium", "updates": 30}):
            train("Taxi-v4", **(small | more), seed=seed, out="models/many", force=True, logs="logs")
            print(seed, flush=True)


if __name__ == "__main__":
    many()
