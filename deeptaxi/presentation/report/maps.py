"""Maps of grid environments: the greedy policy in arrows, and numbers of states as shades."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from deeptaxi.evaluation.comparison import Comparison
from deeptaxi.mdp.describe import ENDS, GridMap
from deeptaxi.mdp.table import Bools, Floats, Ints
from deeptaxi.presentation.report.glyphs import Stroke, arrow, box, corner, disc, draw, fill, hatching, hint, lift, sign
from deeptaxi.presentation.report.sheet import Entry, Sheet, legend, sample_of, sheet
from deeptaxi.presentation.report.style import ABSENT, BLUE, FULL, GREEN, HALF, INK, MUTED, ORANGE, PURPLE, VERMILLION

MOST_CELLS = 1_600  # of all layers together; more would be too small to read and too large for a page


def policy_map(grid: GridMap, policy: Ints, states: Bools, comparison: Comparison | None) -> Figure:
    """Draw the greedy action of every state, and mark those that are wrong.

    Args:
        grid: the map.
        policy: the greedy action, `[S]`.
        states: where an action is chosen at all, `[S]`.
        comparison: with the optimum; None where there is none.
    """
    wide = len(grid.layers) > 1 or grid.columns > 8
    absent = "cannot happen" if comparison is not None else "never seen"
    on = sheet(grid, states, FULL if wide else HALF, 0.62, 8 if wide else 6, absent)
    wrong = np.zeros(len(policy), np.bool_) if comparison is None else comparison.wrong
    matters = wrong if comparison is None else wrong & comparison.met
    off = wrong & ~matters
    fill(on.ax, [box(x, y) for _, x, y in on.cells(matters)], VERMILLION, 0.22)
    draw(on.ax, [s for _, x, y in on.cells(matters) for s in hatching(x, y, 1)], edgecolor=VERMILLION, linewidth=0.6)
    fill(on.ax, [corner(x, y) for _, x, y in on.cells(off)], ORANGE)
    color, size = INK if comparison is None else BLUE, 72 * on.cell
    for chosen, look, width in ((states & ~wrong, color, 0.06), (off, ORANGE, 0.06), (matters, VERMILLION, 0.1)):
        strokes = [s for state, x, y in on.cells(chosen) for s in sign(x, y, grid.moves[policy[state]])]
        draw(on.ax, strokes, edgecolor=look, linewidth=max(0.7, width * size))
    if comparison is not None:
        fill(on.ax, hints(on, comparison, wrong), GREEN)
    legend(on, entries(on, wrong=bool(matters.any()), off=bool(off.any()), color=color))
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


def entries(on: Sheet, wrong: bool, off: bool, color: str) -> list[Entry]:
    """Return the legend of a policy map: only the signs that are on it."""
    east = arrow(0, 0, (0, 1))
    found: list[Entry] = [
        (sample_of(on, *east, edgecolor=color, linewidth=1.3), "optimal action" if color == BLUE else "greedy action")
    ]
    if wrong:
        look = sample_of(on, *east, box(0, 0), *hatching(0, 0), edgecolor=VERMILLION, linewidth=1.0)
        found.append((look, "wrong action, on the policy's way"))
    if off:
        look = sample_of(on, *east, corner(0, 0), edgecolor=ORANGE, linewidth=1.0)
        found.append((look, "wrong, where the policy never comes"))
    if wrong or off:
        look = sample_of(on, hint(0, 0, (0, 1)), edgecolor=GREEN, fill=True, facecolor=GREEN)
        found.append((look, "where an optimal action leads"))
    return found + place_entries(on, color)


def place_entries(on: Sheet, color: str) -> list[Entry]:
    """Return the legend of the places of a map, and of what is done there."""
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
    """Return where on the map somebody may choose an action, `[rows, columns]`."""
    return ~np.isin(np.array(grid.kinds), ENDS)


def heat_map(grid: GridMap, values: Floats, states: Bools, levels: Floats, labels: list[str]) -> Figure:
    """Draw a number of every state as a shade.

    Args:
        grid: the map.
        values: `[S]`; where it is not above the first level the cell stays empty, and is hatched.
        states: `[S]` True where there is a number.
        levels: where shades begin, ascending, `[N]`.
        labels: what each shade means, and first what an empty cell means, `[N + 1]`.
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
