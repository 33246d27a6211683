"""Broken and hostile files: `tests.fuzzing` as a part of the proof."""

from __future__ import annotations

from tests.fuzzing import campaign
from tests.reliability.outcome import Outcome

SHORT, LONG = 96, 10_080


def run(short: bool) -> Outcome:
    """Break files and read them."""
    found = campaign.run(SHORT if short else LONG, show=not short)
    outcome = Outcome("fuzzing", failures=found.failures)
    for kind, tally in found.kinds.items():
        counts = {name: tally.outcomes[name] for name in ("read", "refused", "failed")}
        measured = {"longest, s": round(tally.seconds, 1), "most memory, MiB": tally.memory // 2**20}
        outcome.figures[kind] = {"files": tally.outcomes.total(), **counts, **measured}
        outcome.done += tally.outcomes.total()
        outcome.sound += tally.outcomes.total() - tally.outcomes["failed"]
    return outcome
