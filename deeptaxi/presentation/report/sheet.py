"""How a map is laid out on a canvas: its layers beside and below each other, what is on its cells, and a legend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deeptaxi.mdp.describe import GridMap, Layer
from deeptaxi.mdp.table import Bools
from deeptaxi.presentation.report.glyphs import Stroke, box, canvas, disc, draw, fill, hatching
from deeptaxi.presentation.report.style import ABSENT, FLOOR, GREEN, HALF, INK, LINE, MUTED, PURPLE

GAP_ACROSS, GAP_DOWN, HEAD, MARGIN = 0.9, 1.0, 1.0, 0.25  # in cells
LEGEND_ROW = 0.22  # inches
LEGEND_COLUMN = 3.0
Entry = tuple[Callable[[Axes, float, float], None], str]  # draws a sample into a cell, and what it means


@dataclass(frozen=True, eq=False)
class Sheet:
    """A map in all its layers, laid out on a canvas.

    Attributes:
        grid: the map.
        states: `[S]` True where an action is chosen; the other states are gray.
        figure, ax: what is drawn on, in units of cells.
        cell: the size of a cell in inches.
        bottom: where the legend begins.
        absent: what it means that a cell is gray.
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
        left = MARGIN + (HEAD + 0.4 if len(self.grid.layers) > 1 else 0)
        for down, row in enumerate(self.grid.layers):
            for across, layer in enumerate(row):
                x = left + across * (self.grid.columns + GAP_ACROSS)
                yield layer, x, top(self.grid) + down * (self.grid.rows + GAP_DOWN)

    def cells(self, chosen: Bools) -> Iterator[tuple[int, float, float]]:
        """Yield the chosen states with the upper left corners of their cells."""
        for layer, x, y in self.layers():
            for (row, column), state in np.ndenumerate(layer.states):
                if chosen[state]:
                    yield int(state), x + column, y + row


def top(grid: GridMap) -> float:
    """Return how far from the upper edge the first layers are."""
    return MARGIN + (HEAD if len(grid.layers) > 1 else 0)


def sheet(grid: GridMap, states: Bools, width: float, largest: float, legend: int, absent: str) -> Sheet:
    """Lay a map out, its cells at most `largest` inches, on a canvas of at most `width`, with room for a legend."""
    down, across = len(grid.layers), len(grid.layers[0])
    wide = 2 * MARGIN + across * grid.columns + (across - 1) * GAP_ACROSS + (HEAD + 0.4 if down > 1 else 0)
    high = top(grid) + down * grid.rows + (down - 1) * GAP_DOWN + MARGIN
    cell = min(largest, width / wide)
    full = max(wide, min(width, HALF) / cell)
    rows = math.ceil(legend / legend_columns(full * cell))
    figure, ax = canvas(full, high + (rows * LEGEND_ROW + 0.2) / cell, cell)
    result = Sheet(grid, states, figure, ax, cell, high, absent)
    ground(result)
    return result


def ground(on: Sheet) -> None:
    """Draw what is there before anybody acts: cells, walls, stops, and the names of the layers."""
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
    if len(grid.layers) > 1:
        titles(on)


def places(on: Sheet, layer: Layer, x: float, y: float) -> None:
    """Draw what kinds of cells there are, and what stands on them."""
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
    """Mark the cell of the passenger, or of the destination."""
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
    """Say what the layers beside and below each other stand for."""
    grid, size = on.grid, 72 * on.cell
    corners = [(x, y) for _, x, y in on.layers()]
    across, down = len(grid.layers[0]), len(grid.layers)
    for index, text in enumerate(grid.across[1]):
        words = f"{grid.across[0]} {text}"
        on.ax.text(corners[index][0] + grid.columns / 2, top(grid) - 0.4, words, fontsize=0.45 * size, ha="center")
    for index in range(down):
        words = f"{grid.down[0]} {grid.down[1][index]}"
        middle = corners[index * across][1] + grid.rows / 2
        on.ax.text(MARGIN + 0.5, middle, words, fontsize=0.45 * size, rotation=90, ha="center", va="center")


def legend_columns(inches: float) -> int:
    """Return how many entries of a legend fit beside each other."""
    return max(1, int(inches / LEGEND_COLUMN))


def legend(on: Sheet, entries: list[Entry]) -> None:
    """Say below the map what its signs mean."""
    columns, unit = legend_columns(on.ax.get_xlim()[1] * on.cell), 0.15 / on.cell
    for index, (sample, text) in enumerate(entries):
        x = MARGIN + index % columns * LEGEND_COLUMN / on.cell
        y = on.bottom + 0.1 / on.cell + index // columns * LEGEND_ROW / on.cell
        sample(on.ax, x, y)
        on.ax.text(x + 1.8 * unit, y + 0.55 * unit, text, fontsize=8, va="center")


def sample_of(on: Sheet, *strokes: Stroke, **look: object) -> Callable[[Axes, float, float], None]:
    """Return what draws strokes, made for a cell at the origin, as a sample of a legend."""
    unit = 0.15 / on.cell

    def sample(ax: Axes, x: float, y: float) -> None:
        draw(ax, [[(x + unit * px, y + unit * py) for px, py in stroke] for stroke in strokes], **look)

    return sample
