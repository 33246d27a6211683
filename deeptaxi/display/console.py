"""Consoles and number formats: results go to standard output, everything else to standard error."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from deeptaxi.errors import printable
from deeptaxi.metrics import decimals

DIGITS = 4


def short(value: float | None) -> str:
    """Format a number in at most nine characters; None as a dash."""
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
    """Format a number without trailing zeros, as in a formula: ``-10``, ``0.95``."""
    text = short(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def factor(value: float | None) -> str:
    """Format a number to follow a factor: in parentheses if it is negative."""
    text = plain(value)
    return f"({text})" if text.startswith("-") else text


# Names of files and environments may contain square brackets and colons: they are text, not markup.
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}


FACTS = 40  # minimum characters per line of a table of facts
SIZE = re.compile("[1-9][0-9]{0,3}")  # of a terminal, in characters or lines


class Screen(Console):
    """A console that strips control characters and lets its caller handle a closed pipe."""

    def __init__(self, **options: Any) -> None:
        """Create a console; `options` are rich's."""
        super().__init__(**{**sensible_size(), **colors_alone(options), **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the rendered segments, with control characters removed from their text."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(printable(part.text), part.style)

    def on_broken_pipe(self) -> None:
        """Reraise the current error."""
        raise  # rich calls this while it handles the BrokenPipeError


def sensible_size() -> dict[str, int]:
    """Return the terminal size if the environment's values for it are invalid: rich shows nothing in 0 columns."""
    named = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    if not any(text.isdigit() and not SIZE.fullmatch(text) for text in named):
        return {}
    width, height = (min(size, 9999) for size in shutil.get_terminal_size())
    return {"width": width, "height": height}


def colors_alone(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that give files and pipes the colors of FORCE_COLOR, but not rich's animations."""
    stream = options.get("file") or (sys.stderr if options.get("stderr") else sys.stdout)
    if not os.environ.get("FORCE_COLOR") or os.environ.get("TTY_COMPATIBLE") or stream.isatty():
        return {}
    return {"force_terminal": False, "color_system": "standard"}


def out() -> Console:
    """Return the console for results. In a pipe, nothing is cut to a screen width."""
    console = Screen(**PLAIN)
    return console if console.is_terminal else Screen(**PLAIN, width=200)


def err(quiet: bool = False) -> Console:
    """Return the console for progress and remarks; a quiet one shows nothing."""
    return Screen(**PLAIN, stderr=True, quiet=quiet)


def print_wide(part: RenderableType, least: int = 80) -> None:
    """Print a result whose numbers must not be cut: a narrower terminal wraps its lines instead."""
    console = out()
    console.width = max(console.width, least)
    console.print(part)


def facts(title: str, rows: Mapping[str, str | Text]) -> Table:
    """Create a table with two columns: name and value."""
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")  # a truncated digest is useless
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def number(value: float | None, digits: int = 4) -> str:
    """Format a number for people; None as a dash. A nonzero number never shows as zero."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = decimals(value, digits, ",")
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return "0" if text == "-0" else text


def columns(title: str | None, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Table:
    """Create a table with a header and right-aligned numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for index, name in enumerate(names):
        numeric = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        table.add_column(
            name, justify="right" if numeric else "left", header_style="dim", overflow="fold", no_wrap=index == 0
        )
    for row in rows:
        table.add_row(*(item if isinstance(item, str) else number(item) for item in row))
    return table
