from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.display.player import BAR, bars
from deeptaxi.evaluation.watching import EpisodeStep
from deeptaxi.mdp.describe import Names


def drawn(q_values, q_span, action=0, optimal=None):
    """Return the marks and the length of the bar of each action, in a state whose Q values are these."""
    values = np.array(q_values, np.float32)
    step = EpisodeStep(1, 0, 0, None, 0.0, None, None, values, action, optimal, q_span, None)
    names = Names(tuple(f"action {number}" for number in range(len(values))), lambda state: f"state {state}")
    lines = [line.plain for line in bars(step, names, 80)]
    return [line[:3] for line in lines], [line.count("█") for line in lines]


@pytest.mark.parametrize(
    ("q_values", "q_span", "lengths"),
    [
        ([2.0, 1.0, 0.0], 2.0, [BAR, BAR // 2, 1]),
        ([2.0, 1.0, 0.0], 40.0, [BAR, BAR // 2, 1]),  # just 5 % of the range
        ([2.0, 1.0, 0.0], 80.0, [BAR, 3 * BAR // 4, BAR // 2]),  # less than that: not stretched
        ([7.2000003, 7.2, 7.1999997], 20.0, [BAR, BAR, BAR]),  # 6e-7 is next to nothing
        ([1.0, 1.0], 0.0, [BAR, BAR]),
        ([0.0, -np.inf, -1.0], 1.0, [BAR, 0, 1]),
    ],
)
def test_bars_are_to_scale_and_never_magnify_rounding(q_values, q_span, lengths):
    assert drawn(q_values, q_span)[1] == lengths


def test_actions_of_equal_value_are_marked():
    marks, _ = drawn([7.2000003, 7.2, 7.1], 20.0, optimal=np.array([True, True, False]))
    assert marks == ["▶ ✓", "= ✓", "   "]
