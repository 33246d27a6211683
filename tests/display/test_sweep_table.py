"""What a sweep shows while it runs and at its end."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from deeptaxi.display.console import PLAIN
from deeptaxi.display.sweep_table import progress_line, sweep_table


@dataclass
class Counts:
    jobs: int
    done: int
    optimal: int
    failed: int
    seconds_left: float | None = None


def shown(**document: Any) -> str:
    console = Console(**PLAIN, file=io.StringIO(), width=80)
    counts = {"jobs": 4, "done": 0, "failed": 0, "optimal": 0, "seconds": 1.0, "sweep": "models/s"}
    console.print(sweep_table({**counts, "points": [], "runs": [], **document}))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_job_that_failed_is_not_trained() -> None:
    assert progress_line(Counts(8, 3, 2, 1, 100.0)) == "3 of 8 trained · 2 optimal · 1 failed · 2 min left"
    assert progress_line(Counts(4, 3, 2, 1, 0.0)) == "3 of 4 trained · 2 optimal · 1 failed"


def test_a_sweep_that_ended_before_its_first_job_has_no_empty_table() -> None:
    assert shown() == "0 of 0 proven optimal, 4 left, in 1 s.   Saved in models/s\n"
