from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from deeptaxi.report import chart
from deeptaxi.report.maps import arrow, canvas, dots, draw, hatching, hint, lift


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


@pytest.mark.parametrize("move", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_an_arrow_and_a_hint_point_where_the_move_leads(move):
    (tail, tip), head = arrow(3, 5, move)
    assert (tip[1] - tail[1], tip[0] - tail[0]) == pytest.approx((0.6 * move[0], 0.6 * move[1]))
    assert head[1] == tip
    middle = np.array([3.5, 5.5])
    assert np.array(hint(3, 5, move)[0]) - middle == pytest.approx(np.array(move[::-1]) * 0.48)


def test_symbols_stay_in_their_cell():
    for strokes in (arrow(0, 0, (0, 1)), lift(0, 0, True), lift(0, 0, False), hatching(0, 0), [hint(0, 0, (1, 0))]):
        points = np.concatenate([np.array(stroke) for stroke in strokes])
        assert points.min() >= 0
        assert points.max() <= 1


def test_nothing_to_draw_draws_nothing():
    _, ax = canvas(2, 2, 1)
    draw(ax, [])
    assert not ax.patches
