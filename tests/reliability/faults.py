"""Part `faults`: every write, on a disk that fails at a point of it (`tests.reliability.disk_faults`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.reliability import disk_faults
from tests.reliability.outcome import Outcome

SHORT = 3  # points of each kind of fault in each write that takes its time; the others have all of theirs


def run(short: bool) -> Outcome:
    """Let the disk fail, and count what came of it."""
    tried = disk_faults.run(SHORT if short else None, short)
    found = Outcome("faults")
    for one in tried:
        where = f"{one.write}: {one.kind} {one.number} at {one.point} of {one.points} ({one.operation})"
        found.count([f"{where}: {one.fault}; the message was: {one.line}"] if one.fault else [])
    found.figures = {
        "different points": len({(one.write, one.point) for one in tried}),
        "points there are": sum({one.write: one.points for one in tried}.values()),
        "writes": counted(one.write for one in tried),
        "faults": counted(one.number if one.kind == "error" else one.kind for one in tried),
        "calls that failed": counted(one.operation.removeprefix("short ").split()[0] for one in tried),
        "the old one stood afterwards": sum(one.stands == "old" for one in tried),
        "the new one stood afterwards": sum(one.stands == "new" for one in tried),
    }
    return found


def counted(names: Iterable[str]) -> str:
    """Return how often there was each."""
    return ", ".join(f"{name} {count:,}" for name, count in Counter(names).most_common())
