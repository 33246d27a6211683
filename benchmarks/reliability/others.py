"""Parts `faults` and `fuzzing`, which have modules of their own: `benchmarks.disk_faults` and `benchmarks.fuzzing`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.reliability import processes
from benchmarks.reliability.outcome import Outcome

PATIENCE = 3600.0
FEW, MANY = 120, 10_000  # files


def fail_disks(send: Callable[[Any], None], short: bool) -> None:
    """Let the disk fail, and send what each fault came to."""
    from benchmarks.disk_faults import run

    for found in run(points=2 if short else None, short=short):
        send(asdict(found))
    send(None)


def faults(short: bool = False) -> Outcome:
    """Let the disk fail inside of every write, at two points of each or at all of them."""
    outcome, kinds, writes = Outcome("faults"), Counter[str](), set()
    ended = False
    for found in processes.messages(lambda send: fail_disks(send, short), PATIENCE):
        if found is None:
            ended = True
            break
        where = f"{found['write']}, point {found['point']} of {found['points']} ({found['operation']}), {found['kind']}"
        outcome.count([f"{where}: {found['fault']}"] if found["fault"] else [])
        kinds[found["kind"]] += 1
        writes.add(found["write"])
    if not ended:
        outcome.count(["the process that lets disks fail has failed itself"])
    outcome.figures = {"writes": len(writes), **{f"faults of kind '{kind}'": times for kind, times in kinds.items()}}
    return outcome


def fuzzing(short: bool = False) -> Outcome:
    """Break files and read them."""
    from benchmarks.fuzzing.campaign import run

    found = run(FEW if short else MANY)
    outcome = Outcome("fuzzing", found.count, found.count - len(found.failures), failures=list(found.failures))
    for kind, tally in found.kinds.items():
        outcome.figures[kind] = dict(sorted(tally.outcomes.items()))
        outcome.figures[f"{kind}: longest, s"] = round(tally.seconds, 1)
        outcome.figures[f"{kind}: most memory, MB"] = round(tally.memory / 1e6)
    return outcome
