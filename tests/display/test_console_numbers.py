from __future__ import annotations

import pytest

from deeptaxi.display.console import factor, plain, short


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
def test_numbers_of_a_formula_have_no_zeros_at_their_end(value: float, text: str) -> None:
    assert plain(value) == text


def test_a_sign_after_a_sign_is_in_brackets() -> None:
    assert (factor(-2.5), factor(2.5)) == ("(-2.5)", "2.5")
