from __future__ import annotations

import math

import pytest

from deeptaxi.display.training import BRAILLE, DOTS, braille, buckets, sparkline


def dots(lines):
    """Turn Braille letters back into a picture of dots."""
    return [
        "".join("●" if (ord(letter) - BRAILLE) & DOTS[row][column] else "·" for letter in line for column in range(2))
        for line in lines
        for row in range(4)
    ]


def test_a_rising_line_is_drawn_from_corner_to_corner():
    assert dots(braille([0, 1, 2, 3], 1, 0, 3)) == [
        "···●",
        "··●·",
        "·●··",
        "●···",
    ]


def test_a_jump_is_joined_and_a_gap_is_not():
    assert dots(braille([0, 7, None, 7], 2, 0, 7)) == ["·●·●", *["·●··"] * 6, "●···"]


def test_a_reference_is_dotted_across():
    assert dots(braille([0] * 8, 1, 0, 3, reference=3)) == ["●···●···", "········", "········", "●●●●●●●●"]


def test_a_line_that_does_not_move_is_drawn_in_the_middle():
    assert [row.count("●") for row in dots(braille([5.0] * 4, 1, 5.0, 5.0))] == [0, 0, 4, 0]


def test_rounding_is_not_stretched_to_the_whole_chart():
    assert sparkline([7.2, 7.2000006, 7.1999994], 9) == "▁▁▁"
    assert sparkline([1e-9, 2e-9], 9) == "▁█"  # small numbers are no noise by themselves
    assert [row.count("●") for row in dots(braille([7.2, 7.2000006], 1, 7.2, 7.2000006))] == [0, 0, 2, 0]


def test_values_beyond_the_edges_stay_on_the_canvas():
    assert dots(braille([-9, 99], 1, 0, 3)) == ["·●", "·●", "·●", "●·"]


def test_parts_hold_means_and_lie_on_lines_in_between():
    # Parts of ten updates: two values in the first, none in the second and third, one in the fourth, none after it.
    assert buckets([1, 9, 35], [2.0, 4.0, 9.0], 5, last=50) == [3.0, 5.0, 7.0, 9.0, None]


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_what_is_not_a_number_is_left_out(unknown):
    assert buckets([0, 5], [unknown, 1.0], 2, last=10) == [None, 1.0]
    assert sparkline([unknown, 1.0, 2.0], 9) == "▁█"


@pytest.mark.parametrize(
    ("values", "width", "high", "drawn"),
    [
        (range(8), 8, None, "▁▂▃▄▅▆▇█"),
        (range(8), 4, None, "▁▃▆█"),
        ([0, 1], 8, 7, "▁▂"),  # of a full block at 7
        ([3, 3, 3], 8, None, "▁▁▁"),
        ([], 8, None, ""),
        ([1], 0, None, ""),
    ],
)
def test_sparklines(values, width, high, drawn):
    assert sparkline(values, width, high) == drawn
