"""Maps of grid environments: the greedy policy in arrows, and numbers of states as shades."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deeptaxi.evaluation.comparison import Comparison
from deeptaxi.mdp.maps import GridMap, Layer
from deeptaxi.mdp.table import Bools, Floats, Ints
from deeptaxi.presentation.report.glyphs import (
    Stroke,
    arrow,
    box,
    canvas,
    corner,
    disc,
    draw,
    fill,
    hatching,
    hint,
    lift,
    sign,
)
from deeptaxi.presentation.report.style import (
    ABSENT,
    BLUE,
    FLOOR,
    FULL,
    GREEN,
    HALF,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PURPLE,
    VERMILLION,
)

MOST_CELLS = 2_500  # of all layers together; more could not be told apart
GAP_ACROSS, GAP_DOWN, HEAD, MARGIN = 0.9, 1.0, 1.0, 0.25  # in cells
LEGEND_ROW = 0.22  # inches
LEGEND_COLUMN = 3.0
Entry = tuple[Callable[[Axes, float, float], None], str]  # draws a sample into a cell, and what it means


@dataclass(frozen=True, eq=False)
class Sheet:
    """A map in all its layers, laid out on a canvas.

    Attributes:
        grid: the map.
        states: `[S]` True where an action is chosen; the other states are grey.
        figure, ax: what is drawn on, in units of cells.
        cell: the size of a cell in inches.
        bottom: where the legend begins.
    """

    grid: GridMap
    states: Bools
    figure: Figure
    ax: Axes
    cell: float
    bottom: float

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


def sheet(grid: GridMap, states: Bools, width: float, largest: float, legend: int) -> Sheet:
    """Lay a map out, its cells at most `largest` inches, on a canvas of at most `width`, with room for a legend."""
    down, across = len(grid.layers), len(grid.layers[0])
    wide = 2 * MARGIN + across * grid.columns + (across - 1) * GAP_ACROSS + (HEAD + 0.4 if down > 1 else 0)
    high = top(grid) + down * grid.rows + (down - 1) * GAP_DOWN + MARGIN
    cell = min(largest, width / wide)
    full = max(wide, min(width, HALF) / cell)
    rows = math.ceil(legend / legend_columns(full * cell))
    figure, ax = canvas(full, high + (rows * LEGEND_ROW + 0.2) / cell, cell)
    result = Sheet(grid, states, figure, ax, cell, high)
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
        ax.text(*middle, "cannot happen", fontsize=0.42 * size, color=MUTED, ha="center", va="center")


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


def policy_map(grid: GridMap, policy: Ints, states: Bools, comparison: Comparison | None) -> Figure:
    """Draw the greedy action of every state, and mark those that are wrong.

    Args:
        grid: the map.
        policy: the greedy action, `[S]`.
        states: where an action is chosen at all, `[S]`.
        comparison: with the optimum; None where there is none.
    """
    wide = len(grid.layers) > 1 or grid.columns > 8
    on = sheet(grid, states, FULL if wide else HALF, 0.62, 7 if wide else 5)
    wrong = np.zeros(len(policy), np.bool_) if comparison is None else comparison.wrong
    matters = wrong if comparison is None else wrong & comparison.met
    off = wrong & ~matters
    fill(on.ax, [box(x, y) for _, x, y in on.cells(matters)], VERMILLION, 0.22)
    draw(on.ax, [s for _, x, y in on.cells(matters) for s in hatching(x, y, 1)], edgecolor=VERMILLION, linewidth=0.6)
    fill(on.ax, [corner(x, y) for _, x, y in on.cells(off)], ORANGE)
    colour, size = INK if comparison is None else BLUE, 72 * on.cell
    for chosen, look, width in ((states & ~wrong, colour, 0.06), (off, ORANGE, 0.06), (matters, VERMILLION, 0.1)):
        strokes = [s for state, x, y in on.cells(chosen) for s in sign(x, y, grid.moves[policy[state]])]
        draw(on.ax, strokes, edgecolor=look, linewidth=max(0.7, width * size))
    if comparison is not None:
        fill(on.ax, hints(on, comparison, wrong), GREEN)
    legend(on, entries(on, wrong=bool(matters.any()), off=bool(off.any()), colour=colour))
    return on.figure


def hints(on: Sheet, comparison: Comparison, wrong: Bools) -> list[Stroke]:
    """Return the small triangles that say, in the cells of wrong actions, where an optimal one leads."""
    moves = on.grid.moves
    return [
        hint(x, y, move)
        for state, x, y in on.cells(wrong)
        for action, move in enumerate(moves)
        if comparison.optimal[state, action] and isinstance(move, tuple)
    ]


def entries(on: Sheet, wrong: bool, off: bool, colour: str) -> list[Entry]:
    """Return the legend of a policy map: only the signs that are on it."""
    grid, east = on.grid, arrow(0, 0, (0, 1))
    found: list[Entry] = [
        (sample_of(on, *east, edgecolor=colour, linewidth=1.3), "optimal action" if colour == BLUE else "greedy action")
    ]
    if wrong:
        look = sample_of(on, *east, box(0, 0), *hatching(0, 0), edgecolor=VERMILLION, linewidth=1.0)
        found.append((look, "wrong action, on the policy's way"))
    if off:
        look = sample_of(on, *east, corner(0, 0), edgecolor=ORANGE, linewidth=1.0)
        found.append((look, "wrong, where the policy never comes"))
    if wrong or off:
        found.append(
            (
                sample_of(on, hint(0, 0, (0, 1)), edgecolor=GREEN, fill=True, facecolor=GREEN),
                "where an optimal action leads",
            )
        )
    if "pick up" in grid.moves:
        found.append((sample_of(on, *lift(0, 0, True), edgecolor=colour), "pick up (pointing down: drop off)"))
        found.append((sample_of(on, disc(0.5, 0.5, 0.3), edgecolor=PURPLE, fill=True, facecolor=PURPLE), "passenger"))
        found.append((sample_of(on, box(0, 0), edgecolor=GREEN, linewidth=1.8), "destination"))
    if any("hole" in row for row in grid.kinds):
        found.append((sample_of(on, disc(0.5, 0.5, 0.4), edgecolor=MUTED, fill=True, facecolor=MUTED), "hole"))
    if any("cliff" in row for row in grid.kinds):
        found.append((sample_of(on, box(0, 0), *hatching(0, 0), edgecolor=MUTED), "cliff"))
    return found


def heat_map(grid: GridMap, values: Floats, states: Bools, levels: Floats, labels: list[str]) -> Figure:
    """Draw a number of every state as a shade.

    Args:
        grid: the map.
        values: `[S]`; where it is not above the first level the cell stays empty, and is hatched.
        states: `[S]` True where there is a number.
        levels: where shades begin, ascending, `[N]`.
        labels: what each shade means, and first what an empty cell means, `[N + 1]`.
    """
    on = sheet(grid, states, HALF, 0.5, len(labels))
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
