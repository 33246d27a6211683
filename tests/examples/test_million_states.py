"""The example of a million states, at 400: in this process, as it needs what the tests have imported anyway."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "million_states.py"


def test_it_is_trained_judged_and_reported(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--size", "20", "--out", str(tmp_path / "a" / "r.html")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "TransitionTable(400 states, 4 actions, 3 outcomes, 318 start states)" in printed
    assert "Optimal           yes: 318 of 318 start states" in printed
    assert "<html" in (tmp_path / "a" / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("slip", "outcomes"), [(0.0, 1), (0.2, 3)])
def test_its_city_moves_as_it_says(slip, outcomes):
    table = runpy.run_path(str(EXAMPLE))["city"](12, slip)
    assert table.probability.shape == (144, 4, outcomes)
    state = 5 * 12 + 5
    for action, step in enumerate([-12, 1, 12, -1]):
        assert table.next_state[state, action, 0] in (state + step, state)  # ahead, or a wall is
        assert table.probability[state, action, 0] == pytest.approx(1 - slip)
    built = np.flatnonzero((table.start == 0) & ~np.isin(np.arange(144), table.next_state[table.terminated]))
    entered = table.next_state != np.arange(144)[:, None, None]
    assert not np.isin(table.next_state[entered], built).any()
