"""Maps of grid environments: the greedy policy as arrows, and a number per state as shades.

A map has its layers side by side and one below the other, and a legend. It is drawn as strokes on a grid of unit
squares, with y pointing down. A stroke is a list of points; all strokes of one style become one path, so that twenty
small maps take only a few kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from deeptaxi.evaluation.comparison import Comparison
from deeptaxi.mdp.describe import ENDS, GridMap, Layer
from deeptaxi.mdp.table import Bools, Floats, Ints
from deeptaxi.report.chart import ABSENT, BLUE, FLOOR, FULL, GREEN, HALF, INK, LINE, MUTED, ORANGE, PURPLE, VERMILLION

Point = tuple[float, float]  # x, y
Stroke = list[Point]


def canvas(width: float, height: float, cell: float) -> tuple[Figure, Axes]:
    """Create a figure of width × height cells, each `cell` inches wide, and its axes in units of cells."""
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
        last = Path.CLOSEPOLY if closed else Path.LINETO
        codes += [int(code) for code in (Path.MOVETO, *[Path.LINETO] * (len(stroke) - 2), last)]
    if points:
        look = {"fill": False, "linewidth": 1.0, "capstyle": "round", "joinstyle": "round", **look}
        ax.add_patch(PathPatch(exact(np.array(points), codes), **look))


def exact(points: np.ndarray[Any, Any], codes: Any) -> Path:
    """Create a path that keeps all its points: matplotlib drops short segments near others."""
    path = Path(points, codes)
    path.should_simplify = False
    return path


def dots(ax: Axes, points: np.ndarray[Any, Any], color: str, label: str, large: bool = False) -> None:
    """Draw points `[N, 2]` as one path of very short lines with round caps; markers would take four times the space.

    Large points are also visible on top of a line.
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
        look["snap"] = False  # rounding to whole pixels would reduce most lines to zero length
        ax.add_patch(PathPatch(exact(ends, codes), **look))
        ax.update_datalim(points)
        ax.autoscale_view()


def fill(ax: Axes, strokes: Iterable[Stroke], color: str, alpha: float = 1.0) -> None:
    """Fill closed strokes with one color."""
    draw(ax, strokes, fill=True, facecolor=color, linewidth=0, alpha=alpha)


def box(x: float, y: float, width: float = 1.0, height: float = 1.0, inset: float = 0.0) -> Stroke:
    """Return a rectangle, given its upper left corner."""
    left, top, right, bottom = x + inset, y + inset, x + width - inset, y + height - inset
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def disc(x: float, y: float, radius: float, corners: int = 16) -> Stroke:
    """Return a circle around the center (x, y)."""
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
    """Return the sign for picking up, a triangle pointing up over a bar, or for dropping off, pointing down."""
    base, tip = (y + 0.56, y + 0.22) if up else (y + 0.28, y + 0.62)
    triangle = [(x + 0.26, base), (x + 0.5, tip), (x + 0.74, base), (x + 0.26, base)]
    return [triangle, [(x + 0.26, y + 0.76), (x + 0.74, y + 0.76)]]


def sign(x: float, y: float, move: tuple[int, int] | str, action: int) -> list[Stroke]:
    """Return the sign of an action: an arrow, or a sign of its own if it does not move."""
    if isinstance(move, tuple):
        return arrow(x, y, move)
    return lift(x, y, move == "pick up") if move in LIFTS else glyph(x, y, action)


LIFTS = ("pick up", "drop off")


def glyph(x: float, y: float, action: int) -> list[Stroke]:
    """Return a sign for an action of a chart: a bar, a ring, a cross, an angle, a box, or a bar that stands."""
    left, right, top, bottom, middle = x + 0.25, x + 0.75, y + 0.25, y + 0.75, y + 0.5
    signs: list[list[Stroke]] = [
        [[(left, middle), (right, middle)]],
        [disc(x + 0.5, y + 0.5, 0.25)],
        [[(left, top), (right, bottom)], [(left, bottom), (right, top)]],
        [[(left, bottom), (x + 0.5, top), (right, bottom)]],
        [box(x, y, inset=0.27)],
        [[(x + 0.5, top), (x + 0.5, bottom)]],
    ]
    return signs[action % len(signs)]


def hint(x: float, y: float, move: tuple[int, int]) -> Stroke:
    """Return a small triangle at the edge of a cell, pointing in the direction of a move."""
    down, right = move
    tip = (x + 0.5 + 0.48 * right, y + 0.5 + 0.48 * down)
    back = (tip[0] - 0.13 * right, tip[1] - 0.13 * down)
    return [
        tip,
        (back[0] - 0.12 * down, back[1] - 0.12 * right),
        (back[0] + 0.12 * down, back[1] + 0.12 * right),
        tip,
    ]


GAP_ACROSS, GAP_DOWN, HEAD, MARGIN = 0.9, 1.0, 1.0, 0.25  # in cells
LABELS = 1.6  # of rows beside each layer, and of columns below it
LEGEND_ROW = 0.22  # inches
LEGEND_COLUMN = 3.0
Entry = tuple[Callable[[Axes, float, float], None], str]  # draws a sample into a cell; its meaning


@dataclass(frozen=True, eq=False)
class Sheet:
    """A map with all its layers, laid out on a canvas.

    Attributes:
        grid: the map.
        states: `[S]` True where an action is chosen; the other states are gray.
        figure, ax: the figure and its axes, in units of cells.
        cell: the size of a cell in inches.
        bottom: where the legend begins.
        absent: what a gray cell means.
    """

    grid: GridMap
    states: Bools
    figure: Figure
    ax: Axes
    cell: float
    bottom: float
    absent: str

    def layers(self) -> Iterator[tuple[Layer, float, float]]:
        """Yield the layers with their upper left corners."""
        labels = label_room(self.grid)
        left = MARGIN + labels + (HEAD + 0.4 if len(self.grid.layers) > 1 else 0)
        for down, row in enumerate(self.grid.layers):
            for across, layer in enumerate(row):
                x = left + across * (self.grid.columns + GAP_ACROSS + labels)
                yield layer, x, top(self.grid) + down * (self.grid.rows + GAP_DOWN + labels)

    def cells(self, chosen: Bools) -> Iterator[tuple[int, float, float]]:
        """Yield the chosen states with the upper left corners of their cells."""
        for layer, x, y in self.layers():
            for (row, column), state in np.ndenumerate(layer.states):
                if chosen[state]:
                    yield int(state), x + column, y + row


def label_room(grid: GridMap) -> float:
    """Return the room that the labels of rows and columns take."""
    return LABELS if grid.row[1] else 0.0


def top(grid: GridMap) -> float:
    """Return the distance of the first layers from the upper edge."""
    titled = len(grid.layers) > 1 or (len(grid.layers[0]) > 1 and bool(grid.row[1]))
    return MARGIN + (HEAD if titled else 0)


def sheet(grid: GridMap, states: Bools, width: float, largest: float, legend: int, absent: str) -> Sheet:
    """Lay out a map with cells of at most `largest` inches on a canvas of at most `width`, including the legend."""
    down, across = len(grid.layers), len(grid.layers[0])
    labels = label_room(grid)
    wide = 2 * MARGIN + across * (grid.columns + labels) + (across - 1) * GAP_ACROSS + (HEAD + 0.4 if down > 1 else 0)
    high = top(grid) + down * (grid.rows + labels) + (down - 1) * GAP_DOWN + MARGIN
    cell = min(largest, width / wide)
    full = max(wide, min(width, HALF) / cell)
    rows = math.ceil(legend / legend_columns(full * cell))
    figure, ax = canvas(full, high + (rows * LEGEND_ROW + 0.2) / cell, cell)
    result = Sheet(grid, states, figure, ax, cell, high, absent)
    ground(result)
    return result


def ground(on: Sheet) -> None:
    """Draw the background: cells, walls, stops, and the names of the layers."""
    grid, ax = on.grid, on.ax
    fill(ax, [box(x, y, grid.columns, grid.rows) for _, x, y in on.layers()], FLOOR)
    empty = {id(layer) for layer, _, _ in on.layers() if not on.states[layer.states].any()}
    fill(ax, [box(x, y, grid.columns, grid.rows) for layer, x, y in on.layers() if id(layer) in empty], ABSENT)
    absent = ~on.states
    for layer, _, _ in on.layers():
        if id(layer) in empty:
            absent[layer.states] = False
    fill(ax, [box(x, y) for _, x, y in on.cells(absent)], ABSENT)
    for layer, x, y in on.layers():
        places(on, layer, x, y)
    edges = [box(x, y, grid.columns, grid.rows) for _, x, y in on.layers()]
    lines = [
        [(x + column, y), (x + column, y + grid.rows)] for _, x, y in on.layers() for column in range(1, grid.columns)
    ] + [[(x, y + row), (x + grid.columns, y + row)] for _, x, y in on.layers() for row in range(1, grid.rows)]
    draw(ax, lines, edgecolor=LINE, linewidth=0.5)
    draw(ax, edges, edgecolor=MUTED, linewidth=0.9)
    draw(ax, [wall for _, x, y in on.layers() for wall in walls(grid, x, y)], edgecolor=INK, linewidth=2.0)
    if top(grid) > MARGIN:
        titles(on)
    if grid.row[1]:
        label_cells(on)


def label_cells(on: Sheet) -> None:
    """Label the rows and columns of every layer."""
    grid, size = on.grid, 72 * on.cell
    for _, x, y in on.layers():
        for index, text in enumerate(grid.row[1]):
            on.ax.text(x - 0.2, y + index + 0.5, text, fontsize=0.4 * size, color=MUTED, ha="right", va="center")
        for index, text in enumerate(grid.column[1]):
            place = (x + index + 0.5, y + grid.rows + 0.4)
            on.ax.text(*place, text, fontsize=0.4 * size, color=MUTED, ha="center", va="center")
        middle = (x - LABELS + 0.3, y + grid.rows / 2)
        on.ax.text(*middle, grid.row[0].rstrip(":"), fontsize=0.45 * size, rotation=90, ha="center", va="center")
        on.ax.text(
            x + grid.columns / 2,
            y + grid.rows + 1.1,
            grid.column[0].rstrip(":"),
            fontsize=0.45 * size,
            ha="center",
            va="center",
        )


def places(on: Sheet, layer: Layer, x: float, y: float) -> None:
    """Draw the kinds of cells, and what is on them."""
    grid, ax, size = on.grid, on.ax, 72 * on.cell
    kinds = [(kind, x + c, y + r) for r, row in enumerate(grid.kinds) for c, kind in enumerate(row)]
    fill(ax, [disc(cx + 0.5, cy + 0.5, 0.34) for kind, cx, cy in kinds if kind == "hole"], MUTED)
    draw(ax, [s for kind, cx, cy in kinds if kind == "cliff" for s in hatching(cx, cy, 5)], edgecolor=MUTED)
    for kind, cx, cy in kinds:
        if kind in ("start", "goal"):
            ax.text(cx + 0.07, cy + 0.89, kind, fontsize=min(7.0, 0.2 * size), color=INK, va="center")
    fill(ax, [box(cx, cy) for kind, cx, cy in kinds if kind == "goal"], GREEN, 0.3)
    for (row, column), letter in grid.letters.items():
        ax.text(x + column + 0.12, y + row + 0.25, letter, fontsize=0.3 * size, color=MUTED, va="center")
    for mark, (row, column) in layer.marks.items():
        mark_cell(ax, mark, x + column, y + row)
    if not on.states[layer.states].any():
        middle = (x + grid.columns / 2, y + grid.rows / 2)
        ax.text(*middle, on.absent, fontsize=0.42 * size, color=MUTED, ha="center", va="center")


def mark_cell(ax: Axes, mark: str, x: float, y: float) -> None:
    """Mark the cell of the passenger or of the destination."""
    if mark == "destination":
        draw(ax, [box(x, y, inset=0.06)], edgecolor=GREEN, linewidth=1.8)
    else:
        fill(ax, [disc(x + 0.8, y + 0.24, 0.15)], PURPLE)


def walls(grid: GridMap, x: float, y: float) -> Iterator[Stroke]:
    """Yield the walls of a layer."""
    for (row, column), (_, beside) in grid.walls:
        if beside > column:
            yield [(x + beside, y + row), (x + beside, y + row + 1)]
        else:
            yield [(x + column, y + row + 1), (x + column + 1, y + row + 1)]


def titles(on: Sheet) -> None:
    """Label the layers side by side and one below the other."""
    grid, size = on.grid, 72 * on.cell
    corners = [(x, y) for _, x, y in on.layers()]
    across, down = len(grid.layers[0]), len(grid.layers)
    for index, text in enumerate(grid.across[1]):
        words = f"{grid.across[0]} {text}".strip()
        on.ax.text(corners[index][0] + grid.columns / 2, top(grid) - 0.4, words, fontsize=0.45 * size, ha="center")
    for index in range(down if down > 1 else 0):
        words = f"{grid.down[0]} {grid.down[1][index]}"
        middle = corners[index * across][1] + grid.rows / 2
        on.ax.text(MARGIN + 0.5, middle, words, fontsize=0.45 * size, rotation=90, ha="center", va="center")


def legend_columns(inches: float) -> int:
    """Return how many legend entries fit side by side."""
    return max(1, int(inches / LEGEND_COLUMN))


def legend(on: Sheet, entries: list[Entry]) -> None:
    """Draw the legend below the map."""
    columns, unit = legend_columns(on.ax.get_xlim()[1] * on.cell), 0.15 / on.cell
    for index, (sample, text) in enumerate(entries):
        x = MARGIN + index % columns * LEGEND_COLUMN / on.cell
        y = on.bottom + 0.1 / on.cell + index // columns * LEGEND_ROW / on.cell
        sample(on.ax, x, y)
        on.ax.text(x + 1.8 * unit, y + 0.55 * unit, text, fontsize=8, va="center")


def sample_of(on: Sheet, *strokes: Stroke, **look: object) -> Callable[[Axes, float, float], None]:
    """Return a function that draws strokes, made for a cell at the origin, as a legend sample."""
    unit = 0.15 / on.cell

    def sample(ax: Axes, x: float, y: float) -> None:
        draw(ax, [[(x + unit * px, y + unit * py) for px, py in stroke] for stroke in strokes], **look)

    return sample


MOST_CELLS = 1_600  # of all layers together; more would be too small to read and too large for a page


def policy_map(grid: GridMap, policy: Ints, states: Bools, comparison: Comparison | None) -> Figure:
    """Draw the greedy action of every state, and mark the wrong ones.

    Args:
        grid: the map.
        policy: the greedy action, `[S]`.
        states: where an action is chosen, `[S]`.
        comparison: the comparison with the optimum, or None.
    """
    wide = len(grid.layers) > 1 or grid.columns > 8
    absent = "cannot happen" if comparison is not None else "never seen"
    room = len(grid.moves) + 4 if grid.row[1] else 8 if wide else 6
    on = sheet(grid, states, FULL if wide else HALF, 0.62, room, absent)
    wrong = np.zeros(len(policy), np.bool_) if comparison is None else comparison.wrong
    matters = wrong if comparison is None else wrong & comparison.met
    off = wrong & ~matters
    fill(on.ax, [box(x, y) for _, x, y in on.cells(matters)], VERMILLION, 0.22)
    draw(on.ax, [s for _, x, y in on.cells(matters) for s in hatching(x, y, 1)], edgecolor=VERMILLION, linewidth=0.6)
    fill(on.ax, [corner(x, y) for _, x, y in on.cells(off)], ORANGE)
    color, size = INK if comparison is None else BLUE, 72 * on.cell
    for chosen, look, width in ((states & ~wrong, color, 0.06), (off, ORANGE, 0.06), (matters, VERMILLION, 0.1)):
        cells = [(int(policy[state]), x, y) for state, x, y in on.cells(chosen)]
        strokes = [s for action, x, y in cells for s in sign(x, y, grid.moves[action], action)]
        draw(on.ax, strokes, edgecolor=look, linewidth=max(0.7, width * size))
    if comparison is not None:
        fill(on.ax, hints(on, comparison, wrong), GREEN)
    legend(on, entries(on, wrong=bool(matters.any()), off=bool(off.any()), color=color))
    return on.figure


def hints(on: Sheet, comparison: Comparison, wrong: Bools) -> list[Stroke]:
    """Return small triangles in the cells of wrong actions that point where an optimal action leads."""
    moves = on.grid.moves
    return [
        hint(x, y, move)
        for state, x, y in on.cells(wrong)
        for action, move in enumerate(moves)
        if comparison.optimal[state, action] and isinstance(move, tuple)
    ]


def entries(on: Sheet, wrong: bool, off: bool, color: str) -> list[Entry]:
    """Return the legend of a policy map, with only the signs that occur on it."""
    east, found = arrow(0, 0, (0, 1)), list[Entry]()
    best = "optimal action" if color == BLUE else "greedy action"
    if any(isinstance(move, tuple) for move in on.grid.moves):
        found.append((sample_of(on, *east, edgecolor=color, linewidth=1.3), best))
    else:
        east = glyph(0, 0, 0)
        for action, move in enumerate(on.grid.moves):
            found.append((sample_of(on, *glyph(0, 0, action), edgecolor=color, linewidth=1.3), f"{best}: {move}"))
    if wrong:
        look = sample_of(on, *east, box(0, 0), *hatching(0, 0), edgecolor=VERMILLION, linewidth=1.0)
        found.append((look, "wrong action, on the policy's way"))
    if off:
        look = sample_of(on, *east, corner(0, 0), edgecolor=ORANGE, linewidth=1.0)
        found.append((look, "wrong, where the policy never comes"))
    if (wrong or off) and any(isinstance(move, tuple) for move in on.grid.moves):
        look = sample_of(on, hint(0, 0, (0, 1)), edgecolor=GREEN, fill=True, facecolor=GREEN)
        found.append((look, "where an optimal action leads"))
    return found + place_entries(on, color)


def place_entries(on: Sheet, color: str) -> list[Entry]:
    """Return the legend entries for a map's cells, and for the signs of actions there."""
    grid, found = on.grid, list[Entry]()
    if "pick up" in grid.moves:
        found.append((sample_of(on, *lift(0, 0, True), edgecolor=color), "pick up (pointing down: drop off)"))
        found.append((sample_of(on, disc(0.5, 0.5, 0.3), edgecolor=PURPLE, fill=True, facecolor=PURPLE), "passenger"))
        found.append((sample_of(on, box(0, 0), edgecolor=GREEN, linewidth=1.8), "destination"))
    if any("hole" in row for row in grid.kinds):
        found.append((sample_of(on, disc(0.5, 0.5, 0.4), edgecolor=MUTED, fill=True, facecolor=MUTED), "hole"))
    if any("cliff" in row for row in grid.kinds):
        found.append((sample_of(on, box(0, 0), *hatching(0, 0), edgecolor=MUTED), "cliff"))
    floor = np.concatenate([layer.states[is_floor(grid)] for row in grid.layers for layer in row])
    if not on.states[floor].all():
        look = sample_of(on, box(0, 0), edgecolor=MUTED, fill=True, facecolor=ABSENT, linewidth=0.5)
        found.append((look, on.absent))
    return found


def is_floor(grid: GridMap) -> Bools:
    """Return the cells where an action can be chosen, `[rows, columns]`."""
    return ~np.isin(np.array(grid.kinds), ENDS)


def heat_map(grid: GridMap, values: Floats, states: Bools, levels: Floats, labels: list[str]) -> Figure:
    """Draw a number per state as a shade.

    Args:
        grid: the map.
        values: `[S]`; a cell whose value is not above the first level stays empty, and is hatched.
        states: `[S]` True where there is a number.
        levels: the lower ends of the shades, ascending, `[N]`.
        labels: the meaning of an empty cell, then of each shade, `[N + 1]`.
    """
    on = sheet(grid, states, HALF, 0.5, len(labels), "")
    level = np.digitize(values, levels)
    shades = np.linspace(0.12, 0.95, len(levels))
    for index, shade in enumerate(shades, start=1):
        fill(on.ax, [box(x, y, inset=0.04) for _, x, y in on.cells(states & (level == index))], BLUE, float(shade))
    empty = states & (level == 0)
    draw(on.ax, [s for _, x, y in on.cells(empty) for s in hatching(x, y, 1)], edgecolor=ORANGE, linewidth=0.6)
    shown: list[Entry] = []
    if empty.any():
        shown.append((sample_of(on, box(0, 0), *hatching(0, 0, 1), edgecolor=ORANGE, linewidth=0.8), labels[0]))
    for shade, label in zip(shades, labels[1:], strict=True):
        look = sample_of(on, box(0, 0), fill=True, facecolor=BLUE, linewidth=0, alpha=float(shade))
        shown.append((look, label))
    legend(on, shown)
    return on.figure
