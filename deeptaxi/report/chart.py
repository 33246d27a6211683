"""A chart: a figure with a title and a text alternative, in three forms: inline SVG, SVG file, PNG file.

matplotlib's SVG is made for files. For a page it is reduced to what is visible: numbers to a tenth of a point, paths in
relative coordinates, colors as variables of the page, and ids that no other chart on it uses.

The colors are those of Okabe and Ito (Color Universal Design, 2008), which color-blind people can distinguish, darkened
where they are text on white. In a page each becomes a CSS variable of its name, so that the page can replace them for
dark mode.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

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


SVG, LINKS = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
PNG_DPI = 160
SMALL = 400  # characters of a path: a marker or tick, which rounding to a tenth of a point would deform


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
        root = Xml.fromstring(drawing(self.figure, transparent=True))  # noqa: S314  # it is our own
        for tag in ("metadata", "defs"):
            for child in root.findall(SVG + tag):
                if tag == "metadata" or child.find(SVG + "style") is not None:
                    root.remove(child)
        shorten(root, self.name)
        unwrap(root)
        box = root.attrib["viewBox"]
        root.attrib.clear()
        root.attrib.update({"viewBox": box, "role": "img", "aria-labelledby": f"{self.name}-title {self.name}-text"})
        for place, (tag, text) in enumerate((("title", self.title), ("desc", self.text))):
            kind = "title" if tag == "title" else "text"
            label = Xml.Element(SVG + tag, {"id": f"{self.name}-{kind}"})
            label.text, label.tail = text, None
            root.insert(place, label)
        for element in root.iter():
            element.tag = element.tag.removeprefix(SVG)  # in HTML, svg needs no namespace
        return Xml.tostring(root, encoding="unicode", short_empty_elements=True)

    def write(self, folder: Path) -> list[Path]:
        """Write ``NAME.png`` and ``NAME.svg``, including the title; return their paths."""
        paths = [folder / f"{self.name}.png", folder / f"{self.name}.svg"]
        with apply_style():
            settle(self.figure)
        heading = self.figure.text(0.02, 1.02, self.title, fontsize=11, fontweight="bold", va="bottom")
        self.figure.savefig(paths[0], dpi=PNG_DPI, facecolor="white", bbox_inches="tight", metadata={"Software": None})
        paths[1].write_text(drawing(self.figure, facecolor="white", bbox_inches="tight"), encoding="utf-8")
        heading.remove()
        return paths


def settle(figure: Figure) -> None:
    """Lay out the figure once and for all: a second layout would shift it, and takes longer than drawing."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def drawing(figure: Figure, **options: Any) -> str:
    """Return matplotlib's SVG of a figure, without date and creator."""
    file = io.StringIO()
    with apply_style():
        settle(figure)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, **options)
    return file.getvalue()


def shorten(root: Xml.Element, prefix: str) -> None:
    """Shorten attributes: prefix ids that are referenced, drop the others; round numbers and paths."""
    used = set(re.findall(r"#([\w.-]+)", " ".join(value for item in root.iter() for value in item.attrib.values())))
    in_definitions = {item for definition in root.iter(SVG + "defs") for item in definition.iter()}
    for item in root.iter():
        attributes = dict(item.attrib)
        item.attrib.clear()
        item.text = item.text.strip() if item.text and item.tag != SVG + "text" else item.text
        item.tail = None
        for key, value in attributes.items():
            kept = attribute(key.removeprefix(LINKS), value, used, prefix, item in in_definitions)
            if kept:
                item.set(key.removeprefix(LINKS), kept)


def attribute(key: str, value: str, used: set[str], prefix: str, definition: bool) -> str | None:
    """Return the short form of an attribute, or None if it is redundant."""
    if key == "id":
        return f"{prefix}-{value}" if value in used else None
    if key == "href" or "url(#" in value:
        return value.replace("#", f"#{prefix}-")
    if key == "style":
        return replace_styles(value)
    if key == "d":
        return round_numbers(value, 2) if definition and len(value) < SMALL else path(value)
    if key == "transform" and value.startswith("rotate(-0"):
        return None
    return round_numbers(value, 1) if key in ("x", "y", "width", "height", "transform") else value


def replace_styles(style: str) -> str:
    """Replace colors in a style by variables, and drop font names."""
    parts = [part.strip() for part in style.split(";")]
    kept = [part for part in parts if part and not part.startswith(("font-family", "stroke-linejoin"))]
    text = ";".join(part.replace(": ", ":", 1) for part in kept)
    for color, name in VARIABLES.items():
        text = text.replace(color, f"var(--{name})")
    return text.replace("font:", "font-size:") if "font:" in text else text


def round_numbers(text: str, digits: int) -> str:
    """Round the numbers in a text."""
    return NUMBER.sub(lambda found: f"{float(found[0]):.{digits}f}".rstrip("0").rstrip(".") or "0", text.strip())


def path(data: str) -> str:
    """Convert a path of lines to relative coordinates, in tenths of a point; only round a path with curves.

    Consecutive lines in the same direction along an axis are merged; lines of zero length are dropped unless all are.
    """
    if re.search(r"[CQ]", data):
        return round_numbers(data, 1)
    parts: list[str] = []
    steps: list[tuple[int, int]] = []
    here = start = (0, 0)
    for command, there in [*corners(data), ("M", (0, 0))]:
        if command == "L":
            add(steps, there[0] - here[0], there[1] - here[1])
            here = there
            continue
        parts += [step(*one) for one in steps]
        steps = []
        parts.append("z" if command == "z" else "M" + join_paths(*there))
        here = start = start if command == "z" else there
    return "".join(parts[:-1])


def add(steps: list[tuple[int, int]], x: int, y: int) -> None:
    """Append a line along (x, y), or extend the last one if both have the same direction along an axis."""
    if steps and ((x, y) == (0, 0) or steps[-1] == (0, 0)):
        steps[-1] = (x + steps[-1][0], y + steps[-1][1])
        return
    if steps:
        last_x, last_y = steps[-1]
        along_x, along_y = y == last_y == 0 and x * last_x > 0, x == last_x == 0 and y * last_y > 0
        if along_x or along_y:
            steps[-1] = (x + last_x, y + last_y)
            return
    steps.append((x, y))


def corners(data: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the commands of a path of lines with their points, in tenths."""
    for command, numbers in re.findall(r"([MLz])([^MLz]*)", data):
        values = [round(float(number) * 10) for number in numbers.split()]
        yield command, (values[0], values[1]) if values else (0, 0)


def step(x: int, y: int) -> str:
    """Format a line along (x, y), in tenths, as short as possible."""
    if y == 0:
        return f"h{tenths(x)}"
    return f"v{tenths(y)}" if x == 0 else "l" + join_paths(x, y)


def join_paths(x: int, y: int) -> str:
    """Format two numbers of tenths for a path: ``-.5 12``."""
    second = tenths(y)
    return tenths(x) + ("" if second.startswith("-") else " ") + second


def tenths(value: int) -> str:
    """Format a number of tenths as short as possible: ``-.5``."""
    sign, size = "-" if value < 0 else "", f"{abs(value) / 10:.1f}"
    return sign + (size.removesuffix(".0") if size.endswith(".0") else size.removeprefix("0"))


def unwrap(item: Xml.Element) -> None:
    """Replace groups without attributes by their contents."""
    for child in list(item):
        unwrap(child)
    for place in range(len(item) - 1, -1, -1):
        child = item[place]
        if child.tag == SVG + "g" and not child.attrib:
            item.remove(child)
            for inner in reversed(list(child)):
                item.insert(place, inner)
