"""A chart: a figure with a title and a text alternative, in three forms: inline SVG, SVG file, PNG file.

matplotlib's SVG is made for files. For a page, coordinates are rounded to a tenth of a point, colors become variables
of the page, fonts are the page's, and ids are those that no other chart on it uses.

The colors are those of Okabe and Ito (Color Universal Design, 2008), which color-blind people can distinguish, darkened
where they are text on white. In a page each becomes a CSS variable of its name, so that the page can replace them for
dark mode.
"""

from __future__ import annotations

import contextlib
import html
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
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

HALF, FULL = 4.5, 9.2  # inches: charts side by side, and charts with the full page width
SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, and in the reader's own font
    "svg.hashsalt": "deeptaxi",  # the same figure gives the same file
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
    "hatch.linewidth": 0.6,
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
def apply_style() -> Iterator[None]:
    """Draw in this style, without matplotlib's messages about its caches."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with mpl.rc_context(SETTINGS):  # type: ignore[arg-type]  # its keys are literals
        yield


def axes(width: float = HALF, height: float = 2.7, **subplots: Any) -> tuple[Figure, Any]:
    """Create a figure of that size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**subplots)


def over_updates(ax: Axes, label: bool = True) -> None:
    """Use the horizontal axis for updates."""
    if label:
        ax.set_xlabel("updates")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def logarithmic(ax: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(plain))
    ax.yaxis.set_minor_formatter(NullFormatter())


def plain(value: float, _: object = None) -> str:
    """Format a number for an axis."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}".replace("-", "−")


PNG_DPI = 160
COORDINATES = re.compile(r'(?<= )(?:d|x|y|width|height|transform)="[^"]*"')
FOR_A_PAGE = [  # what matplotlib writes, and what a page needs of it
    (re.compile(r"<defs>\s*<style.*?</defs>", re.DOTALL), ""),
    (re.compile(r"(?<=style=\")font-family: [^;\"]*;? ?|;? ?font-family: [^;\"]*"), ""),
    (re.compile(r' id="[\w.]+_\d{1,5}"'), ""),  # of groups: nothing refers to them
    (re.compile(r' transform="rotate\(-0 [^"]*"'), ""),
    (re.compile(r"xlink:"), ""),  # in HTML, links need no namespace
    (re.compile(r"\s*\n\s*"), " "),
    *((re.compile(color), f"var(--{name})") for color, name in VARIABLES.items()),
]


@dataclass(frozen=True)
class Chart:
    """A figure and its text.

    Attributes:
        name: short and unique, for ids and files.
        title: the title.
        text: what it shows, in a sentence or two with the numbers; the text alternative.
        figure: the figure, without its title.
        wide: whether it takes the full width of the page.
    """

    name: str
    title: str
    text: str
    figure: Figure
    wide: bool = False

    def inline(self) -> str:
        """Return the figure as an SVG element for a page."""
        head, _, body = drawing(self.figure, transparent=True).partition("</metadata>")
        box = re.findall('viewBox="[^"]*"', head)[0]
        body = COORDINATES.sub(lambda found: round_numbers(found[0]), body)
        for pattern, short in FOR_A_PAGE:
            body = pattern.sub(short, body)
        body = re.sub(r'( id="|href="#|url\(#)', rf"\1{self.name}-", body)
        labels = f'aria-labelledby="{self.name}-title {self.name}-text"'
        words = (
            f'<title id="{self.name}-title">{html.escape(self.title)}</title>'
            f'<desc id="{self.name}-text">{html.escape(self.text)}</desc>'
        )
        return f'<svg {box} role="img" {labels}>{words}{body.strip()}'

    def write(self, folder: Path) -> list[Path]:
        """Write ``NAME.png`` and ``NAME.svg``, including the title; return their paths."""
        paths = [folder / f"{self.name}.png", folder / f"{self.name}.svg"]
        with apply_style():
            fix_layout(self.figure)
        heading = self.figure.text(0.02, 1.02, self.title, fontsize=11, fontweight="bold", va="bottom")
        self.figure.savefig(paths[0], dpi=PNG_DPI, facecolor="white", bbox_inches="tight", metadata={"Software": None})
        paths[1].write_text(drawing(self.figure, facecolor="white", bbox_inches="tight"), encoding="utf-8")
        heading.remove()
        return paths


def fix_layout(figure: Figure) -> None:
    """Lay out the figure once and for all: a second layout would shift it, and takes longer than drawing."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def drawing(figure: Figure, **options: Any) -> str:
    """Return matplotlib's SVG of a figure, without date and creator."""
    file = io.StringIO()
    with apply_style():
        fix_layout(figure)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, **options)
    return file.getvalue()


def round_numbers(text: str) -> str:
    """Round the numbers of coordinates to tenths, and leave out the spaces before the lines of a path."""
    text = re.sub(r"\s+(?=[LMz\"])|(?<=[LM]) ", "", text)
    return re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text)
