from __future__ import annotations

import io
import math

import pytest
from rich.console import Console
from rich.text import Text

from deeptaxi.display.console import PLAIN
from deeptaxi.display.training import (
    BRAILLE,
    DOTS,
    Speed,
    Standing,
    TrainingProgress,
    braille,
    buckets,
    duration,
    length,
    line,
    picture,
    sparkline,
)
from deeptaxi.metrics import Evaluated, Progress, Snapshot, Started, Warned


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


def test_values_out_of_range_stay_on_the_canvas():
    assert dots(braille([-9, 99], 1, 0, 3)) == ["·●", "·●", "·●", "●·"]


def test_buckets_hold_means_and_are_interpolated_in_between():
    # Parts of ten updates: two values in the first, none in the second and third, one in the fourth, none after it.
    assert buckets([1, 9, 35], [2.0, 4.0, 9.0], 5, last=50) == [3.0, 5.0, 7.0, 9.0, None]


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_nan_values_are_left_out(unknown):
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
def test_a_sparkline_has_one_block_per_value(values, width, high, drawn):
    assert sparkline(values, width, high) == drawn


@pytest.mark.parametrize(("seconds", "text"), [(0.43, "0.4 s"), (9.94, "9.9 s"), (12.6, "13 s"), (125, "2:05 min")])
def test_the_duration_of_a_short_training_has_tenths_of_a_second(seconds, text):
    assert length(seconds) == text


STARTED = Started("Taxi-v4", 500, 6, "dueling", "compiled", 0, 1000, 0.1, None, 1.0)
EVALUATED = Evaluated(500, False, -1.5, 4.0, 2.5, 300, 25, None)
SNAPSHOT = Snapshot(500, 0.0, 1.0, 0.5, None, None, 0, 0.5, 390, 2000, 400, 2400)
WARNED = Warned(510, "one-action-collapse", "99 % of the states get the action north: raise --epsilon-end")


def progress(update, second):
    return Progress(update, update * 32, second, 0.1, 0.25, 0.875, 0.004, 2, -20.0)


def training(count=100):
    """A training of 1,000 updates: ten of them in a tenth of a second, an evaluation in the middle."""
    yield STARTED
    for update in range(10, 10 * count + 1, 10):
        yield progress(update, update / 100)
        if update == 500:
            yield from (EVALUATED, SNAPSHOT, WARNED)


def shown(records, **console):
    screen, now = Console(**PLAIN, file=io.StringIO(), **console), [50.0]
    with TrainingProgress(screen, clock=lambda: now[0]) as view:
        for record in records:
            now[0] = 50 + record.seconds if isinstance(record, Progress) else now[0]
            view.show(record)
    return screen.file.getvalue()


def test_without_a_terminal_a_line_is_printed_every_second():
    lines = shown(training(), width=80).splitlines()
    assert len(lines) == 11
    assert lines[0] == (
        "100 of 1,000 updates, 9 s left, speed 100 updates/s, 3,200 steps/s, ε 0.875, learning rate 0.004, "
        "TD error 0.25, return -20 while exploring"
    )
    assert lines[5] == "Warning: 99 % of the states get the action north: raise --epsilon-end"
    assert lines[6].endswith(
        "return -20 while exploring, value -1.5 of 2.5, 25 of 300 starts optimal, "
        "tried 390 of 400 states, 2,000 of 2,400 pairs, finding one-action-collapse, update 510"
    )


def test_a_short_training_prints_no_line():
    assert shown(training(9), width=80) == ""


def test_a_long_judgement_shows_how_far_it_is():
    screen, now = Console(**PLAIN, file=io.StringIO(), width=80), [50.0]
    with TrainingProgress(screen, clock=lambda: now[0]) as view:
        view.show(STARTED)
        for second, sweeps in ((50.9, 8), (51.1, 16), (52.2, 24)):
            now[0] = second
            view.show_sweeps(sweeps, 0.0123, True)
        now[0] = 60
        view.show(EVALUATED)
    lines = screen.file.getvalue().splitlines()
    assert lines[:2] == [f"0 of 1,000 updates, evaluating sweep {sweeps}, within 0.01" for sweeps in (16, 24)]
    assert "evaluating" not in lines[2]


def test_a_quiet_console_shows_nothing_not_even_on_a_terminal():
    assert shown(training(), width=80, quiet=True) == ""
    assert shown(training(), width=80, quiet=True, force_terminal=True) == ""


def standing(*records):
    found = Standing()
    second = 0.0
    for record in records:
        second = record.seconds if isinstance(record, Progress) else second
        found.take(record, second)
    return found


def drawn(width):
    console = Console(**PLAIN, file=io.StringIO(), width=width)
    console.print(picture(standing(*training()), width))
    return console.file.getvalue().splitlines()


def test_the_live_view_has_a_bar_and_curves():
    lines = drawn(100)
    assert lines[0] == "1,000 of 1,000 updates, 0 s left"
    assert lines[1] == "━" * 60
    assert [text.split("  ")[0] for text in lines[2:]] == [
        "speed", "ε", "TD error", "return", "value", "tried", "finding",
    ]  # fmt: skip
    assert lines[6].rstrip().endswith("25 of 300 starts optimal    ▁")


@pytest.mark.parametrize("width", [79, 40, 20, 5, 1])
def test_a_narrow_terminal_gets_less_and_no_line_is_broken(width):
    lines = drawn(width)
    assert len(lines) == 9
    assert all(Text(text).cell_len <= width for text in lines)
    assert "▁" not in "".join(lines)


def test_on_a_terminal_the_live_view_is_erased_and_the_warning_stays():
    text = shown(training(), width=100, height=30, force_terminal=True, color_system=None)
    assert "━━━" in text
    assert text.count("Warning: 99 %") == 1
    assert text.rstrip().endswith("\x1b[2K")  # the last that is written clears a line


def test_the_speed_is_that_of_recent_updates():
    speed = Speed()
    for second in range(1, 11):
        speed.add(second, 1000 * second)
    assert speed.updates == 1000
    for second in range(11, 21):
        speed.add(second, 10_000 + 10 * (second - 10))
    assert speed.updates == 10


def test_records_that_arrive_at_once_do_not_raise_the_speed():
    speed = Speed()
    for piece in range(1, 20):  # a piece a second, of ten records each
        for record in range(10):
            speed.add(piece + record * 1e-5, 100 * (piece - 1) + 10 * (record + 1))
    assert speed.updates == pytest.approx(100, rel=1e-3)


def test_an_evaluation_updates_the_progress_too():
    # Of a hundred million updates a report is due every 200,000.
    found = Standing()
    found.take(STARTED, 0.0)
    found.take(EVALUATED, 2.0)
    assert line(found).startswith("500 of 1,000 updates, 2 s left, speed 250 updates/s, value -1.5 of 2.5")


def test_the_progress_is_unknown_before_the_first_record():
    assert line(Standing()) == "0 updates"
    assert line(standing(STARTED)) == "0 of 1,000 updates"


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (125, "2:05 min"), (3725, "1:02:05 h")])
def test_durations_are_formatted_for_people(seconds, text):
    assert duration(seconds) == text
