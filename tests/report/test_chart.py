from __future__ import annotations

import re

import pytest

from deeptaxi.report.chart import BLUE, Chart, apply_style, axes, round_numbers


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("M 1.234567 4.56 \nL 11.23 -4.44 \nz\n", "M1.2 4.6L11.2 -4.4z\n"),
        ("M 0 0 L 100 0 z M 5.04 5", "M0 0L100 0zM5 5"),
        ("translate(12.3456 -0.06)", "translate(12.3 -0.1)"),
    ],
)
def test_coordinates_are_rounded_to_tenths(long, short):
    assert round_numbers(long) == short


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
    assert len(svg) < 10_000
    for left_out in ("http", "#0072b2", "font-family", "<style", "xlink"):
        assert left_out not in svg
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
