from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from deeptaxi.report import chart
from deeptaxi.report.chart import axes
from deeptaxi.report.curves import Curve, decades, dots, finish, spread, steps, thin_out


@pytest.mark.parametrize(
    ("counts", "levels", "labels"),
    [
        ([0, 1], [1], ["never", "1 or more"]),
        ([3, 40], [2, 5, 10, 20], ["never", "2 to 4", "5 to 9", "10 to 19", "20 or more"]),
        ([0, 0], [1], ["never", "1 or more"]),
    ],
)
def test_counts_are_put_into_decades(counts, levels, labels):
    found = decades(np.array(counts))
    assert (found[0].tolist(), found[1]) == (levels, labels)


@pytest.mark.parametrize("high", [7, 10**5, 10**12])
def test_every_count_falls_into_one_of_few_decades(high):
    counts = np.array([1, high // 2, high])
    levels, labels = decades(counts)
    assert len(levels) <= 6
    assert len(labels) == len(levels) + 1
    assert (np.digitize(counts, levels) > 0).all()


def test_steps_go_from_zero_to_the_largest_value():
    levels, labels = steps(np.array([0.0, 0.25, 2.0]))
    assert levels == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])
    assert labels[1] == "0 to 0.4"
    assert labels[-1] == "1.6 to 2"
    assert (np.digitize([0.0, 2.0], levels) == [1, 5]).all()


def test_rounding_is_not_stretched_to_the_whole_of_an_axis_or_a_scale():
    figure, ax = axes()
    ax.plot([0, 1], [7.2, 7.2000006])
    finish(ax, "value", legend=False)
    low, high = ax.get_ylim()
    assert high - low == pytest.approx(7.2e-4, rel=0.01)
    assert low < 7.2 < high
    levels, _ = steps(np.array([0.0, 1e-9]), least=1e-3)
    assert levels[1] > 1e-4
    assert figure.axes == [ax]


def test_every_dot_is_visible_in_a_png_too():
    with chart.apply_style():
        figure, ax = chart.axes(4, 4)
        ax.grid(False)
        dots(ax, np.array([[x, y] for x in range(8) for y in range(8)], float), "#ff0000", "dots")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
    red = np.asarray(Image.open(file).convert("RGB")).astype(int) @ [1, -1, 0] > 60
    assert 64 * 4 <= red.sum() <= 64 * 25
    assert (np.diff(red.any(axis=0).astype(int)) == 1).sum() == 8  # columns of them, apart from each other
    assert (np.diff(red.any(axis=1).astype(int)) == 1).sum() == 8


def test_large_dots_are_visible_on_a_line_too():
    with chart.apply_style():
        figure, ax = chart.axes(4, 4)
        dots(ax, np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), "#ff0000", "dots", large=True)
        ax.plot([0, 2], [0, 2], color="black")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
    red = np.asarray(Image.open(file).convert("RGB")).astype(int) @ [1, -1, 0] > 60
    assert red.sum() >= 3 * 25


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


def test_without_points_there_is_no_curve():
    assert spread([Curve(np.array([]), np.array([]))]) is None


@pytest.mark.parametrize("count", [5, 401, 12_345])
def test_a_long_curve_keeps_its_ends(count):
    found = thin_out(Curve(np.arange(count), np.arange(count) * 2.0), 400)
    assert len(found.updates) == min(count, 400)
    assert (found.updates[0], found.updates[-1]) == (0, count - 1)
    assert np.array_equal(found.values, found.updates * 2)
