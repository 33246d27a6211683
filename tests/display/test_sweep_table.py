"""What a sweep shows while it runs and at its end."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from deeptaxi.display.console import PLAIN
from deeptaxi.display.sweep_table import SweepProgress, progress_line, sweep_table


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


def test_it_says_what_is_done_before_the_first_job_has_ended() -> None:
    console = Console(**PLAIN, file=io.StringIO(), width=80)
    with SweepProgress(console) as progress, progress.status("training 2 of 2 jobs …"):
        progress({"job": "seed-0", "status": "failed", "reason": "it broke"}, Counts(2, 0, 0, 1, 9.0))
        progress({"job": "seed-1", "status": "done"}, Counts(2, 1, 1, 1))
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "training 2 of 2 jobs …",
        "seed-0 failed: it broke",
        "0 of 2 trained · 0 optimal · 1 failed · 9 s left",
        "1 of 2 trained · 1 optimal · 1 failed",
    ]


def test_on_a_terminal_one_line_is_redrawn_and_removed() -> None:
    console = Console(**{**PLAIN, "force_terminal": True}, file=io.StringIO(), width=80)
    with SweepProgress(console) as progress, progress.status("training 2 of 2 jobs …"):
        progress({"job": "seed-0", "status": "done"}, Counts(2, 1, 1, 0, 9.0))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 2 trained · 1 optimal · 9 s left" in shown
    assert shown.endswith("\x1b[2K")
