from __future__ import annotations

import re

import pytest

from deeptaxi.report.chart import BLUE, Chart, apply_style, axes, path, replace_styles, round_numbers


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("M 1.23 4.56 \nL 11.23 4.56 \nL 11.23 -4.44 \n", "M1.2 4.6h10v-9"),
        ("M 0 0 L 10 0 L 10 10 L 0 10 L 0 0 z M 5 5 L 6 6", "M0 0h10v10h-10v-10zM5 5l1 1"),
        ("M 0 0 L 1 0 L 2.5 0 L 2.5 0 L 2 0", "M0 0h2.5h-.5"),  # onwards is one line, back is another
        ("M 3 3 L 3.001 3", "M3 3h0"),  # a dot stays one
        ("M 0.04 0 L 0.08 0 L 0.12 0 L 0.16 0", "M0 0h.2"),  # roundings do not add up
        ("M 1.26 2 C 1.24 2 3.333 4.444 5 6", "M 1.3 2 C 1.2 2 3.3 4.4 5 6"),
    ],
)
def test_a_path_says_the_same_in_fewer_letters(long, short):
    assert path(long) == short


def test_numbers_are_rounded_and_colors_become_variables():
    assert round_numbers("translate(12.3456 -0.04)", 1) == "translate(12.3 -0)"
    text = replace_styles(f"fill: {BLUE}; font-family: 'DejaVu Sans', sans-serif; stroke-width: 1.5")
    assert text == "fill:var(--blue);stroke-width:1.5"


@pytest.fixture
def chart():
    with apply_style():
        figure, ax = axes()
        ax.plot([0, 1, 2], [1, 3, 2], color=BLUE, label="a < b & c")
        ax.legend()
        yield Chart("one", "Title & <more>", "From 1 to 2.", figure)


def test_an_inline_picture_is_small_and_has_its_words(chart):
    svg = chart.inline()
    assert svg.startswith("<svg viewBox=")
    assert "Title &amp; &lt;more&gt;" in svg
    assert "a &lt; b &amp; c" in svg
    assert "var(--blue)" in svg
    assert len(svg) < 8_000
    assert "http" not in svg
    assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(re.findall(r'id="([^"]+)"', svg))


def test_the_same_chart_is_the_same_file_whatever_was_drawn_before(chart, tmp_path):
    first = chart.inline()
    files = [file.read_bytes() for file in chart.write(tmp_path)]
    assert chart.inline() == first  # the title of the files has gone again
    assert [file.read_bytes() for file in chart.write(tmp_path)] == files
    assert files[0].startswith(b"\x89PNG")
    assert b"Title &amp; &lt;more&gt;" in files[1]


def test_drawing_leaves_matplotlibs_own_settings_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with apply_style():
        assert mpl.rcParams["svg.fonttype"] == "none"
    assert dict(mpl.rcParams) == before
