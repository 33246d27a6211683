"""Charts of what was learned and seen, state by state: Q beside Q*, errors, visits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from deeptaxi.evaluation.comparison import Comparison, largest_of_each, spread_out
from deeptaxi.mdp.describe import GridMap
from deeptaxi.mdp.table import Bools, Floats, Ints
from deeptaxi.metrics import History, Snapshot
from deeptaxi.presentation.console import number
from deeptaxi.presentation.report.chart import Chart
from deeptaxi.presentation.report.curves import LEAST_SPAN, curves_of, finish, line
from deeptaxi.presentation.report.glyphs import dots, draw
from deeptaxi.presentation.report.maps import MOST_CELLS, heat_map
from deeptaxi.presentation.report.style import BLUE, INK, MUTED, ORANGE, PURPLE, axes, logarithmic

POINTS = 2_000  # of a scatter plot
FEW_POINTS = 200  # that have room to be large
BINS = 500  # of states beside each other
STEPS = 150  # of a curve that only falls
SHADES = 6


def one_layer(grid: GridMap | None) -> bool:
    """Tell whether a number of every state can be shown as a shade on the map."""
    return grid is not None and grid.cells <= MOST_CELLS and len(grid.layers) == 1


def q_scatter(comparison: Comparison, discount: float) -> Chart | None:
    """Return Q against Q*, a point for each (state, action) pair, those of greedy actions in another color."""
    if comparison.q_star is None or not comparison.pairs.any():
        return None
    chosen = np.zeros(comparison.pairs.shape, np.bool_)
    chosen[np.arange(len(comparison.policy)), comparison.policy] = True
    figure, ax = axes(height=3.4)
    shown = 0
    for greedy, color, label in ((False, MUTED, "other actions"), (True, BLUE, "greedy actions")):
        pairs = comparison.pairs & (chosen == greedy)
        points = np.stack([comparison.q_star[pairs], comparison.q[pairs]], axis=1)
        points = points[spread_out(points[:, 0], points[:, 1], POINTS // 2)]
        dots(ax, points, color, label, large=int(comparison.pairs.sum()) <= FEW_POINTS)
        shown += len(points)
    star, q = comparison.q_star[comparison.pairs], comparison.q[comparison.pairs]
    ends = [min(star.min(), q.min()), max(star.max(), q.max())]
    ax.plot(ends, ends, color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="Q = Q*")
    ax.set_xlabel(f"Q* at discount {discount} (reward)")
    ax.set_ylabel("Q (reward)")
    ax.legend(loc="upper left", fontsize=8, handlelength=1.2)
    error = q - star
    text = (
        f"{len(q):,} pairs of state and action. Q is off by {number(float(np.abs(error).max()))} at most and by "
        f"{number(float(np.abs(error).mean()))} in the mean; {share(error > 0)} are too high."
    )
    text += f" {shown:,} of them are drawn, which cover the same ground." if shown < len(q) else ""
    return Chart("q-scatter", "Q against Q*", text, figure)


def error_by_state(comparison: Comparison, grid: GridMap | None) -> Chart | None:
    """Return the largest |Q − Q*| of each state: on the map where there is one, else over the state numbers."""
    error, star = comparison.error, comparison.q_star
    if error is None or star is None or np.isnan(error).all():
        return None
    least = LEAST_SPAN * float(np.abs(star[comparison.pairs]).max())
    worst = int(np.nanargmax(error))
    text = (
        f"The largest error, {number(error[worst])}, is in state {worst}; "
        f"half of the states are within {number(float(np.nanmedian(error)))}."
    )
    if grid is not None and one_layer(grid):
        levels, labels = steps(error[~np.isnan(error)], least)
        figure = heat_map(grid, np.nan_to_num(error), ~np.isnan(error), levels, labels)
        return Chart("q-error", "Largest error of Q in each state", text, figure)
    figure, ax = axes(height=3.4)
    first, largest = largest_of_each(error, BINS)
    draw(ax, [[(x, 0.0), (x, y)] for x, y in zip(first.tolist(), largest.tolist(), strict=True)], edgecolor=PURPLE)
    ax.set_xlim(-0.01 * len(error), 1.01 * len(error))
    ax.set_ylim(0, 1.05 * max(float(largest.max()), least, 1e-12))
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("state (number)")
    ax.set_ylabel("largest |Q − Q*| (reward)")
    return Chart("q-error", "Largest error of Q in each state", text, figure)


def visits_by_state(visits: Ints, states: Bools, grid: GridMap | None) -> Chart:
    """Return how often an action was tried in each state: on the map where there is one, else in order of size.

    Args:
        visits: `[S, A]`.
        states: where actions are chosen, `[S]`.
        grid: the map, or None.
    """
    counts = visits.sum(axis=1)[states]
    never = int((counts == 0).sum())
    text = (
        f"{len(counts):,} states, {never:,} never visited; between {counts.min():,} and {counts.max():,} visits, "
        f"{number(float(np.median(counts)), 0)} in the median."
    )
    title = "Visits of each state in the training"
    if grid is not None and one_layer(grid):
        levels, labels = decades(counts)
        return Chart("visits", title, text, heat_map(grid, visits.sum(axis=1).astype(float), states, levels, labels))
    figure, ax = axes(height=3.0)
    ordered = np.sort(counts)[::-1].astype(float)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(STEPS, len(ordered))).astype(np.int64))
    ax.fill_between(places + 1, 0.5, np.maximum(ordered[places], 0.5), color=BLUE, alpha=0.25, linewidth=0, step="mid")
    ax.plot(places + 1, np.maximum(ordered[places], 0.5), color=BLUE, drawstyle="steps-mid")
    logarithmic(ax)
    ax.set_ylim(bottom=0.5)
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("states, the most visited first (rank)")
    ax.set_ylabel("visits (steps of the training)")
    return Chart("visits", title, text, figure)


def coverage_chart(histories: Sequence[History], states: int | None, pairs: int | None) -> Chart | None:
    """Return how many states, and pairs of state and action, were tried until when.

    Args:
        histories: the logs of the runs.
        states: how many states there are to try an action in, or None; then it is numbers, not shares.
        pairs: how many pairs there are to try, or None.
    """
    shares = states is not None and pairs is not None
    each, all_pairs = (100 / states, 100 / pairs) if states and pairs else (1.0, 1.0)
    seen = curves_of(histories, Snapshot, lambda record: each * record.states_covered)
    tried = curves_of(histories, Snapshot, lambda record: all_pairs * record.pairs_covered)
    if seen is None or tried is None:
        return None
    figure, ax = axes(height=3.0)
    line(ax, seen, BLUE, f"states (of {states:,})" if shares else "states")
    line(
        ax, tried, ORANGE, f"pairs of state and action (of {pairs:,})" if shares else "pairs of state and action", "--"
    )
    ax.set_ylim(bottom=0)
    finish(ax, f"tried at least once ({'%' if shares else 'number'})")
    last, unit = seen.updates[-1], " %" if shares else ""
    text = (
        f"At update {last:,.0f} an action had been tried in {number(seen.median[-1], 1)}{unit} of the states, and "
        f"{number(tried.median[-1], 1)}{unit} of the pairs of state and action."
    )
    return Chart("coverage", "What the training tried", text, figure)


def share(where: Bools) -> str:
    """Return which share is True, as people say it."""
    return f"{100 * float(where.mean()):.0f} %"


def decades(counts: Ints) -> tuple[Floats, list[str]]:
    """Return levels for counts over their range, in steps of 1, 2, 5, 10, …, and what they mean; zero lies below."""
    positive = counts[counts > 0]
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 1.0)
    series = np.array([base * 10.0**power for power in range(19) for base in (1, 2, 5)])
    first = max(0, int(np.searchsorted(series, low, side="right")) - 1)
    levels = series[first : int(np.searchsorted(series, high, side="right"))]
    levels = levels[:: -(-len(levels) // SHADES)]
    ends = [f"{int(level):,} to {int(above) - 1:,}" for level, above in itertools.pairwise(levels)]
    return np.maximum(levels, 1), ["never", *ends, f"{int(levels[-1]):,} or more"]


def steps(values: Floats, least: float = 0.0) -> tuple[Floats, list[str]]:
    """Return equal steps from 0 to the largest of the values, `least` or more, and what they mean."""
    size = max(float(values.max()), least, 1e-12)
    levels = np.linspace(0, size, SHADES)[:-1]
    bounds = [*levels[1:], size]
    return levels, ["", *(f"{number(low)} to {number(high)}" for low, high in zip(levels, bounds, strict=True))]
