"""The tables of `deeptaxi compare`: groups of runs with their intervals, and the best one beside the others.

The terminal and the page of `deeptaxi report` show the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from deeptaxi.display.console import number

SCORES = {"normalized_score": "normalized score (random 0, optimum 1)", "return": "return"}
AGGREGATES = {"iqm": "interquartile mean", "mean": "mean", "median": "median"}


class GroupTable(NamedTuple):
    """A table: its title, the names of its columns, and its cells."""

    title: str
    names: Sequence[str]
    rows: Sequence[Sequence[str]]


def comparison_page(found: Mapping[str, Any]) -> Group:
    """Format a comparison: the verdict, then its tables.

    Args:
        found: `GroupComparison.to_dict`.
    """
    parts: list[Any] = [Text(found["verdict"], style="bold")]
    for part in comparison_tables(found):
        table = Table(box=None, padding=(0, 2, 0, 0))
        for index, name in enumerate(part.names):
            table.add_column(name, header_style="dim", justify="right" if index else "left", overflow="fold")
        for row in part.rows:
            table.add_row(*map(Text, row))
        parts += [Text(), Text(part.title, style="dim"), table]
    return Group(*parts, Text(), Text(f"The best run: {found['best_run']}", style="dim"))


def comparison_tables(found: Mapping[str, Any]) -> list[GroupTable]:
    """Return the tables of a comparison, those with rows."""
    tables = (shares_table(found), scores_table(found), overall_table(found), pairs_table(found))
    return [table for table in tables if table.rows]


def shares_table(found: Mapping[str, Any]) -> GroupTable:
    """List how many seeds of each group are optimal, and how long they took."""
    title = "Seeds that are optimal, and the median time until they are; in brackets 95 % intervals:"
    rows = []
    for one in found["groups"]:
        share = one["share_optimal"]
        rows.append(
            (
                named(found, one["label"], one["environment"]),
                f"{'–' if one['optimal'] is None else one['optimal']} of {len(one['runs'])}",
                "–" if share is None else interval(share, percentage),
                time(one["updates_to_optimum"], 0),
                time(one["seconds_to_optimum"], 2),
            )
        )
    return GroupTable(title, (", ".join(found["by"]), "seeds optimal", "share", "updates", "seconds"), rows)


def scores_table(found: Mapping[str, Any]) -> GroupTable:
    """List the aggregates of the scores of each group."""
    rows = [
        (named(found, one["label"], one["environment"]), *(interval(one["score"][name]) for name in AGGREGATES))
        for one in found["groups"]
    ]
    return GroupTable(f"The {SCORES[found['score']]}:", (", ".join(found["by"]), *AGGREGATES.values()), rows)


def overall_table(found: Mapping[str, Any]) -> GroupTable:
    """List the aggregates over all environments."""
    rows = [(label, *(interval(scores[name]) for name in AGGREGATES)) for label, scores in found["overall"].items()]
    return GroupTable("The same over all environments:", ("", *AGGREGATES.values()), rows)


def pairs_table(found: Mapping[str, Any]) -> GroupTable:
    """List the best group beside each other one."""
    rows = []
    for pair in found["pairs"]:
        needed = pair["seeds_to_tell"]
        rows.append(
            (
                named(found, f"{pair['best']} against {pair['other']}", pair["environment"]),
                p_value(pair["p_adjusted"]),
                p_value(pair["time_p_adjusted"]),
                p_value(pair["score_p_adjusted"]),
                interval(pair["probability_of_improvement"], percentage),
                "–" if needed is None else f"{needed:,} each",
            )
        )
    title = "The best beside the others; each p is multiplied by the number of all pairs:"
    names = ("pair", "p, seeds optimal", "p, time", "p, score", "probability of a higher score", "seeds to tell")
    return GroupTable(title, names, rows)


def named(found: Mapping[str, Any], label: str, environment: str) -> str:
    """Name a group, with its environment if there are several."""
    several = len({one["environment"] for one in found["groups"]}) > 1
    return f"{label} on {environment}" if several and label != environment else label


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
    """Format a share or a probability; one that is not certain never looks so."""
    if 0 < value < 0.01 or 0.99 < value < 1:
        return f"{100 * value:.{-math.floor(math.log10(100 * min(value, 1 - value)))}f} %"
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


def p_value(p: float | None) -> str:
    """Format a p-value."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
