from __future__ import annotations

import io

from rich.console import Console

from deeptaxi.presentation.console import PLAIN
from deeptaxi.presentation.progress import TrainingProgress
from deeptaxi.records import Judgement, Progress


def test_without_a_terminal_there_is_a_line_now_and_then() -> None:
    console = Console(**PLAIN, file=io.StringIO(), width=80)
    with TrainingProgress(console, 1000) as progress:
        for update in range(10, 1001, 10):  # a second each: 100 records, of which every tenth is due
            progress.show(Progress(update, update * 32, update / 10, 0.1, 0.1, 1.0, 0.1, 0, None))
            if update == 500:
                progress.show(Judgement(update, False, 0.0, 1.0, 2.5, 300, 25, None))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 10
    assert lines[0] == "100 of 1,000 updates, 10 updates/s, 320 steps/s"
    assert lines[-1] == "1,000 of 1,000 updates, 10 updates/s, 320 steps/s, exact gap 2.5, 25/300 starts optimal"
