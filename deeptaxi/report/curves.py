"""Learning curves, of one run or as median and range of several; and charts of Q values and visits by state.

**Several runs.** A curve is known at its recorded updates; in between, and after its training has ended, its last value
is carried forward. The median, minimum and maximum start when every curve has a value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter

from deeptaxi.display.console import number
from deeptaxi.evaluation.comparison import Comparison, largest_of_each, spread_out
from deeptaxi.mdp.describe import GridMap
from deeptaxi.mdp.table import Bools, Floats, Ints
from deeptaxi.metrics import Evaluated, History, Progress, Snapshot
from deeptaxi.report.chart import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, Chart, axes, logarithmic, over_updates, plain
from deeptaxi.report.maps import MOST_CELLS, heat_map, segments

CURVE_POINTS = 400  # per curve: more than can be distinguished in a plot


class Curve(NamedTuple):
    """Values over updates, `[N]` each, the updates ascending."""

    updates: Floats
    values: Floats


class Spread(NamedTuple):
    """The median and range of several curves, `[N]` each."""

    updates: Floats
    median: Floats
    low: Floats
    high: Floats


def thin_out(curve: Curve, limit: int = CURVE_POINTS) -> Curve:
    """Reduce a curve to at most `limit` points, including the first and the last."""
    if len(curve.updates) <= limit:
        return curve
    kept = np.unique(np.linspace(0, len(curve.updates) - 1, limit).astype(np.int64))
    return Curve(curve.updates[kept], curve.values[kept])


def spread(curves: Sequence[Curve]) -> Spread | None:
    """Return the median and range of the curves; None if none has any points."""
    known = [curve for curve in curves if len(curve.updates)]
    if not known:
        return None
    if len(known) == 1:
        curve = thin_out(known[0])
        return Spread(curve.updates, curve.values, curve.values, curve.values)
    updates = np.unique(np.concatenate([curve.updates for curve in known]))
    updates = updates[updates >= max(curve.updates[0] for curve in known)]
    held = np.stack(
        [curve.values[np.searchsorted(curve.updates, updates, side="right") - 1] for curve in known]
    )  # [runs, N]
    columns = (np.median(held, axis=0), held.min(axis=0), held.max(axis=0))
    return Spread(*(thin_out(Curve(updates, column)).values for column in (updates, *columns)))


LEAST_SPAN = 1e-4  # of an axis, relative to its numbers, which have six digits

Read = Callable[[Any], float | None]


def curves_of(histories: Sequence[History], kind: type[Evaluated | Progress | Snapshot], read: Read) -> Spread | None:
    """Collect the values of `read` from the records of a kind, over updates, for all runs together."""
    curves = []
    for history in histories:
        points = [(record.update, read(record)) for record in history.of_kind(kind)]
        known = [(update, value) for update, value in points if value is not None and np.isfinite(value)]
        curves.append(Curve(*np.array(known, np.float64).reshape(-1, 2).T))
    return spread(curves)


def learning_curves(
    histories: Sequence[History], exact: Mapping[str, Any] | None, q_range: Floats | None
) -> list[Chart]:
    """Create the charts of the training.

    Args:
        histories: the logs of the runs.
        exact: the exact verdict on one of them, for the optimum, which they share.
        q_range: the smallest and largest reachable Q*, `[2]`, or None.
    """
    drawn = (
        value_chart(histories, exact),
        gap_chart(histories, exact),
        return_chart(histories, exact),
        error_chart(histories),
        rates_chart(histories),
        q_range_chart(histories, q_range),
    )
    return [chart for chart in drawn if chart is not None]


def value_chart(histories: Sequence[History], exact: Mapping[str, Any] | None) -> Chart | None:
    """Plot the exact value of the greedy policy during training, with the optimum."""
    found = curves_of(histories, Evaluated, lambda record: record.value)
    if found is None or exact is None:
        return None
    figure, ax = axes()
    line(ax, found, BLUE, "greedy policy")
    optimum_line(ax, exact["optimal_value"])
    kept = kept_ones(histories[0]) if len(histories) == 1 else []
    for record in kept:
        ax.plot(
            record.update, record.value, "o", color=BLUE, markerfacecolor="none", markersize=8, label="kept weights"
        )
    finish(ax, f"value at discount {exact['discount']} (reward)")
    text = f"{describe_curve(found, 'Its value')}; the optimum is {number(exact['optimal_value'])}."
    text += "".join(f" The weights of update {record.update:,} are kept." for record in kept)
    return Chart("value", "Value of the greedy policy", text, figure)


def kept_ones(history: History) -> list[Evaluated]:
    """Return the last evaluation of the saved weights, if any."""
    best = history.finished.best_update if history.finished else None
    return [record for record in history.evaluations if record.update == best][-1:]


def gap_chart(histories: Sequence[History], exact: Mapping[str, Any] | None) -> Chart | None:
    """Plot how far value and return are below the optimum, on a scale that shows small gaps, and zero."""
    value = curves_of(histories, Evaluated, lambda record: record.value_gap)
    returned = curves_of(histories, Evaluated, lambda record: record.gap)
    if value is None or returned is None or exact is None:
        return None
    figure, ax = axes()
    line(ax, returned, ORANGE, "of the return", "--")
    line(ax, value, BLUE, "of the value")
    ax.set_yscale("symlog", linthresh=smallest(value, returned))
    ax.yaxis.set_major_formatter(FuncFormatter(plain))
    optimum_line(ax, 0.0)
    finish(ax, "gap to the optimum (reward)")
    text = f"{describe_curve(value, 'The gap of the value')}. {describe_curve(returned, 'The gap of the return')}."
    return Chart("gap", "Gap to the optimum", text, figure)


def return_chart(histories: Sequence[History], exact: Mapping[str, Any] | None) -> Chart | None:
    """Plot the mean return of the training's episodes, and the exact return of the greedy policy."""
    explored = curves_of(histories, Progress, lambda record: record.mean_return)
    greedy = None
    if exact is not None:
        greedy = curves_of(
            histories, Evaluated, lambda record: None if record.gap is None else exact["optimal_return"] - record.gap
        )
    if explored is None and greedy is None:
        return None
    figure, ax = axes()
    if explored is not None:
        line(ax, explored, MUTED, "while training", width=1.0)
    if greedy is not None and exact is not None:
        line(ax, greedy, BLUE, "greedy policy")
        optimum_line(ax, exact["optimal_return"])
    finish(ax, "return of an episode (reward)")
    sentences = [describe_curve(greedy, "The exact return of the greedy policy") if greedy else ""]
    sentences += [describe_curve(explored, "The mean return of the training's own episodes") if explored else ""]
    sentences += [f"The optimum is {number(exact['optimal_return'])}" if exact else ""]
    return Chart("return", "Return of an episode", " ".join(f"{text}." for text in sentences if text), figure)


def error_chart(histories: Sequence[History]) -> Chart | None:
    """Plot the mean |td_error|."""
    found = curves_of(histories, Progress, lambda record: record.td_error)
    if found is None:
        return None
    figure, ax = axes()
    line(ax, found, PURPLE, "mean |td_error|", width=1.2)
    if (found.low > 0).all():
        logarithmic(ax)
    finish(ax, "mean |td_error| (reward)", legend=False)
    return Chart("td-error", "TD error", describe_curve(found, "The mean absolute TD error") + ".", figure)


def rates_chart(histories: Sequence[History]) -> Chart | None:
    """Plot ε and the learning rate, one above the other."""
    epsilon = curves_of(histories, Progress, lambda record: record.epsilon)
    rate = curves_of(histories, Progress, lambda record: record.learning_rate)
    if epsilon is None or rate is None:
        return None
    figure, (upper, lower) = axes(nrows=2, sharex=True)
    line(upper, epsilon, GREEN, "ε")
    line(lower, rate, ORANGE, "learning rate")
    upper.set_ylim(-0.04, 1.04)
    lower.set_ylim(bottom=0)
    finish(upper, "ε (probability)", legend=False, label_updates=False)
    finish(lower, "learning rate", legend=False)
    exploring = describe_curve(epsilon, "ε, the probability of a random action,")
    text = f"{exploring}. {describe_curve(rate, 'The learning rate', 6)}."
    return Chart("rates", "Exploration and learning rate", text, figure)


def q_range_chart(histories: Sequence[History], q_range: Floats | None) -> Chart | None:
    """Plot the range of the Q values, with the range of Q*."""
    low, mean, high = (curves_of(histories, Snapshot, attrgetter(name)) for name in ("q_min", "q_mean", "q_max"))
    if low is None or mean is None or high is None:
        return None
    figure, ax = axes()
    ax.fill_between(low.updates, low.low, high.high, color=BLUE, alpha=0.18, linewidth=0, label="all Q values")
    line(ax, mean, BLUE, "their mean")
    text = f"After the last update the Q values are between {number(low.low[-1])} and {number(high.high[-1])}."
    if q_range is not None:
        for bound in q_range:
            ax.axhline(
                bound,
                color=INK,
                linewidth=1,
                linestyle=(0, (4, 2)),
                label="range of Q*" if bound == q_range[0] else None,
            )
        text += f" Q* is between {number(q_range[0])} and {number(q_range[1])}."
    finish(ax, "Q (reward)")
    return Chart("q-range", "Range of the Q values", text, figure)


def line(ax: Axes, found: Spread, color: str, label: str, style: str = "-", width: float = 1.8) -> None:
    """Draw the median, with the range of several runs behind it."""
    if (found.low < found.high).any():
        ax.fill_between(found.updates, found.low, found.high, color=color, alpha=0.18, linewidth=0)
    marker = "o" if len(found.updates) == 1 else None
    ax.plot(found.updates, found.median, style, color=color, label=label, linewidth=width, marker=marker, markersize=3)


def optimum_line(ax: Axes, value: float) -> None:
    """Draw the optimum."""
    ax.axhline(value, color=INK, linewidth=1, linestyle=(0, (4, 2)), label="optimum")


def finish(ax: Axes, label: str, legend: bool = True, label_updates: bool = True) -> None:
    """Label the axes and lines; do not magnify numbers that hardly differ."""
    low, high = ax.get_ylim()
    least = LEAST_SPAN * max(abs(low), abs(high))
    if ax.get_yscale() == "linear" and high - low < least:
        ax.set_ylim((low + high - least) / 2, (low + high + least) / 2)
    ax.set_ylabel(label)
    ax.set_xlim(left=0)
    over_updates(ax, label_updates)
    if legend:
        ax.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, fontsize=8, columnspacing=1.2, borderaxespad=0.2
        )


def smallest(*found: Spread) -> float:
    """Return the power of ten at or below the smallest nonzero gap, for the linear part of a scale."""
    sizes = np.concatenate([np.abs(curve.median) for curve in found])
    positive = sizes[sizes > 0]
    return float(10 ** np.floor(np.log10(max(positive.min(), 1e-9)))) if positive.size else 1.0


def describe_curve(found: Spread, what: str, digits: int = 4) -> str:
    """Describe in words where a curve starts and ends."""
    first, last = found.updates[0], found.updates[-1]
    start, end = number(found.median[0], digits), number(found.median[-1], digits)
    low, high = number(found.low[-1], digits), number(found.high[-1], digits)
    spans = "" if low == high else f" ({low} to {high})"
    if first == last:
        return f"{what} is {end}{spans} at update {last:,.0f}"
    return f"{what} goes from {start} at update {first:,.0f} to {end}{spans} at update {last:,.0f}"


SCATTER_POINTS = 2_000  # in a scatter plot
FEW_POINTS = 200  # few enough to be drawn large
BINS = 500  # of states side by side
STEPS = 150  # of a curve that only falls
SHADES = 6


def one_layer(grid: GridMap | None) -> bool:
    """Whether a number per state can be shown as a shade on the map."""
    return grid is not None and grid.cells <= MOST_CELLS and len(grid.layers) == 1 and not grid.apart


def dots(ax: Axes, points: np.ndarray[Any, Any], color: str, label: str, large: bool = False) -> None:
    """Draw points `[N, 2]` as one path of very short lines with round caps; markers would take four times the space.

    Large points are also visible on top of a line.
    """
    ax.plot([], [], "o", color=color, markersize=3.5, label=label)  # the legend's sample
    length = 1e-4 * (float(np.ptp(points[:, 0])) or 1.0) if len(points) else 0.0
    ends = np.stack([points, points + np.array([length, 0.0])], axis=1).reshape(-1, 2)
    path = Path(ends, np.tile([Path.MOVETO, Path.LINETO], len(points)))
    path.should_simplify = False  # it would drop dots near others
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
        ax.add_patch(PathPatch(path, **look))
        ax.update_datalim(points)
        ax.autoscale_view()


def q_scatter(comparison: Comparison, discount: float) -> Chart | None:
    """Plot Q against Q*, one point per (state, action) pair, with greedy actions in another color."""
    if comparison.q_star is None or comparison.q is None or not comparison.pairs.any():
        return None
    chosen = np.zeros(comparison.pairs.shape, np.bool_)
    chosen[np.arange(len(comparison.policy)), comparison.policy] = True
    figure, ax = axes(height=3.4)
    shown = 0
    for greedy, color, label in ((False, MUTED, "other actions"), (True, BLUE, "greedy actions")):
        pairs = comparison.pairs & (chosen == greedy)
        points = np.stack([comparison.q_star[pairs], comparison.q[pairs]], axis=1)
        points = points[spread_out(points[:, 0], points[:, 1], SCATTER_POINTS // 2)]
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
        f"{number(float(np.abs(error).mean()))} on average; {share(error > 0)} are too high."
    )
    text += f" {shown:,} of them are drawn, covering the same range." if shown < len(q) else ""
    return Chart("q-scatter", "Q against Q*", text, figure)


def error_by_state(comparison: Comparison, grid: GridMap | None) -> Chart | None:
    """Plot the largest |Q − Q*| of each state: on the map if there is one, else over the state numbers."""
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
    bars = [((x, 0.0), (x, y)) for x, y in zip(first.tolist(), largest.tolist(), strict=True)]
    segments(ax, bars, color=PURPLE, linewidth=1.0)
    ax.set_xlim(-0.01 * len(error), 1.01 * len(error))
    ax.set_ylim(0, 1.05 * max(float(largest.max()), least, 1e-12))
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("state (number)")
    ax.set_ylabel("largest |Q − Q*| (reward)")
    return Chart("q-error", "Largest error of Q in each state", text, figure)


def visits_by_state(visits: Ints, states: Bools, grid: GridMap | None) -> Chart:
    """Plot how often an action was tried in each state: on the map if there is one, else sorted by count.

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
    """Plot how many states, and (state, action) pairs, were tried over time.

    Args:
        histories: the logs of the runs.
        states: the number of states to try an action in; None to plot counts instead of fractions.
        pairs: the number of pairs to try, or None.
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
    """Format the fraction that is True for people."""
    return f"{100 * float(where.mean()):.0f} %"


def decades(counts: Ints) -> tuple[Floats, list[str]]:
    """Return levels for counts over their range, in steps of 1, 2, 5, 10, …, and their labels; zero lies below."""
    positive = counts[counts > 0]
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 1.0)
    series = np.array([base * 10.0**power for power in range(19) for base in (1, 2, 5)])
    first = max(0, int(np.searchsorted(series, low, side="right")) - 1)
    levels = series[first : int(np.searchsorted(series, high, side="right"))]
    levels = levels[:: -(-len(levels) // SHADES)]
    ends = [f"{int(level):,} to {int(above) - 1:,}" for level, above in itertools.pairwise(levels)]
    return np.maximum(levels, 1), ["never", *ends, f"{int(levels[-1]):,} or more"]


def steps(values: Floats, least: float = 0.0) -> tuple[Floats, list[str]]:
    """Return equal steps from 0 to the largest of the values, at least to `least`, and their labels."""
    size = max(float(values.max()), least, 1e-12)
    levels = np.linspace(0, size, SHADES)[:-1]
    bounds = [*levels[1:], size]
    return levels, ["", *(f"{number(low)} to {number(high)}" for low, high in zip(levels, bounds, strict=True))]
