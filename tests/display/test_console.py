from __future__ import annotations

import io

import pytest
from rich.console import Console

from deeptaxi.display.console import PLAIN, columns, err, factor, facts, number, out, plain, print_wide, short
from deeptaxi.errors import printable

DIGEST = "d6b5fc82f3730b21f067a004507c6380cac61c35d3454c5e437543572a502ab9"


def shown(table: object, width: int) -> str:
    console = Console(**PLAIN, file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7.930000000000001, "7.93"),
        (-100.0, "-100"),
        (0.0, "0"),
        (-1e-9, "-1e-09"),
        (1.23e-12, "1.2e-12"),
        (0.00004, "4e-05"),
        (1234.5, "1,234.5"),
        (4e30, "4e+30"),
        (-1.5e15, "-1.5e+15"),
        (None, "–"),
    ],
)
def test_numbers_are_formatted_for_people(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    text = shown(facts("a title", {"Weights digest": DIGEST}), width=40)
    assert DIGEST in "".join(part for line in text.splitlines()[1:] for part in line[16:].split())


def test_square_brackets_are_not_markup() -> None:
    assert "[red]x[/red]" in shown(facts("t", {"Saved in": "[red]x[/red]"}), width=80)
    assert "[b]" in shown(columns(None, ("Name", "Size"), [("[b]", 3)]), width=80)


def test_a_name_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out().print(columns(None, ("Name", "Size"), [("\x1b[2J\x1b]0;title\x07\x9b31mä", 3)]))
    printed = capsys.readouterr().out
    assert "[2J]0;title31mä  " in printed
    assert printable(printed) == printed


@pytest.mark.parametrize("size", ["0", "²", "9" * 20, "00", "x", "-5", ""])
def test_an_invalid_terminal_size_hides_nothing(
    size: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", size)
    monkeypatch.setenv("LINES", size)
    out().print("a result")
    err().print("a remark")
    assert capsys.readouterr() == ("a result\n", "a remark\n")
    assert 20 <= err().width < 10_000


def test_colors_without_a_terminal_move_no_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with err().status("working"):
        err().print("a warning", style="yellow")
    assert capsys.readouterr().err == "\x1b[33ma warning\x1b[0m\n"


def test_wide_output_is_not_cut_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deeptaxi.display.console.out", lambda: Console(**PLAIN, width=40))
    print_wide(columns(None, ("a", "b"), [("x" * 40, "y" * 30)]))
    assert "y" * 30 in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-10.0, "-10.0000"),
        (0.00123, "0.0012"),
        (0.000123, "1.23e-4"),
        (12345.678, "12345.68"),
        (-1234567.0, "-1.23e+6"),
        (-float("inf"), "-∞"),
        (None, "–"),
    ],
)
def test_numbers_of_a_column_are_short(value: float | None, text: str) -> None:
    assert short(value) == text
    assert len(text) <= 9


@pytest.mark.parametrize(("value", "text"), [(-10.0, "-10"), (0.95, "0.95"), (100.0, "100"), (1e-4, "1.00e-4")])
def test_numbers_of_a_formula_have_no_trailing_zeros(value: float, text: str) -> None:
    assert plain(value) == text


def test_a_negative_factor_is_in_brackets() -> None:
    assert (factor(-2.5), factor(2.5)) == ("(-2.5)", "2.5")
