from __future__ import annotations

from pathlib import Path

import pytest

import deeptaxi
from deeptaxi.api.run import Run
from deeptaxi.errors import UsageError
from tests.api.helpers import answer


def test_evaluate_agrees_with_its_command(lake_run: Path, lake: Run) -> None:
    assert deeptaxi.evaluate(lake_run, episodes=20, seed=4).to_dict() == answer(
        "evaluate", lake_run, "--episodes", 20, "--seed", 4
    )
    found = deeptaxi.evaluate(lake, "FrozenLake-v1", episodes=0, objective_discount=0.5, time_limit=7)
    words = ["--env", "FrozenLake-v1", "--episodes", 0, "--objective-discount", 0.5, "--time-limit", 7]
    there = answer("evaluate", lake_run, *words)
    assert {**found.to_dict(), "model": None} == {**there, "model": None}
    assert found.optimal is False  # it slips there
    assert "not optimal" in repr(found)
    assert str(found).startswith("frozenlake-v1-q-table-0 on FrozenLake-v1")


def test_evaluate_refuses_invalid_arguments(lake: Run, lake_run: Path) -> None:
    for model, arguments, message in (
        (lake, {"env": "Taxi-v4"}, "16 states and 4 actions, Taxi-v4 has 500 and 6"),
        (lake_run, {"env": "Taxi-v4"}, "16 states and 4 actions, Taxi-v4 has 500 and 6"),
        (lake, {"episodes": -1}, "expected 0 or more"),
        (lake, {"objective_discount": 1.5}, "expected a discount between 0 and 1"),
        ("nowhere", {}, "no model at nowhere"),
        (lake_run / "model.keras", {}, "does not record what it was trained on"),
    ):
        with pytest.raises(UsageError, match=message):
            deeptaxi.evaluate(model, **arguments)
