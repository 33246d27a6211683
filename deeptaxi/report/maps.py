"""Maps of grid environments: the greedy policy as arrows, and a number per state as shades.

Each layer of a map has axes of its own, in units of cells with y pointing down. A shape is a path in a cell whose
center is (0, 0); all shapes of one style become one path, so that twenty small maps take only a few kilobytes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from deeptaxi.evaluation.comparison import Comparison
from deeptaxi.mdp.describe import ENDS, GridMap, Layer
from deeptaxi.mdp.table import Bools, Floats, Ints
from deeptaxi.report.chart import ABSENT, BLUE, FLOOR, FULL, GREEN, HALF, INK, LINE, MUTED, ORANGE, PURPLE, VERMILLION

MOVE, TO = Path.MOVETO, Path.LINETO
CELL = Path([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
BORDER = Path([(-0.44, -0.44), (0.44, -0.44), (0.44, 0.44), (-0.44, 0.44), (-0.44, -0.44)], closed=True)
CORNER = Path([(0.22, -0.5), (0.5, -0.5), (0.5, -0.22)])
HOLE, PASSENGER = Path.circle((0, 0), 0.34), Path.circle((0.3, -0.26), 0.15)
ARROW = Path([(-0.3, 0), (0.3, 0), (0.1, -0.17), (0.3, 0), (0.1, 0.17)], [MOVE, TO, MOVE, TO, TO])  # to the right
HINT = Path([(0.48, 0), (0.35, -0.12), (0.35, 0.12)])  # at the right edge
PICK_UP = Path(
    [(-0.24, 0.06), (0, -0.28), (0.24, 0.06), (-0.24, 0.06), (-0.24, 0.26), (0.24, 0.26)],
    [MOVE, TO, TO, TO, MOVE, TO],
)
DROP_OFF = Path(
    [(-0.24, -0.22), (0, 0.12), (0.24, -0.22), (-0.24, -0.22), (-0.24, 0.26), (0.24, 0.26)],
    [MOVE, TO, TO, TO, MOVE, TO],
)
GLYPHS = (  # for the actions of a chart: a bar, a ring, a cross, an angle, a box, a bar that stands
    Path([(-0.25, 0), (0.25, 0)]),
    Path.circle((0, 0), 0.25),
    Path([(-0.22, -0.22), (0.22, 0.22), (-0.22, 0.22), (0.22, -0.22)], [MOVE, TO, MOVE, TO]),
    Path([(-0.25, 0.2), (0, -0.2), (0.25, 0.2)]),
    Path([(-0.22, -0.22), (0.22, -0.22), (0.22, 0.22), (-0.22, 0.22), (-0.22, -0.22)], closed=True),
    Path([(0, -0.25), (0, 0.25)]),
)
Cells = Iterable[tuple[int, int]]  # rows and columns
Point = tuple[float, float]  # x, y


def scaled(shape: Path, size: float) -> Path:
    """Scale a shape around the center of its cell."""
    return Affine2D().scale(size).transform_path(shape)


def toward(shape: Path, move: tuple[int, int]) -> Path:
    """Turn a shape that points to the right along a move of (rows, columns)."""
    return Affine2D().rotate(math.atan2(*move)).transform_path(shape)


def sign(move: tuple[int, int] | str, action: int = 0) -> Path:
    """Return the sign of an action: an arrow, or a sign of its own if it does not move."""
    if isinstance(move, tuple):
        return toward(ARROW, move)
    return {"pick up": PICK_UP, "drop off": DROP_OFF}.get(move) or GLYPHS[action]


def stamp(ax: Axes, shapes: Iterable[tuple[Path, Cells]], **look: Any) -> None:
    """Draw shapes in cells as one path: filled with a `facecolor`, or as lines with an `edgecolor`."""
    placed = [
        Affine2D().translate(column + 0.5, row + 0.5).transform_path(shape)
        for shape, cells in shapes
        for row, column in cells
    ]
    if placed:
        path = Path.make_compound_path(*placed)
        path.should_simplify = False  # it would drop short lines near others
        ax.add_patch(
            PathPatch(path, **{"facecolor": "none", "linewidth": 0, "capstyle": "round", "clip_on": False, **look})
        )


def segments(ax: Axes, lines: Iterable[tuple[Point, Point]], **look: Any) -> None:
    """Draw lines between two points (x, y) each as one path."""
    ends = [(*line, (math.nan, math.nan)) for line in lines]  # NaN ends a line
    ax.plot(*np.array(ends, np.float64).reshape(-1, 2).T, **look)


GAP = 0.9  # between layers, in cells
NAMED = 2.2  # cells left of and below a layer for the labels of its rows and columns
MARGIN, LABELS = 0.08, 0.34  # inches: around a map, and for the names of its layers
LEGEND_ROW, LEGEND_COLUMN = 0.2, 3.0  # inches
Entry = tuple[Artist | tuple[Artist, ...], str]  # a sample, and its meaning


@dataclass(frozen=True, eq=False)
class Sheet:
    """A map with all its layers, laid out on a figure above its legend.

    Attributes:
        grid: the map.
        figure: the figure.
        size: the size of a cell in points.
        layers: the layers with their axes.
    """

    grid: GridMap
    figure: Figure
    size: float
    layers: Sequence[tuple[Layer, Axes]]

    def mark(self, chosen: Bools, shape: Path, **look: Any) -> None:
        """Draw a shape in the cells of the chosen states, `[S]`."""
        for layer, ax in self.layers:
            stamp(ax, [(shape, cells_where(chosen[layer.states]))], **look)


def cells_where(chosen: Any) -> list[tuple[int, int]]:
    """Return the cells (row, column) where an array `[rows, columns]` is True."""
    return [(int(row), int(column)) for row, column in np.argwhere(chosen)]


def sheet(grid: GridMap, states: Bools, width: float, largest: float, entries: Sequence[Entry], absent: str) -> Sheet:
    """Lay out a map with cells of at most `largest` inches on a figure of at most `width`, and its legend.

    Args:
        grid: the map.
        states: `[S]` True where an action is chosen; the other cells are gray.
        width: the largest width of the figure, in inches.
        largest: the largest size of a cell, in inches.
        entries: the legend.
        absent: what a gray layer means.
    """
    down, across = len(grid.layers), len(grid.layers[0])
    named = NAMED if grid.row[1] else 0.0
    left = LABELS if down > 1 else MARGIN
    top = LABELS if down > 1 or (across > 1 and named) else MARGIN
    wide, high = (count * (cells + GAP + named) - GAP for count, cells in ((across, grid.columns), (down, grid.rows)))
    cell = min(largest, (width - left - MARGIN) / wide)
    full = max(left + cell * wide + MARGIN, min(width, HALF))
    columns = max(1, int(full / LEGEND_COLUMN))
    legend = 0.25 + LEGEND_ROW * math.ceil(len(entries) / columns)
    height = top + cell * high + legend
    figure = Figure(figsize=(full, height))
    place = {
        "left": (left + cell * named) / full,
        "right": (left + cell * wide) / full,
        "bottom": (legend + cell * named) / height,
    }
    gaps = {"wspace": (GAP + named) / grid.columns, "hspace": (GAP + named) / grid.rows}
    axes = figure.subplots(down, across, squeeze=False, gridspec_kw={**place, "top": 1 - top / height, **gaps})
    figure.legend(
        *zip(*entries, strict=True), loc="lower left", ncols=columns, fontsize=8, borderaxespad=0.3, labelspacing=0.6
    )
    found = Sheet(grid, figure, 72 * cell, list(zip(itertools.chain(*grid.layers), axes.flat, strict=True)))
    for layer, ax in found.layers:
        ground(found, layer, ax, states[layer.states], absent)
    if top > MARGIN:
        for ax, text in zip(axes[0], grid.across[1], strict=True):
            ax.set_title(f"{grid.across[0]} {text}".strip(), fontsize=0.45 * found.size, fontweight="normal")
    if down > 1:
        for ax, text in zip(axes[:, 0], grid.down[1], strict=True):
            words, size = f"{grid.down[0]} {text}".strip(), 0.45 * found.size
            if named:  # the label of the axis says what its rows are
                place_of = (-named - 0.5, grid.rows / 2)
                ax.text(*place_of, words, fontsize=size, color=INK, rotation=90, ha="right", va="center")
            else:
                ax.set_ylabel(words, fontsize=size, color=INK)
    return found


def label_cells(grid: GridMap, ax: Axes, size: float) -> None:
    """Label the rows and columns of a layer."""
    for axis, (title, texts) in ((ax.yaxis, grid.row), (ax.xaxis, grid.column)):
        axis.set_ticks(np.arange(len(texts)) + 0.5, texts, fontsize=0.4 * size, color=MUTED)
        axis.set_tick_params(length=0, pad=0.15 * size)
        axis.set_label_text(title.rstrip(":"), fontsize=0.45 * size, color=INK)


def ground(on: Sheet, layer: Layer, ax: Axes, states: Bools, absent: str) -> None:
    """Draw the background of a layer: cells, walls, stops, and what is on them."""
    grid, size = on.grid, on.size
    empty = not states.any()
    ax.set(xlim=(0, grid.columns), ylim=(grid.rows, 0))
    ax.set(xticks=[], yticks=[])
    if grid.row[1]:
        label_cells(grid, ax, size)
    ax.spines[:].set(visible=True, color=MUTED, linewidth=0.9)
    ax.add_patch(Rectangle((0, 0), grid.columns, grid.rows, facecolor=ABSENT if empty else FLOOR, linewidth=0))
    kinds = np.array(grid.kinds)
    stamp(ax, [(CELL, cells_where(~states & (not empty)))], facecolor=ABSENT)
    stamp(ax, [(CELL, cells_where(kinds == "goal"))], facecolor=GREEN, alpha=0.3)
    stamp(ax, [(CELL, cells_where(kinds == "cliff"))], edgecolor=MUTED, hatch="////")
    stamp(ax, [(HOLE, cells_where(kinds == "hole"))], facecolor=MUTED)
    for row, column in cells_where((kinds == "start") | (kinds == "goal")):
        ax.text(column + 0.07, row + 0.89, kinds[row, column], fontsize=min(7.0, 0.2 * size), va="center")
    for (row, column), letter in grid.letters.items():
        ax.text(column + 0.12, row + 0.25, letter, fontsize=0.3 * size, color=MUTED, va="center")
    for mark, cell in layer.marks.items():
        if mark == "destination":
            stamp(ax, [(BORDER, [cell])], edgecolor=GREEN, linewidth=1.8, zorder=2)
        else:
            stamp(ax, [(PASSENGER, [cell])], facecolor=PURPLE)
    if empty:
        ax.text(grid.columns / 2, grid.rows / 2, absent, fontsize=0.42 * size, color=MUTED, ha="center", va="center")
    across = (((0, row), (grid.columns, row)) for row in range(1, grid.rows))
    down = (((column, 0), (column, grid.rows)) for column in range(1, grid.columns))
    segments(ax, [*across, *down], color=LINE, linewidth=0.5, zorder=1.5)  # above the colors of the cells
    segments(ax, walls(grid), color=INK, linewidth=2.0, clip_on=False)


def walls(grid: GridMap) -> Iterator[tuple[Point, Point]]:
    """Yield the ends of the walls."""
    for (row, column), (_, beside) in grid.walls:
        yield ((beside, row), (beside, row + 1)) if beside > column else ((column, row + 1), (column + 1, row + 1))


def sample(shape: Path, color: str, filled: bool = False, size: float = 9) -> Line2D:
    """Return a shape as the sample of a legend, whose y points up."""
    upright = Affine2D().scale(1, -1).transform_path(shape)
    look: dict[str, Any] = {"markeredgewidth": 0} if filled else {"markerfacecolor": "none", "markeredgewidth": 1.3}
    return Line2D([], [], linestyle="", marker=upright, markersize=size, color=color, **look)


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
    wrong = np.zeros(len(policy), np.bool_) if comparison is None else comparison.wrong
    matters = wrong if comparison is None else wrong & comparison.met
    off, color = wrong & ~matters, INK if comparison is None else BLUE
    signs = action_entries(grid, bool(matters.any()), bool(off.any()), color)
    entries = [*signs, *cell_entries(grid, states, absent, color)]
    on = sheet(grid, states, FULL if wide else HALF, 0.62, entries, absent)
    on.mark(matters, CELL, facecolor=VERMILLION, alpha=0.22)
    on.mark(matters, CELL, edgecolor=VERMILLION, hatch="//")
    on.mark(off, CORNER, facecolor=ORANGE)
    for chosen, look, width in ((states & ~wrong, color, 0.06), (off, ORANGE, 0.06), (matters, VERMILLION, 0.1)):
        for layer, ax in on.layers:
            cells = cells_where(chosen[layer.states])
            chosen_actions = ((int(policy[layer.states[cell]]), cell) for cell in cells)
            shapes = ((sign(grid.moves[action], action), [cell]) for action, cell in chosen_actions)
            stamp(ax, shapes, edgecolor=look, linewidth=max(0.7, width * on.size), zorder=3)
    if comparison is not None:
        better = comparison.optimal & wrong[:, np.newaxis]
        moves = [(action, toward(HINT, move)) for action, move in enumerate(grid.moves) if isinstance(move, tuple)]
        for layer, ax in on.layers:
            hints = ((shape, cells_where(better[layer.states, action])) for action, shape in moves)
            stamp(ax, hints, facecolor=GREEN, zorder=3)
    return on.figure


def action_entries(grid: GridMap, wrong: bool, off: bool, color: str) -> Iterator[Entry]:
    """Yield the legend of the actions, with only the signs that occur on the map."""
    best = "optimal action" if color == BLUE else "greedy action"
    arrows = any(isinstance(move, tuple) for move in grid.moves)
    shape = ARROW if arrows else GLYPHS[0]
    if arrows:
        yield sample(ARROW, color), best
    else:
        for action, move in enumerate(grid.moves):
            yield sample(sign(move, action), color), f"{best}: {move}"
    if wrong:
        hatched = Patch(facecolor="none", edgecolor=VERMILLION, hatch="//////", linewidth=0.6)
        yield (hatched, sample(shape, VERMILLION)), "wrong action, on the policy's path"
    if off:
        yield (sample(shape, ORANGE), sample(CORNER, ORANGE, filled=True)), "wrong, where the policy never goes"
    if (wrong or off) and arrows:
        yield (
            sample(Affine2D().translate(-0.415, 0).transform_path(HINT), GREEN, filled=True, size=5),
            "where an optimal action leads",
        )


def cell_entries(grid: GridMap, states: Bools, absent: str, color: str) -> Iterator[Entry]:
    """Yield the legend of the cells, and of the signs of actions there."""
    if "pick up" in grid.moves:
        yield sample(PICK_UP, color), "pick up (pointing down: drop off)"
        yield sample(scaled(HOLE, 0.6), PURPLE, filled=True), "passenger"
        yield sample(BORDER, GREEN), "destination"
    kinds = np.array(grid.kinds)
    if (kinds == "hole").any():
        yield sample(HOLE, MUTED, filled=True), "hole"
    if (kinds == "cliff").any():
        yield Patch(facecolor="none", edgecolor=MUTED, hatch="////"), "cliff"
    floor = ~np.isin(kinds, ENDS)
    if not all(states[layer.states[floor]].all() for row in grid.layers for layer in row):
        yield Patch(facecolor=ABSENT, edgecolor=MUTED, linewidth=0.5), absent


def heat_map(grid: GridMap, values: Floats, states: Bools, levels: Floats, labels: list[str]) -> Figure:
    """Draw a number per state as a shade.

    Args:
        grid: the map.
        values: `[S]`; a cell whose value is not above the first level stays empty, and is hatched.
        states: `[S]` True where there is a number.
        levels: the lower ends of the shades, ascending, `[N]`.
        labels: the meaning of an empty cell, then of each shade, `[N + 1]`.
    """
    level = np.digitize(values, levels)
    shades = np.linspace(0.12, 0.95, len(levels)).tolist()
    empty = states & (level == 0)
    samples = [Patch(facecolor=BLUE, alpha=shade) for shade in shades]
    entries: list[Entry] = list(zip(samples, labels[1:], strict=True))
    if empty.any():
        entries.insert(0, (Patch(facecolor="none", edgecolor=ORANGE, hatch="//////", linewidth=0.6), labels[0]))
    on = sheet(grid, states, HALF, 0.5, entries, "")
    for index, shade in enumerate(shades, start=1):
        on.mark(states & (level == index), scaled(CELL, 0.92), facecolor=BLUE, alpha=shade)
    on.mark(empty, CELL, edgecolor=ORANGE, hatch="//")
    return on.figure
