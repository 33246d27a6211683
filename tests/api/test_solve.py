from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

import deeptaxi
from benchmarks.grids import random_grid
from deeptaxi.api.status import shown_by
from deeptaxi.errors import UsageError
from deeptaxi.mdp.table import TransitionTable
from tests.api.helpers import answer, plain


def test_solve_agrees_with_its_command(table: TransitionTable, empty: Path) -> None:
    found = deeptaxi.solve("FrozenLake-v1", 0.9, env_args={"is_slippery": False}, time_limit=9)
    words = ["--env-arg", "is_slippery=false", "--time-limit", 9, "--objective-discount", 0.9]
    there = answer("solve", "FrozenLake-v1", *words)
    assert plain(found.to_dict()) == {key: there[key] for key in found.to_dict()}
    three = deeptaxi.solve(table, out="three.csv")
    assert three.discount == 0.9
    assert three.value.tolist() == pytest.approx([0.81, 0.9, 1.0])
    assert Path("three.csv").read_text(encoding="utf-8").count("\n") == 4
    for out, message in (("three.csv", "exists"), ("three.txt", r"\.csv, \.npz or \.json")):
        with pytest.raises(UsageError, match=message):
            deeptaxi.solve(table, out=out)
    with pytest.raises(UsageError, match="Blackjack-v1 has no true table"):
        deeptaxi.solve("Blackjack-v1")


def test_the_memory_that_planning_takes_is_told_of_a_large_table(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("deeptaxi.mdp.table.LARGE", 1)
    with shown_by(lambda text: contextlib.nullcontext(told.append(text))):
        deeptaxi.solve(random_grid(3))
    assert told == ["solving (it takes about 4.2 KiB of memory) …"]
