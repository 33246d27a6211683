"""Charts of groups of runs: shares and times with their intervals, curves, profiles, and a grid of settings.

Each group has the same color and line in all charts of an environment. Of many groups, the best are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from deeptaxi.display.console import number
from deeptaxi.errors import printable
from deeptaxi.mdp.table import Floats
from deeptaxi.report.chart import (
    BLUE,
    GREEN,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PURPLE,
    Chart,
    axes,
    over_updates,
)
from deeptaxi.report.content import GroupContent
from deeptaxi.schema import sort_key
from deeptaxi.statistics.intervals import bootstrap, interquartile_mean

COLORS, STYLES = (BLUE, ORANGE, GREEN, PURPLE, MUTED), ("-", "--", "-.", ":", "-")
MOST_ROWS, MOST_CELLS, MOST_POINTS = 40, 400, 40
CURVE_RESAMPLES = 1_000
ENDS = ("share", "low", "high")
LONGEST = 40  # characters of a label
Groups = Sequence[Mapping[str, Any]]  # of the JSON of `deeptaxi compare`


def group_charts(content: GroupContent) -> list[Chart]:
    """Create the charts of a comparison, for each environment."""
    found = content.comparison
    places = list(dict.fromkeys(one["environment"] for one in found["groups"]))
    charts: list[Chart | None] = []
    for position, place in enumerate(places):
        groups = [one for one in found["groups"] if one["environment"] == place]
        ranked = rank(groups, [pair for pair in found["pairs"] if pair["environment"] == place])
        suffix = f"-{position + 1}" if len(places) > 1 else ""
        where = f" on {place}" if len(places) > 1 else ""
        charts += [
            setting_grid([key for key in found["by"] if key != "env"], ranked, suffix, where),
            share_chart(groups, suffix, where),
            optimal_over_time(ranked[: len(COLORS)], suffix, where),
            value_curves(ranked[: len(COLORS)], content.curves, suffix, where),
            profile_chart(ranked[: len(COLORS)], found["score"], suffix, where),
        ]
    return [chart for chart in charts if chart is not None]


def rank(groups: Groups, pairs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the groups of an environment, the best first, as its pairs have them."""
    labels = [*(pair["best"] for pair in pairs[:1]), *(pair["other"] for pair in pairs)]
    return sorted(groups, key=lambda one: labels.index(one["label"]) if labels else 0)


def short(label: str) -> str:
    """Return a label for a chart: no formula of matplotlib, at limited length."""
    text = printable(label).replace("$", "")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def share_chart(groups: Groups, suffix: str, where: str) -> Chart | None:
    """Plot the share of seeds that are optimal in each group, with Wilson intervals."""
    known = [one for one in groups if one["share_optimal"] is not None][:MOST_ROWS]
    if not known:
        return None
    figure, ax = axes(height=0.9 + 0.26 * len(known))
    for row, one in enumerate(known):
        share = one["share_optimal"]
        ax.plot([share["low"], share["high"]], [row, row], color=BLUE, linewidth=1.6)
        ax.plot(share["estimate"], row, "o", color=BLUE, markersize=5)
    ax.set_yticks(range(len(known)), [short(one["label"]) for one in known])
    ax.set_ylim(len(known) - 0.5, -0.5)
    ax.set_xlim(-0.03, 1.03)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("seeds that are optimal, with 95 % intervals")
    texts = [f"{one['label']}: {one['optimal']} of {len(one['runs'])}" for one in known]
    return Chart(f"shares{suffix}", f"Seeds that are optimal{where}", "; ".join(texts) + ".", figure)


def setting_grid(keys: Sequence[str], groups: Groups, suffix: str, where: str) -> Chart | None:
    """Draw a grid of two settings, with the share of seeds that are optimal; None unless there are two."""
    if len(keys) != 2 or any(one["share_optimal"] is None for one in groups):
        return None
    rows, columns = ([*dict.fromkeys(one["settings"][key] for one in by_setting(groups, key))] for key in keys)
    if min(len(rows), len(columns)) < 2 or len(rows) * len(columns) > MOST_CELLS:
        return None
    share = np.full((len(rows), len(columns)), np.nan)
    figure, ax = axes(height=1.2 + 0.4 * len(rows))
    for one in groups:
        row, column = (values.index(one["settings"][key]) for values, key in zip((rows, columns), keys, strict=True))
        share[row, column] = one["share_optimal"]["estimate"]
        text = f"{one['optimal']} of {len(one['runs'])}"
        ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8, color=INK)
    for row, column in product(range(len(rows)), range(len(columns))):
        shade = 0.0 if np.isnan(share[row, column]) else 0.55 * share[row, column]
        ax.add_patch(cell(row, column, shade))
    ax.set_xlim(0, len(columns))
    ax.set_ylim(len(rows), 0)
    ax.grid(visible=False)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [short(str(value)) for value in columns])
    ax.set_yticks(np.arange(len(rows)) + 0.5, [short(str(value)) for value in rows])
    ax.set_xlabel(short(keys[1]))
    ax.set_ylabel(short(keys[0]))
    best = groups[0]
    count = f"{best['optimal']} of {len(best['runs'])}"
    text = f"The darker, the more seeds are optimal. The best is {best['label']}: {count}."
    return Chart(f"grid{suffix}", f"Grid of settings{where}", text, figure)


def by_setting(groups: Groups, key: str) -> list[Mapping[str, Any]]:
    """Return groups sorted by a setting, numbers first."""
    return sorted(groups, key=lambda one: sort_key(one["settings"][key]))


def cell(row: int, column: int, shade: float) -> Any:
    """Return the rectangle of a cell of the grid."""
    from matplotlib.patches import Rectangle

    return Rectangle((column, row), 1, 1, facecolor=BLUE, alpha=shade, edgecolor=LINE, linewidth=0.8)


def optimal_over_time(groups: Groups, suffix: str, where: str) -> Chart | None:
    """Plot the share of seeds that are optimal over updates, with intervals: one less the curve of Kaplan and Meier."""
    known = [one for one in groups if one["updates_to_optimum"] is not None]
    if not known:
        return None
    figure, ax = axes()
    texts = []
    end = max(one["updates_to_optimum"]["not_optimal_yet"]["times"][-1] for one in known)
    for color, style, one in zip(COLORS, STYLES, known, strict=False):
        curve = one["updates_to_optimum"]["not_optimal_yet"]
        if curve["share"][-1] == 0:  # they stay optimal
            curve = {"times": [*curve["times"], end], **{name: [*curve[name], curve[name][-1]] for name in ENDS}}
        times, share, low, high = ([start, *curve[name]] for name, start in
                                   (("times", 0), ("share", 1), ("low", 1), ("high", 1)))  # fmt: skip
        ends = [1 - np.array(end, np.float64) for end in (high, low)]
        ax.fill_between(times, *ends, step="post", color=color, alpha=0.15, linewidth=0)
        ax.step(times, 1 - np.array(share), style, where="post", color=color, label=short(one["label"]))
        median = one["updates_to_optimum"]["median"]["estimate"]
        half = "not half of them" if median is None else f"half of them by update {median:,.0f}"
        texts.append(f"{one['label']}: {half}")
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    finish(ax, "seeds that are optimal for good")
    return Chart(f"optimal{suffix}", f"When seeds become optimal{where}", "; ".join(texts) + ".", figure)


def value_curves(
    groups: Groups, curves: Mapping[tuple[str, str], Sequence[Floats]], suffix: str, where: str
) -> Chart | None:
    """Plot the interquartile mean of the greedy policy's value during training, with bootstrap intervals."""
    figure, ax = axes()
    texts = []
    for color, style, one in zip(COLORS, STYLES, groups, strict=False):
        found = values_over_updates(curves.get((one["environment"], one["label"]), ()))
        if found is None:
            continue
        updates, values = found
        middle = interquartile_mean([values.T])
        if len(values) > 1:
            middle, low, high = bootstrap_of_curve(values)
            ax.fill_between(updates, low, high, color=color, alpha=0.15, linewidth=0)
        ax.plot(updates, middle, style, color=color, label=short(one["label"]))
        texts.append(f"{one['label']}: {number(middle[0])} at first, {number(middle[-1])} at the end")
    if not texts:
        return None
    finish(ax, "value of the greedy policy (reward)")
    return Chart(f"values{suffix}", f"Value, interquartile mean of the seeds{where}", "; ".join(texts) + ".", figure)


def values_over_updates(curves: Sequence[Floats]) -> tuple[Floats, Floats] | None:
    """Return updates `[N]` and the values of the runs at them, `[runs, N]`; one that has ended keeps its last."""
    curves = [curve for curve in curves if curve.shape[1]]
    if not curves:
        return None
    updates = np.unique(np.concatenate([updates for updates, _ in curves]))
    updates = updates[updates >= max(updates[0] for updates, _ in curves)]
    if len(updates) > MOST_POINTS:
        updates = updates[np.unique(np.linspace(0, len(updates) - 1, MOST_POINTS).astype(np.int64))]
    held = [values[np.searchsorted(known, updates, side="right") - 1] for known, values in curves]
    return updates, np.stack(held)


def bootstrap_of_curve(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the interquartile mean of runs `[runs, N]` at each point, and its pointwise 95 % interval, `[N]` each."""
    rows = np.arange(len(values), dtype=np.float64)  # whole runs are drawn, and with them their points

    def middle(tasks: Sequence[Floats]) -> Floats:
        return np.asarray(interquartile_mean([np.moveaxis(values[tasks[0].astype(np.int64)], -1, -2)]))

    return bootstrap(middle, [rows], resamples=CURVE_RESAMPLES)


def profile_chart(groups: Groups, score: str, suffix: str, where: str) -> Chart | None:
    """Plot performance profiles: the share of seeds whose score is above a threshold."""
    known = [one for one in groups if one["performance_profile"] is not None]
    if not known:
        return None
    figure, ax = axes()
    for color, style, one in zip(COLORS, STYLES, known, strict=False):
        profile = one["performance_profile"]
        ax.fill_between(
            profile["thresholds"], profile["low"], profile["high"], color=color, alpha=0.15, linewidth=0, step="post"
        )
        ax.step(
            profile["thresholds"], profile["share_above"], style, where="post", color=color, label=short(one["label"])
        )
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("normalized score τ" if score == "normalized_score" else "return τ")
    ax.set_ylabel("seeds with a score above τ")
    legend_below(ax)
    text = "A curve that is nowhere below another belongs to the better group. " + describe_crossing(known)
    return Chart(f"profiles{suffix}", f"Performance profiles{where}", text, figure)


def describe_crossing(groups: Groups) -> str:
    """Say whether the best profile is above the next, or crosses it."""
    for one, other in pairwise(groups[:2]):
        shares = [np.array(part["performance_profile"]["share_above"]) for part in (one, other)]
        if (shares[0] == shares[1]).all():
            return f"Those of {one['label']} and {other['label']} are the same."
        above = bool((shares[0] >= shares[1]).all())
        return f"That of {one['label']} {'is nowhere below' if above else 'crosses'} that of {other['label']}."
    return ""


def finish(ax: Axes, label: str) -> None:
    """Label the axes of a curve over updates."""
    over_updates(ax)
    ax.set_xlim(left=0)
    ax.set_ylabel(label)
    legend_below(ax)


def legend_below(ax: Axes) -> None:
    """Put the legend below the axes, where it hides nothing."""
    labels = ax.get_legend_handles_labels()[1]
    ax.figure.set_figheight(ax.figure.get_figheight() + 0.2 * len(labels))  # type: ignore[union-attr]
    ax.figure.legend(loc="outside lower center", ncols=1)
