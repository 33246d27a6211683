"""Prove what a run survives: ``python -m tests.reliability [--short] [PART …]``.

Each part is a function that returns figures and failures (`outcome`); the exit code is 1 where anything failed. The
long form writes RELIABILITY.md, and its figures as results.json, after each part: one that is left out keeps the
figures that it has there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.reliability import (
    commands,
    cost,
    determinism,
    faults,
    full_disk,
    fuzzing,
    kill,
    odd_lines,
    page,
    processes,
    soak,
)
from tests.reliability.outcome import Outcome

PATIENCE = 3600.0  # seconds
FOLDER = Path(__file__).resolve().parent
PARTS: dict[str, Callable[[bool], Outcome]] = {
    "kill": lambda short: kill.run(kill.SHORT if short else kill.LONG),
    "faults": lambda short: apart(faults.run, short),
    "full-disk": lambda short: full_disk.run(full_disk.SHORT if short else full_disk.LONG),
    "fuzzing": fuzzing.run,
    "commands": lambda short: commands.run(commands.SHORT if short else commands.LONG),
    "surroundings": lambda short: odd_lines.run(odd_lines.SHORT if short else odd_lines.LONG),
    "soak": lambda short: soak.run(soak.SHORT if short else soak.LONG),
    "determinism": lambda short: determinism.run(determinism.SHORT if short else determinism.LONG),
    "cost": cost.run,
}


def apart(part: Callable[[bool], Outcome], short: bool) -> Outcome:
    """Run a part that computes in a fork: forks of a process that has computed are not sound."""
    for found in processes.messages(lambda send: send(dataclasses.asdict(part(short))), PATIENCE):
        return Outcome(**found)
    return Outcome("faults", 1, failures=["the process of this part died"])


def measure(part: str, short: bool) -> Outcome:
    """Run one part."""
    print(f"{part} …", file=sys.stderr, flush=True)
    start = time.perf_counter()
    outcome = PARTS[part](short)
    outcome.seconds = time.perf_counter() - start
    return outcome


def show(outcomes: list[Outcome]) -> None:
    """Print the table, and what failed."""
    from rich.table import Table

    from deeptaxi.display.console import out

    table = Table("part", "sound", "figures", "s")
    for outcome in outcomes:
        figures = "\n".join(f"{name}: {page.shown(value)}" for name, value in outcome.figures.items())
        table.add_row(outcome.part, page.result(dataclasses.asdict(outcome)), figures, f"{outcome.seconds:.0f}")
    screen = out()
    screen.print(table)
    for outcome in outcomes:
        for failure in outcome.failures:
            screen.print(f"{outcome.part}: {failure}", markup=False, soft_wrap=True, style="red")


def write(outcome: Outcome, folder: Path) -> None:
    """Add the figures of one part to the JSON, and write the page."""
    path = folder / "results.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found[outcome.part] = {**dataclasses.asdict(outcome), "date": page.today()}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "RELIABILITY.md").write_text(page.page(found), encoding="utf-8")


def main() -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all, if none is named")
    parser.add_argument("--short", action="store_true", help="five minutes; writes nothing")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the page and the JSON go")
    given = parser.parse_args()
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}; parts: {', '.join(PARTS)}")
    processes.warm()
    outcomes = []
    for part in given.parts or PARTS:
        outcomes.append(measure(part, given.short))
        if not given.short:
            write(outcomes[-1], given.out)
    show(outcomes)
    return int(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
