"""The tables of `deeptaxi compare`: groups of runs with their intervals, and the best one beside the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deeptaxi.display.console import number

SCORES = {"normalized_score": "score (random 0, optimum 1)", "return": "return"}
AGGREGATES = {"iqm": "interquartile mean", "mean": "mean", "median": "median"}


def comparison_page(found: Mapping[str, Any]) -> Group:
    """Format a comparison: the verdict, the groups, the pairs, then the remarks.

    Args:
        found: `GroupComparison.to_dict`.
    """
    parts: list[Any] = [Text(found["verdict"], style="bold"), Text(), shares_table(found), Text(), scores_table(found)]
    if found["overall"]:
        parts += [Text(), overall_table(found)]
    if found["pairs"]:
        parts += [Text(), pairs_table(found)]
    return Group(*parts)


def plain_table(title: str, first: str, *names: str) -> Table:
    """Create a table whose first column names rows, and whose others are numbers."""
    table = Table(title=title, title_justify="left", title_style="dim", box=None, padding=(0, 2, 0, 0))
    table.add_column(first, header_style="dim", overflow="fold")
    for name in names:
        table.add_column(name, header_style="dim", justify="right", overflow="fold")
    return table


def shares_table(found: Mapping[str, Any]) -> Table:
    """List how many seeds of each group are optimal, and how long they took."""
    title = "Seeds that are optimal, and the median time until they are; in brackets 95 % intervals"
    table = plain_table(title, heading(found), "seeds optimal", "share", "updates", "seconds")
    for one in found["groups"]:
        share = one["share_optimal"]
        table.add_row(
            one["label"],
            f"{'–' if one['optimal'] is None else one['optimal']} of {len(one['runs'])}",
            "–" if share is None else interval(share, percentage),
            time(one["updates_to_optimum"], 0),
            time(one["seconds_to_optimum"], 2),
        )
    return table


def scores_table(found: Mapping[str, Any]) -> Table:
    """List the aggregates of the scores of each group."""
    table = plain_table(f"The {SCORES[found['score']]}", heading(found), *AGGREGATES.values())
    for one in found["groups"]:
        table.add_row(one["label"], *(interval(one["score"][name]) for name in AGGREGATES))
    return table


def overall_table(found: Mapping[str, Any]) -> Table:
    """List the aggregates over all problems."""
    table = plain_table("Over all environments, which count equally in mean and median", "", *AGGREGATES.values())
    for label, scores in found["overall"].items():
        table.add_row(label, *(interval(scores[name]) for name in AGGREGATES))
    return table


def pairs_table(found: Mapping[str, Any]) -> Table:
    """List the best group beside each other one."""
    title = "The best beside the others; each p is multiplied by the number of all pairs"
    table = plain_table(title, "pair", "p, seeds optimal", "p, time", "probability of a higher score", "seeds to tell")
    for pair in found["pairs"]:
        needed = pair["seeds_to_tell"]
        table.add_row(
            f"{pair['best']} against {pair['other']}",
            chance(pair["p_adjusted"]),
            chance(pair["time_p_adjusted"]),
            interval(pair["probability_of_improvement"], percentage),
            "–" if needed is None else f"{needed:,} each",
        )
    return table


def heading(found: Mapping[str, Any]) -> str:
    """Return the heading of the column of groups."""
    return ", ".join(found["by"])


def interval(estimate: Mapping[str, Any], form: Callable[[float], str] = number) -> str:
    """Format an estimate with its interval: ``0.9 [0.8, 1]``."""
    if estimate["estimate"] is None:
        return "–"
    ends = [estimate["low"], estimate["high"]]
    if ends == [None, None]:
        return form(estimate["estimate"])
    low, high = ("…" if end is None else form(end) for end in ends)
    return f"{form(estimate['estimate'])} [{low}, {high}]"


def percentage(value: float) -> str:
    """Format a share."""
    return f"{100 * value:.0f} %"


def time(summary: Mapping[str, Any] | None, digits: int) -> str:
    """Format a median time; where the runs do not reach it, say after what it is."""
    if summary is None:
        return "–"
    median = summary["median"]
    if median["estimate"] is None:
        last = summary["not_optimal_yet"]["times"][-1]
        return f"more than {last:,.{digits}f}"
    return interval(median, lambda value: f"{value:,.{digits}f}")


def chance(p: float | None) -> str:
    """Format a p-value."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
