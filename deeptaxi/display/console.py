"""Where things are shown, and how numbers look: results on standard output, all else on standard error."""

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


# Names of files and environments may hold square brackets and colons: they are text, not markup.
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}


FACTS = 40  # letters a line that a table of facts needs at least
SIZE = re.compile("[1-9][0-9]{0,3}")  # of a terminal, in letters or lines


class Screen(Console):
    """A console that obeys no text, and leaves it to its caller what a closed pipe means."""

    def __init__(self, **options: Any) -> None:
        """Make a console; `options` are rich's."""
        super().__init__(**{**sensible_size(), **colors_alone(options), **options})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the parts of what is shown, their texts without control characters."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(printable(part.text), part.style)

    def on_broken_pipe(self) -> None:
        """Raise what was raised."""
        raise  # rich calls this while it handles the BrokenPipeError


def sensible_size() -> dict[str, int]:
    """Return the size of the terminal, where the variables that name it mean none: rich shows nothing in 0 columns."""
    named = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    if not any(text.isdigit() and not SIZE.fullmatch(text) for text in named):
        return {}
    width, height = (min(size, 9999) for size in shutil.get_terminal_size())
    return {"width": width, "height": height}


def colors_alone(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what gives a file or a pipe the colors that FORCE_COLOR asks for: rich would draw moving pictures too."""
    stream = options.get("file") or (sys.stderr if options.get("stderr") else sys.stdout)
    if not os.environ.get("FORCE_COLOR") or os.environ.get("TTY_COMPATIBLE") or stream.isatty():
        return {}
    return {"force_terminal": False, "color_system": "standard"}


def out() -> Console:
    """Return the console for results. In a pipe, nothing is cut for a screen that is not there."""
    console = Screen(**PLAIN)
    return console if console.is_terminal else Screen(**PLAIN, width=200)


def err(quiet: bool = False) -> Console:
    """Return the console for progress and remarks; a quiet one shows nothing."""
    return Screen(**PLAIN, stderr=True, quiet=quiet)


def print_wide(part: RenderableType, least: int = 80) -> None:
    """Print a result whose numbers are of no use when cut: a narrower terminal breaks its lines instead."""
    console = out()
    console.width = max(console.width, least)
    console.print(part)


def facts(title: str, rows: Mapping[str, str | Text]) -> Table:
    """Return a table of two columns: what, and how much."""
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")  # a digest that is cut is of no use
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def number(value: float | None, digits: int = 4) -> str:
    """Return a number for people; a dash where there is none. What is not zero is not shown as zero."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = decimals(value, digits, ",")
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return "0" if text == "-0" else text


def columns(title: str | None, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Table:
    """Return a table with a header; numbers are set to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for index, name in enumerate(names):
        numeric = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        table.add_column(
            name, justify="right" if numeric else "left", header_style="dim", overflow="fold", no_wrap=index == 0
        )
    for row in rows:
        table.add_row(*(item if isinstance(item, str) else number(item) for item in row))
    return table
