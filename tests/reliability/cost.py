"""Part `cost`: what checkpoints cost a training in the compiled loop, and how soon a resumed one goes on.

Pairs of the same training on one core, with a checkpoint every 5 seconds and without any, in turns. Of each, the time
from the first update to the end of the last. *Share* is the time inside of the checkpointer over that of the training
that it keeps, both of the same seconds, so a busy machine hardly moves it; *difference* compares the two of a pair. A
resume is timed from the call, everything imported, until it makes its next update; the compile cache knows the
program. Its CPU seconds are what it takes on a machine that does nothing else.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.reliability import processes
from tests.reliability.outcome import Outcome

EVERY = 5.0  # seconds
MOST, SOONEST = 0.03, 2.0  # share of the training; seconds
PATIENCE = 600.0
CAPACITY = 500_000  # transitions, the preset's
FULL = 8_000  # updates after which the replay buffer is full
TRAINING = {"early_stop": False, "replay_capacity": CAPACITY}


@contextmanager
def timed() -> Iterator[list[float]]:
    """Yield a list of the seconds that each checkpoint takes meanwhile."""
    from deeptaxi.storage.checkpoints import Checkpointer

    save, seconds = Checkpointer.save, []

    def timing(*arguments: Any) -> None:
        start = time.perf_counter()
        save(*arguments)
        seconds.append(time.perf_counter() - start)

    Checkpointer.save = timing  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        Checkpointer.save = save  # type: ignore[method-assign]


def pairs(send: Callable[[Any], None], count: int, updates: int, every: float) -> None:
    """Train with and without checkpoints in turns; send the seconds of each pair, and of its checkpoints."""
    from deeptaxi import train

    processes.pin()
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        os.chdir(name)
        train("Taxi-v4", **{**TRAINING, "updates": 100}, out="first")  # compiles
        for number in range(count):
            found = {}
            for kept in (True, False) if number % 2 else (False, True):
                with timed() as checkpoints:
                    run = train(
                        "Taxi-v4", updates=updates, **TRAINING, out=f"{number}-{kept}",
                        checkpoints=kept, checkpoint_every=every,
                    )  # fmt: skip
                found[kept] = (run.finished.train_seconds, checkpoints)
            send(found)


def fill(send: Callable[[Any], None], folder: Path, updates: int) -> None:
    """Train until the replay buffer is full, and send how many transitions were seen."""
    from deeptaxi import train

    os.chdir(folder)
    run = train("Taxi-v4", updates=2 * updates, **TRAINING, out="run", stop_after=updates)
    send(run.finished.environment_steps)


def resume(send: Callable[[Any], None], folder: Path, stop_after: int) -> None:
    """Resume, and send the CPU seconds and the seconds until everything is as it was, and those of compilation."""
    from deeptaxi import train

    os.chdir(folder)
    reached: dict[str, Any] = {}
    start, cpu = time.perf_counter(), time.process_time()

    def note(record: Any) -> None:
        reached.setdefault(record.kind, (time.process_time() - cpu, time.perf_counter() - start, record))

    train(resume="run", stop_after=stop_after, callbacks=[note])
    send((*reached["resumed"][:2], reached["started"][2].compile_seconds))


def resumed(count: int, updates: int) -> list[tuple[float, float, float]]:
    """Resume a training with a full replay buffer `count` times, each in a process that has only done its imports."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        folder = Path(name)
        (steps,) = processes.messages(lambda send: fill(send, folder, updates), PATIENCE)
        if steps < CAPACITY:
            raise RuntimeError(f"{steps:,} transitions do not fill the replay buffer")
        return [
            found
            for number in range(count)
            for found in processes.messages(lambda send, end=updates + number + 1: resume(send, folder, end), PATIENCE)
        ]


def run(short: bool = False) -> Outcome:
    """Measure both."""
    outcome = Outcome("cost")
    count, updates, every = (1, 4_000, 0.2) if short else (5, 60_000, EVERY)
    found = list(processes.messages(lambda send: pairs(send, count, updates, every), PATIENCE))
    soon = resumed(2 if short else 7, FULL)
    if not found or not soon:
        outcome.count(["a training failed"])
        return outcome
    each = [seconds for pair in found for seconds in pair[True][1]]
    one = statistics.median(each)
    shares = [sum(pair[True][1]) / pair[True][0] * every / EVERY for pair in found]
    differences = [pair[True][0] / pair[False][0] - 1 for pair in found]
    first = [cpu for cpu, _, _ in soon]
    outcome.count([f"checkpoints take {max(shares):.1%} of the training"] if statistics.median(shares) > MOST else [])
    outcome.count([f"a resume takes {max(first):.1f} s"] if statistics.median(first) > SOONEST else [])
    outcome.figures = {
        "checkpoints": len(each),
        "one checkpoint, s": [round(min(each), 3), round(one, 3), round(max(each), 3)],
        "training, s": [round(pair[True][0], 1) for pair in found],
        "share, every 5 s": [f"{min(shares):.2%}", f"{statistics.median(shares):.2%}", f"{max(shares):.2%}"],
        "difference of a pair": [f"{value:+.1%}" for value in sorted(differences)],
        **{
            f"resume, {what}": [round(value, 2) for value in sorted(values)]
            for what, values in zip(("CPU s", "s", "of these compilation"), zip(*soon, strict=True), strict=True)
        },
    }
    return outcome
