"""What maps are drawn with: strokes on a grid whose cells are squares of side 1, y pointing down.

A stroke is a list of points. All strokes of one look become one path: twenty small maps stay a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

Point = tuple[float, float]  # x, y
Stroke = list[Point]


def canvas(width: float, height: float, cell: float) -> tuple[Figure, Axes]:
    """Return a figure of width × height cells, each so many inches wide, and its axes in units of cells."""
    figure = Figure(figsize=(width * cell, height * cell))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    return figure, ax


def draw(ax: Axes, strokes: Iterable[Stroke], **look: Any) -> None:
    """Draw strokes as one path; those that end where they began are closed."""
    points: list[Point] = []
    codes: list[int] = []
    for stroke in strokes:
        closed = stroke[0] == stroke[-1]
        points += stroke
        codes += [Path.MOVETO, *[Path.LINETO] * (len(stroke) - 2), Path.CLOSEPOLY if closed else Path.LINETO]
    if points:
        look = {"fill": False, "linewidth": 1.0, "capstyle": "round", "joinstyle": "round", **look}
        ax.add_patch(PathPatch(exact(np.array(points), codes), **look))


def exact(points: np.ndarray[Any, Any], codes: Any) -> Path:
    """Return a path that keeps all its points: matplotlib leaves out what is short beside what is near."""
    path = Path(points, codes)
    path.should_simplify = False
    return path


def dots(ax: Axes, points: np.ndarray[Any, Any], color: str, label: str, large: bool = False) -> None:
    """Draw points `[N, 2]` as one path of very short lines with round ends; a marker for each is four times as long.

    Large ones are seen on a line too.
    """
    ax.plot([], [], "o", color=color, markersize=3.5, label=label)  # the legend's sample
    length = 1e-4 * (float(np.ptp(points[:, 0])) or 1.0) if len(points) else 0.0
    ends = np.stack([points, points + np.array([length, 0.0])], axis=1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(points))
    if len(points):
        look: dict[str, Any] = {
            "fill": False,
            "edgecolor": color,
            "linewidth": 2.2,
            "capstyle": "round",
            "alpha": 0.75,
        }
        look |= {"linewidth": 5.0, "zorder": 2.5} if large else {}
        look["snap"] = False  # to whole pixels: it would leave most of them without any length
        ax.add_patch(PathPatch(exact(ends, codes), **look))
        ax.update_datalim(points)
        ax.autoscale_view()


def fill(ax: Axes, strokes: Iterable[Stroke], color: str, alpha: float = 1.0) -> None:
    """Fill closed strokes with one color."""
    draw(ax, strokes, fill=True, facecolor=color, linewidth=0, alpha=alpha)


def box(x: float, y: float, width: float = 1.0, height: float = 1.0, inset: float = 0.0) -> Stroke:
    """Return a rectangle, by its upper left corner."""
    left, top, right, bottom = x + inset, y + inset, x + width - inset, y + height - inset
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def disc(x: float, y: float, radius: float, corners: int = 16) -> Stroke:
    """Return a circle around the middle (x, y)."""
    angles = 2 * np.pi * np.arange(corners) / corners
    points = [(float(x + radius * np.cos(angle)), float(y + radius * np.sin(angle))) for angle in angles]
    return [*points, points[0]]


def hatching(x: float, y: float, lines: int = 3) -> list[Stroke]:
    """Return diagonal lines over a cell."""
    shifts = [step / (lines + 1) for step in range(1, lines + 1)]
    return [[(x, y + s), (x + s, y)] for s in shifts] + [[(x + s, y + 1), (x + 1, y + s)] for s in [0.0, *shifts]]


def corner(x: float, y: float) -> Stroke:
    """Return a triangle in the upper right corner of a cell."""
    return [(x + 0.72, y), (x + 1, y), (x + 1, y + 0.28), (x + 0.72, y)]


def arrow(x: float, y: float, move: tuple[int, int]) -> list[Stroke]:
    """Return an arrow in the cell at (x, y), along a move of (rows, columns)."""
    down, right = move
    middle = (x + 0.5, y + 0.5)
    tip = (middle[0] + 0.3 * right, middle[1] + 0.3 * down)
    sides = [(tip[0] - 0.2 * right + 0.17 * down * side, tip[1] - 0.2 * down + 0.17 * right * side) for side in (-1, 1)]
    return [[(middle[0] - 0.3 * right, middle[1] - 0.3 * down), tip], [sides[0], tip, sides[1]]]


def lift(x: float, y: float, up: bool) -> list[Stroke]:
    """Return the sign for picking up, a triangle that points up over a bar, or for dropping off, pointing down."""
    base, tip = (y + 0.56, y + 0.22) if up else (y + 0.28, y + 0.62)
    triangle = [(x + 0.26, base), (x + 0.5, tip), (x + 0.74, base), (x + 0.26, base)]
    return [triangle, [(x + 0.26, y + 0.76), (x + 0.74, y + 0.76)]]


def sign(x: float, y: float, move: tuple[int, int] | str) -> list[Stroke]:
    """Return what stands for an action: an arrow, or the sign of one that leads nowhere."""
    return arrow(x, y, move) if isinstance(move, tuple) else lift(x, y, move == "pick up")


def hint(x: float, y: float, move: tuple[int, int]) -> Stroke:
    """Return a small triangle at the edge of a cell, pointing where a move leads."""
    down, right = move
    tip = (x + 0.5 + 0.48 * right, y + 0.5 + 0.48 * down)
    back = (tip[0] - 0.13 * right, tip[1] - 0.13 * down)
    return [
        tip,
        (back[0] - 0.12 * down, back[1] - 0.12 * right),
        (back[0] + 0.12 * down, back[1] + 0.12 * right),
        tip,
    ]
