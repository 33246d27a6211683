"""Part `fuzzing`: broken and hostile files, read by the commands that read such files (`benchmarks.fuzzing`)."""

from __future__ import annotations

from benchmarks.fuzzing import campaign
from benchmarks.reliability.outcome import Outcome

FEW, MANY = 120, 10_000  # files


def run(short: bool = False) -> Outcome:
    """Break files and read them."""
    found = campaign.run(FEW if short else MANY)
    outcome = Outcome("fuzzing", found.count, found.count - len(found.failures), failures=list(found.failures))
    for kind, tally in found.kinds.items():
        outcome.figures[kind] = dict(sorted(tally.outcomes.items()))
        outcome.figures[f"{kind}: longest, s"] = round(tally.seconds, 1)
        outcome.figures[f"{kind}: most memory, MB"] = round(tally.memory / 1e6)
    return outcome
