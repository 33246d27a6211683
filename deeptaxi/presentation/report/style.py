"""How charts look: a sober palette that color-blind people can tell apart, small type, few lines.

The colors are those of Okabe and Ito (Color Universal Design, 2008), darkened where they are text on white. In a page
each stands for a CSS variable of its name, so that the page chooses them anew for a dark screen.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

INK, MUTED, LINE, FLOOR, ABSENT = "#1c2026", "#5a6370", "#d3d7dd", "#f1f2f4", "#e2e5e9"
BLUE, ORANGE, VERMILLION, GREEN, PURPLE = "#0072b2", "#a86800", "#c94f00", "#00785a", "#9a4a7f"
VARIABLES = {
    INK: "ink", MUTED: "muted", LINE: "line", FLOOR: "floor", ABSENT: "absent",
    BLUE: "blue", ORANGE: "orange", VERMILLION: "vermillion", GREEN: "green", PURPLE: "purple",
}  # fmt: skip

HALF, FULL = 4.5, 9.2  # inches: charts that stand side by side, and those that have the page for themselves
SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, and in the reader's own font
    "svg.hashsalt": "deeptaxi",  # the same figure is the same file
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.minor.visible": False,
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Draw in this style. What matplotlib says about its caches is nothing that a reader of reports asked for."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with mpl.rc_context(SETTINGS):
        yield


def axes(width: float = HALF, height: float = 2.7, **subplots: Any) -> tuple[Figure, Any]:
    """Return a figure of that many inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**subplots)


def over_updates(ax: Axes, label: bool = True) -> None:
    """Let the horizontal axis count updates."""
    if label:
        ax.set_xlabel("updates")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def logarithmic(ax: Axes) -> None:
    """Let the vertical axis be logarithmic, with plain numbers beside it."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(plain))
    ax.yaxis.set_minor_formatter(NullFormatter())


def plain(value: float, _: object = None) -> str:
    """Return a number beside an axis."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}".replace("-", "−")
