"""Part `cost`: what checkpoints cost a training in the compiled loop, and how soon a resumed one goes on.

Pairs of the same training on one core, with a checkpoint every 5 seconds and without any, in turns. Of each, the time
from the first update to the end of the last. *Share* is the time inside of the keeper over that of the training which it
keeps, both of the same seconds, so a busy machine hardly moves it; *difference* compares the two of a pair. A resume is
timed from the call, everything imported, to its first record, by a compile cache that knows the program.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.reliability import processes
from benchmarks.reliability.outcome import Outcome

EVERY = 5.0  # seconds
MOST, SOONEST = 0.03, 2.0  # share of the training; seconds
PATIENCE = 600.0
CAPACITY = 500_000  # transitions, the preset's
TRAINING = {"early_stop": False, "replay_capacity": CAPACITY}


@contextmanager
def timed() -> Iterator[list[float]]:
    """Yield a list of the seconds that each checkpoint takes meanwhile."""
    from deeptaxi.artifacts.checkpoints import Keeper

    save, seconds = Keeper.save, []

    def timing(*arguments: Any) -> None:
        start = time.perf_counter()
        save(*arguments)
        seconds.append(time.perf_counter() - start)

    Keeper.save = timing  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        Keeper.save = save  # type: ignore[method-assign]


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


def resumes(send: Callable[[Any], None], count: int, updates: int) -> None:
    """Train until the memory is full; resume, and send the seconds until the first record and those of compilation."""
    from deeptaxi import train

    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        os.chdir(name)
        train("Taxi-v4", updates=2 * updates, **TRAINING, out="run", stop_after=updates)
        for number in range(1, count + 1):
            records: list[tuple[float, Any]] = []
            start = time.perf_counter()
            train(
                resume="run", stop_after=updates + number,
                on_record=lambda record, to=records, since=start: to.append((time.perf_counter() - since, record)),
            )  # fmt: skip
            send((records[0][0], getattr(records[0][1], "compile_seconds", 0.0)))


def run(short: bool = False) -> Outcome:
    """Measure both."""
    outcome = Outcome("cost")
    count, updates, every = (1, 15_000, 0.5) if short else (5, 150_000, EVERY)
    found = list(processes.messages(lambda send: pairs(send, count, updates, every), PATIENCE))
    soon = list(processes.messages(lambda send: resumes(send, 2 if short else 5, 10_000), PATIENCE))
    if not found or not soon:
        outcome.count(["a training failed"])
        return outcome
    each = [seconds for pair in found for seconds in pair[True][1]]
    one = statistics.median(each)
    shares = [sum(pair[True][1]) / pair[True][0] * every / EVERY for pair in found]
    differences = [pair[True][0] / pair[False][0] - 1 for pair in found]
    first = [seconds for seconds, _ in soon]
    outcome.count([f"checkpoints take {max(shares):.1%} of the training"] if statistics.median(shares) > MOST else [])
    outcome.count([f"a resume takes {max(first):.1f} s"] if statistics.median(first) > SOONEST else [])
    outcome.figures = {
        "checkpoints": len(each),
        "one checkpoint, s": [round(min(each), 3), round(one, 3), round(max(each), 3)],
        "training, s": [round(pair[True][0], 1) for pair in found],
        "share, every 5 s": [f"{min(shares):.2%}", f"{statistics.median(shares):.2%}", f"{max(shares):.2%}"],
        "difference of a pair": [f"{value:+.1%}" for value in sorted(differences)],
        "resume to the first record, s": [round(value, 2) for value in sorted(first)],
        "of it compilation, s": [round(value, 2) for value in sorted(seconds for _, seconds in soon)],
    }
    return outcome
