"""A list of agents for people: as many columns as the screen has room for, the verdict first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.table import Table

from deeptaxi.artifacts.card_words import describe_environment
from deeptaxi.presentation.console import columns, number

NAMES = ("Agent", "Environment", "Network", "Optimal", "Return", "Best", "States", "Preset", "Made", "Size")
FIRST = ("Agent", "Optimal", "Return", "Best", "Environment", "Network", "States", "Size", "Preset", "Made")
SPACE = 2  # between two columns
VERDICT = 41  # letters that the columns from Optimal to Best take at most, so long as numbers are of usual size
SHORTEST = 20  # letters of a name before it is broken for their sake
WATCHES = "Best may take a policy that watches the clock; an agent is optimal by its discounted value."


def agents_table(rows: Sequence[Mapping[str, Any]], width: int) -> Table:
    """Return the list of `artifacts.zoo.agents` for a screen of `width` letters."""
    cells = [agent_cells(row) for row in rows]
    shown = fitting(cells, width)
    table = columns(None, tuple(shown), [tuple(row[name] for name in shown) for row in cells])
    table.columns[0].no_wrap = False
    for column in table.columns[1:]:
        column.no_wrap = True
        column.justify = "right" if column.header in ("Return", "Best", "Size") else "left"
    if any(row["optimal"] and row["exact"]["gap"] > 0 for row in rows):
        table.caption, table.caption_justify = WATCHES, "left"
    return table


def fitting(cells: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """Return the columns that fit a screen, in the order in which they stand; the most telling have the first say."""
    shown: set[str] = set()
    room = width
    for name in FIRST:
        needed = max(cell_len(text) for text in (name, *(row[name] for row in cells))) + SPACE
        if name == FIRST[0]:
            needed = min(needed, max(width - VERDICT, SHORTEST))
        if needed <= room or name == FIRST[0]:
            shown.add(name)
            room -= needed
    return [name for name in NAMES if name in shown]


def agent_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Return one line of the list; a dash for what is not known."""
    place, exact = row["environment"], row["exact"] or {}
    states, actions = place["states"], place["actions"]
    return {
        "Agent": row["name"],
        "Environment": describe_environment(place),
        "Network": row["network"]["kind"] if row["network"] else "–",
        "Optimal": optimal(row),
        "Return": number(exact.get("return")),
        "Best": number(exact.get("optimal_return")),
        "States": f"{states:,} × {actions:,}" if states else "–",
        "Preset": row["preset"] or "–",
        "Made": (row["made"] or "–").partition("T")[0],
        "Size": f"{row['bytes'] / 1000:,.0f} KB",
    }


def optimal(row: Mapping[str, Any]) -> str:
    """Return whether an agent is optimal, and in how many of its start states."""
    if row["exact"] is None:
        return "–"
    exact = row["exact"]
    word = {True: "yes", False: "no", None: "unknown"}[exact["optimal"]]
    return f"{word}, {exact['optimal_start_states']:,} of {exact['start_states']:,}"
