"""What it costs a training of the compiled loop to be watched: ``python -m benchmarks.watching``.

The same training, seed for seed, with nobody looking, and with all that `deeptaxi train` attaches: `metrics.jsonl`, the
events for TensorBoard and the live view on a pseudo-terminal that another process reads. The two take turns in one
process on one core. The clock is CPU seconds of the process, from the first update to the last record; what is written
after that is given apart.

Two figures say what it costs. *Share* is the time inside the watchers over the time of the training they watch; both
are taken in the same second, so a busy machine hardly moves it. *Difference* is how much longer the watched training
took than the unwatched one; it knows of caches too, but on a shared machine it moves by more than what is measured.
"""

from __future__ import annotations

import argparse
import gc
import os
import pty
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from benchmarks.peers.common import Clock
from deeptaxi.backend import keras_backend
from deeptaxi.config import merge, resolve

TAXI: dict[str, Any] = {"environment": {"id": "Taxi-v4"}, "loop": "compiled"}
TABLE = {"network": {"hidden": [], "dueling": False}}
ALL = {"evaluation": {"early_stop": False}}
CASES = {
    "dueling, to the optimum": TAXI,
    "dueling, all 6,000 updates": merge(TAXI, ALL),
    "Q table, to the optimum": merge(TAXI, TABLE),
    "Q table, all 10,000 updates": merge(merge(TAXI, TABLE), ALL),
}


class Cost(NamedTuple):
    """CPU seconds of one training."""

    training: float  # from the first update to the last record
    watchers: float  # of these, inside the watchers
    closing: float  # from there until all is written
    records: int


@contextmanager
def terminal(core: int) -> Iterator[TextIO]:
    """Open a pseudo-terminal that a process on another core reads, as a terminal's window does."""
    master, slave = pty.openpty()
    with subprocess.Popen(["cat"], stdin=master, stdout=subprocess.DEVNULL) as reader:  # noqa: S607
        os.sched_setaffinity(reader.pid, set(range(os.cpu_count() or 1)) - {core} or {core})
        os.close(master)
        with os.fdopen(slave, "w", encoding="utf-8") as file:
            yield file
        reader.kill()


def cost(settings: dict[str, Any], environment: Any, screen: TextIO | None) -> Cost:
    """Train once, watched if there is a screen."""
    from deeptaxi.display.console import PLAIN, Screen
    from deeptaxi.display.training import TrainingProgress
    from deeptaxi.learning.trainer import train
    from deeptaxi.storage.logs import EVENTS, Log
    from deeptaxi.storage.tensorboard import Events

    config, watchers = resolve(settings), []
    with ExitStack() as stack:
        if screen is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            console = Screen(**PLAIN, file=screen, force_terminal=True, width=100, height=40)
        training = train(config, environment)
        with ExitStack() as watching:
            if screen is not None:
                log = watching.enter_context(Log(folder, folder, {EVENTS: lambda place: Events(place, config)}))
                view = watching.enter_context(TrainingProgress(console))
                watchers += [log.write, view.show]
            started = next(training)
            for watch in watchers:
                watch(started)
            gc.collect()
            clock, inside = Clock(), 0.0
            for count, record in enumerate(training, start=1):  # noqa: B007  # the last one is kept
                begin = time.thread_time()
                for watch in watchers:
                    watch(record)
                inside += time.thread_time() - begin
            spent = clock.cpu
        return Cost(spent, inside, clock.cpu - spent, count)


def measure(core: int, repeats: int) -> dict[str, list[tuple[Cost, Cost]]]:
    """Train every case, unwatched and watched in turn; the first turn, which finds nothing compiled, does not count."""
    from deeptaxi.config import EnvironmentConfig
    from deeptaxi.mdp.environment import open_environment

    environment = open_environment(EnvironmentConfig("Taxi-v4"))
    found: dict[str, list[tuple[Cost, Cost]]] = {name: [] for name in CASES}
    with terminal(core) as screen:
        for repeat in range(-1, repeats):
            for name, settings in CASES.items():
                seeded = {**settings, "seed": max(repeat, 0)}
                turns = [(False, None), (True, screen)]
                costs = {on: cost(seeded, environment, place) for on, place in turns[:: 1 if repeat % 2 else -1]}
                found[name] += [(costs[False], costs[True])] if repeat >= 0 else []
    return found


def table(found: dict[str, list[tuple[Cost, Cost]]]) -> str:
    """Return the medians as Markdown."""
    lines = [
        "| training | records | unwatched, s | watched, s | share | range | difference | range | then to close, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, pairs in found.items():
        shares = [watched.watchers / watched.training for _, watched in pairs]
        differences = [watched.training / alone.training - 1 for alone, watched in pairs]
        seconds = [(alone.training, watched.training, watched.closing) for alone, watched in pairs]
        alone, watched, closing = (statistics.median(values) for values in zip(*seconds, strict=True))
        lines.append(
            f"| {name} | {pairs[0][1].records:,} | {alone:.2f} | {watched:.2f} | {spread(shares)} "
            f"| {spread(differences)} | {closing:.3f} |"
        )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return the median and the range, as two cells."""
    return f"{statistics.median(values):.1%} | {min(values):.1%} to {max(values):.1%}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.core})
    keras_backend.start()
    print(table(measure(given.core, given.repeats)))


if __name__ == "__main__":
    main()
