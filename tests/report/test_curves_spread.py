from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.report.curves import Curve, spread, thin_out


def curve(*points):
    return Curve(*(np.array(column, float) for column in zip(*points, strict=True)))


def test_a_training_that_has_ended_keeps_its_last_value():
    found = spread([curve((1, 0), (3, 2)), curve((1, 4), (2, 6)), curve((2, 10), (3, 0))])
    assert found.updates.tolist() == [2, 3]  # the third was first looked at after 2 updates
    assert found.low.tolist() == [0, 0]
    assert found.median.tolist() == [6, 2]
    assert found.high.tolist() == [10, 6]


def test_one_curve_is_its_own_median():
    found = spread([curve((1, 5), (2, 7)), Curve(np.array([]), np.array([]))])
    assert found.median.tolist() == found.low.tolist() == found.high.tolist() == [5, 7]


def test_no_points_no_curve():
    assert spread([Curve(np.array([]), np.array([]))]) is None


@pytest.mark.parametrize("count", [5, 401, 12_345])
def test_a_long_curve_keeps_its_ends(count):
    found = thin_out(Curve(np.arange(count), np.arange(count) * 2.0), 400)
    assert len(found.updates) == min(count, 400)
    assert (found.updates[0], found.updates[-1]) == (0, count - 1)
    assert np.array_equal(found.values, found.updates * 2)
