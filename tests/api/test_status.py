from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.grids import random_grid
from deeptaxi.api.status import planning_status, shown_by, status
from deeptaxi.mdp import sparse_rows, sweeps


def test_a_status_is_reported_to_its_display_and_nested_ones_are_not() -> None:
    told: list[str] = []

    @contextmanager
    def show(text: str) -> Iterator[None]:
        told.append(text)
        yield
        told.append(f"end of {text}")

    with status("unseen"):
        pass
    with shown_by(show), status("outer"), status("inner"):
        pass
    with shown_by(show), shown_by(None), status("hidden"):
        pass
    assert told == ["outer", "end of outer"]


def test_a_long_plan_tells_its_sweeps_to_the_display_and_nobody_else(monkeypatch) -> None:
    monkeypatch.setattr(sweeps, "EVERY", 0.0)
    rows = sparse_rows.pack(random_grid(20))
    told: list[str] = []

    class Shown:
        def update(self, text: str) -> None:
            told.append(text)

    @contextmanager
    def show(_text: str) -> Iterator[Shown]:
        yield Shown()

    with planning_status("unseen"):
        sweeps.sweep(rows, rows.reward, 0.9, 20)
    with shown_by(show), planning_status("solving …"), planning_status("nested"):
        sweeps.sweep(rows, rows.reward, 0.9, 20)
        sweeps.sweep(rows, rows.reward, 1.0, 20)
    assert [text.split(",")[0] for text in told] == [f"solving … sweep {number}" for number in range(1, 21)] * 2
    assert "within" in told[0]
    assert "still changing by" in told[-1]
