from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.run import Run
from deeptaxi.errors import UsageError
from tests.api.helpers import answer, plain


def test_explaining_an_update_agrees_with_the_command_and_leaves_the_run_unchanged(lake_run: Path, lake: Run) -> None:
    before = lake.network.get_weights()
    found = deeptaxi.explain.update(lake, state=14, action=2, learning_rate=0.5)
    words = ["--state", 14, "--action", 2, "--learning-rate", 0.5]
    there = answer("explain", "update", lake_run, *words)
    assert plain({**found.to_dict(), "model": None}) == {**there, "model": None}
    for weight, same in zip(before, lake.network.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)
    assert "Compute the td_target" in str(found)
    assert repr(found).startswith("Explanation(update of FrozenLake-v1, state 14, action 2")
    written = deeptaxi.explain.update(None, "FrozenLake-v1", transitions=[(0, 1, -1, 4)], hidden=(8,), seed=1)
    assert written["outcome"] == "as given"
    with pytest.raises(UsageError, match="add --state"):
        deeptaxi.explain.update(lake, action=2)
    with pytest.raises(UsageError, match="configures a fresh network"):
        deeptaxi.explain.update(lake, state=1, hidden=(8,))
    with pytest.raises(UsageError, match="next state"):
        deeptaxi.explain.update(lake, transitions=[(1, 2)])


def test_explaining_gradients_agrees_with_the_command(empty: Path) -> None:
    found = deeptaxi.explain.gradients(3, seed=2, aggregation="max", vectors="vectors.json")
    there = answer("explain", "gradients", "--actions", 3, "--seed", 2, "--aggregation", "max")
    assert {**found.to_dict(), "vectors": None} == there
    assert found["discrepancy"]["largest"] <= found["limit"]
    assert Path("vectors.json").exists()
    assert deeptaxi.explain.gradients(gradient=[0, 8])["dE_dV"]["autodiff"] == 8
    for arguments, message in (
        ({"actions": 0}, "from 1 to"),
        ({"actions": 3, "gradient": [1.0]}, "--actions is 3"),
        ({"gradient": [float("nan")]}, "finite"),
        ({"aggregation": "sum"}, "expected one of mean"),
        ({"vectors": "vectors.json"}, "exists"),
    ):
        with pytest.raises(UsageError, match=message):
            deeptaxi.explain.gradients(**arguments)
