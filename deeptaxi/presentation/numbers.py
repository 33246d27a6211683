"""Numbers in formulas: short, of one width, and with their signs."""

from __future__ import annotations

DIGITS = 4


def short(value: float | None) -> str:
    """Return a number in at most nine characters; a dash where there is none."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) == float("inf"):
        return "∞" if value > 0 else "-∞"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"{value:.{DIGITS if abs(value) < 1000 else 2}f}"


def plain(value: float | None) -> str:
    """Return a number without the zeros at its end, as a formula has it: ``-10``, ``0.95``."""
    text = short(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def factor(value: float | None) -> str:
    """Return a number that something stands before: in brackets if it has a sign of its own."""
    text = plain(value)
    return f"({text})" if text.startswith("-") else text
