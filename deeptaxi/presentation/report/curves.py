"""Learning curves: of one run, or the median and the range of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from deeptaxi.evaluation.spread import Curve, Spread, spread
from deeptaxi.mdp.table import Floats
from deeptaxi.metrics import Evaluated, History, Progress, Record, Snapshot
from deeptaxi.presentation.console import number
from deeptaxi.presentation.report.chart import Chart
from deeptaxi.presentation.report.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    axes,
    logarithmic,
    over_updates,
    plain,
)

LEAST_SPAN = 1e-4  # of an axis, of the numbers beside it: they have six digits

Read = Callable[[Any], float | None]


def curves_of(histories: Sequence[History], kind: type[Record], read: Read) -> Spread | None:
    """Return what `read` finds in the records of a kind, over updates, for all runs together."""
    curves = []
    for history in histories:
        points = [(record.update, read(record)) for record in history.of_kind(kind)]
        known = [(update, value) for update, value in points if value is not None and np.isfinite(value)]
        curves.append(Curve(*np.array(known, np.float64).reshape(-1, 2).T))
    return spread(curves)


def learning_curves(
    histories: Sequence[History], exact: Mapping[str, Any] | None, q_range: Floats | None
) -> list[Chart]:
    """Return the charts of what happened while training.

    Args:
        histories: the logs of the runs.
        exact: the exact verdict on one of them, for the optimum, which is the same for all.
        q_range: the smallest and largest Q* that can be met, `[2]`, or None.
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
    """Return the exact value of the greedy policy on the way, beside the optimum."""
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
    text = f"{told(found, 'Its value')}; the optimum is {number(exact['optimal_value'])}."
    text += "".join(f" The weights of update {record.update:,} are kept." for record in kept)
    return Chart("value", "Value of the greedy policy", text, figure)


def kept_ones(history: History) -> list[Evaluated]:
    """Return the last evaluation of the weights that were kept, if there was one."""
    best = history.finished.best_update if history.finished else None
    return [record for record in history.evaluations if record.update == best][-1:]


def gap_chart(histories: Sequence[History], exact: Mapping[str, Any] | None) -> Chart | None:
    """Return how far value and return are below the optimum, on a scale that shows small gaps, and zero."""
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
    text = f"{told(value, 'The gap of the value')}. {told(returned, 'The gap of the return')}."
    return Chart("gap", "Gap to the optimum", text, figure)


def return_chart(histories: Sequence[History], exact: Mapping[str, Any] | None) -> Chart | None:
    """Return the mean return of the training's episodes, and the exact one of the greedy policy."""
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
    sentences = [told(greedy, "The exact return of the greedy policy") if greedy else ""]
    sentences += [told(explored, "The mean return of the training's own episodes") if explored else ""]
    sentences += [f"The optimum is {number(exact['optimal_return'])}" if exact else ""]
    return Chart("return", "Return of an episode", " ".join(f"{text}." for text in sentences if text), figure)


def error_chart(histories: Sequence[History]) -> Chart | None:
    """Return the mean |td_error|."""
    found = curves_of(histories, Progress, lambda record: record.td_error)
    if found is None:
        return None
    figure, ax = axes()
    line(ax, found, PURPLE, "mean |td_error|", width=1.2)
    if (found.low > 0).all():
        logarithmic(ax)
    finish(ax, "mean |td_error| (reward)", legend=False)
    return Chart("td-error", "TD error", told(found, "The mean absolute TD error") + ".", figure)


def rates_chart(histories: Sequence[History]) -> Chart | None:
    """Return ε and the learning rate, one above the other."""
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
    text = f"{told(epsilon, 'ε, the probability of a random action,')}. {told(rate, 'The learning rate', 6)}."
    return Chart("rates", "Exploration and learning rate", text, figure)


def q_range_chart(histories: Sequence[History], q_range: Floats | None) -> Chart | None:
    """Return the range that the Q values are in, beside the range of Q*."""
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
    """Draw the median, and the range of several runs behind it."""
    if (found.low < found.high).any():
        ax.fill_between(found.updates, found.low, found.high, color=color, alpha=0.18, linewidth=0)
    marker = "o" if len(found.updates) == 1 else None
    ax.plot(found.updates, found.median, style, color=color, label=label, linewidth=width, marker=marker, markersize=3)


def optimum_line(ax: Axes, value: float) -> None:
    """Draw the optimum."""
    ax.axhline(value, color=INK, linewidth=1, linestyle=(0, (4, 2)), label="optimum")


def finish(ax: Axes, label: str, legend: bool = True, label_updates: bool = True) -> None:
    """Say what the axes are, and what the lines; numbers that hardly differ are not drawn as if they did."""
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
    """Return the power of ten at or below the smallest gap that is not zero, for the linear part of a scale."""
    sizes = np.concatenate([np.abs(curve.median) for curve in found])
    positive = sizes[sizes > 0]
    return float(10 ** np.floor(np.log10(max(positive.min(), 1e-9)))) if positive.size else 1.0


def told(found: Spread, what: str, digits: int = 4) -> str:
    """Return in words where a curve starts and ends."""
    first, last = found.updates[0], found.updates[-1]
    start, end = number(found.median[0], digits), number(found.median[-1], digits)
    low, high = number(found.low[-1], digits), number(found.high[-1], digits)
    spans = "" if low == high else f" ({low} to {high})"
    if first == last:
        return f"{what} is {end}{spans} at update {last:,.0f}"
    return f"{what} goes from {start} at update {first:,.0f} to {end}{spans} at update {last:,.0f}"
