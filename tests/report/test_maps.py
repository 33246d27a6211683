from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.path import Path

from deeptaxi.mdp.describe import GridMap, Layer
from deeptaxi.report import chart
from deeptaxi.report.maps import ARROW, CELL, CORNER, DROP_OFF, HINT, PICK_UP, policy_map, segments, sign, stamp, toward


@pytest.mark.parametrize("move", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_an_arrow_and_a_hint_point_where_the_move_leads(move: tuple[int, int]) -> None:
    tail, tip, *head = sign(move).vertices
    assert tip - tail == pytest.approx(0.6 * np.array(move[::-1]))  # x, y
    assert (head[1] == tip).all()
    assert toward(HINT, move).vertices[0] == pytest.approx(0.48 * np.array(move[::-1]))


def test_a_pickup_points_up_and_a_drop_off_down() -> None:
    assert (sign("pick up"), sign("drop off")) == (PICK_UP, DROP_OFF)
    assert PICK_UP.vertices[1][1] < PICK_UP.vertices[0][1]  # y points down
    assert DROP_OFF.vertices[1][1] > DROP_OFF.vertices[0][1]


@pytest.mark.parametrize("shape", [ARROW, CELL, CORNER, DROP_OFF, HINT, PICK_UP])
def test_a_shape_stays_in_its_cell(shape: Path) -> None:
    assert np.abs(shape.vertices).max() <= 0.5


def test_shapes_of_one_style_are_one_path() -> None:
    ax = Figure().subplots()
    stamp(ax, [(CELL, [(0, 0), (2, 3)]), (HINT, [(1, 1)])], facecolor="red")
    (patch,) = ax.patches
    vertices = patch.get_path().vertices
    assert (vertices[:4] == CELL.vertices + 0.5).all()
    assert (vertices[4:8] == CELL.vertices + np.array([3.5, 2.5])).all()  # x is the column
    assert (vertices[8:] == HINT.vertices + 1.5).all()
    stamp(ax, [(CELL, [])])
    assert len(ax.patches) == 1


def test_segments_are_one_line_with_gaps() -> None:
    ax = Figure().subplots()
    segments(ax, [((0, 1), (2, 3)), ((4, 5), (6, 7))])
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 2, np.nan, 4, 6, np.nan])
    np.testing.assert_array_equal(line.get_ydata(), [1, 3, np.nan, 5, 7, np.nan])


def test_a_map_has_axes_for_each_layer_and_a_legend_of_what_occurs() -> None:
    layers = tuple(
        tuple(Layer(np.arange(4).reshape(2, 2) + 4 * (2 * down + across)) for across in (0, 1)) for down in (0, 1)
    )
    grid = GridMap(
        (("floor", "hole"), ("start", "goal")), ((0, 1), (1, 0)), layers, {(0, 0): "A"}, (((0, 0), (0, 1)),),
        ("side", ("left", "right")), ("floor", ("upper", "lower")),
    )  # fmt: skip
    states = np.tile([True, False, True, False], 4)
    states[:4] = False
    with chart.apply_style():
        figure = policy_map(grid, np.zeros(16, int), states, None)
    assert [ax.get_title() for ax in figure.axes] == ["side left", "side right", "", ""]
    assert [ax.get_ylabel() for ax in figure.axes] == ["floor upper", "", "floor lower", ""]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["greedy action", "hole", "never seen"]
    assert [sum(text.get_text() == "never seen" for text in ax.texts) for ax in figure.axes] == [1, 0, 0, 0]


def test_a_chart_of_parts_labels_its_rows_and_columns() -> None:
    layers = ((Layer(np.arange(6).reshape(2, 3)), Layer(np.arange(6, 12).reshape(2, 3))),)
    grid = GridMap(
        (("floor",) * 3,) * 2, ("stick", "hit"), layers, across=("", ("no ace", "an ace")),
        row=("sum", ("20", "21")), column=("part 2:", ("1", "2", "3")),
    )  # fmt: skip
    with chart.apply_style():
        figure = policy_map(grid, np.array([0, 1] * 6), np.ones(12, bool), None)
    assert [ax.get_title() for ax in figure.axes] == ["no ace", "an ace"]
    for ax in figure.axes:
        assert (ax.get_ylabel(), ax.get_xlabel()) == ("sum", "part 2")
        assert [text.get_text() for text in ax.get_yticklabels()] == ["20", "21"]
        assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["greedy action: stick", "greedy action: hit"]
