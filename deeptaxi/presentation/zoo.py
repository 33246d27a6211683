"""A list of agents for people: as many columns as the screen has room for, the verdict first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from deeptaxi.artifacts.model_card import describe_environment
from deeptaxi.errors import printable
from deeptaxi.presentation.console import number

NAMES = ("Agent", "Environment", "Network", "Optimal", "Return", "Best", "States", "Preset", "Made", "Size")
FIRST = ("Agent", "Optimal", "Return", "Best", "Environment", "Network", "States", "Size", "Preset", "Made")
RIGHT = ("Return", "Best", "Size")  # set to the right
SPACE = 2  # between two columns
VERDICT = 41  # letters that the columns from Optimal to Best take at most, so long as numbers are of usual size
SHORTEST = 20  # letters of a name before it is broken for their sake
WATCHES = "Best may take a policy that watches the clock; an agent is optimal by its discounted value."


def agents_table(rows: Sequence[Mapping[str, Any]], width: int) -> RenderableType:
    """Return the list of `artifacts.zoo.agents` for a screen of `width` letters."""
    cells = [agent_cells(row) for row in rows]
    table = Columns(cells, fitting(cells, width), width)
    if any(row["optimal"] and row["exact"]["gap"] > 0 for row in rows):
        return Group(table, Text(WATCHES, "table.caption"))
    return table


@dataclass(frozen=True)
class Columns:
    """Lines of cells under their names; the first column breaks where it is too wide.

    Rich's own table lays every cell out by itself: of 20,000 agents, that takes four times as long as to read them.

    Attributes:
        cells: of each line, by the names of the columns.
        names: the columns that are shown.
        width: letters of the screen.
    """

    cells: Sequence[Mapping[str, str]]
    names: Sequence[str]
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield the lines."""
        first, *others = self.names
        sizes = {name: max(cell_len(text) for text in (name, *(row[name] for row in self.cells))) for name in others}
        room = max(self.width - sum(size + SPACE for size in sizes.values()) - SPACE, 1)
        longest = max(cell_len(text) for text in (first, *(row[first] for row in self.cells)))
        sizes = {first: min(longest, room), **sizes}
        header = console.get_style("table.header") + console.get_style("dim")
        yield from self.lines({name: name for name in self.names}, sizes, header)
        for row in self.cells:
            yield from self.lines(row, sizes)

    def lines(self, row: Mapping[str, str], sizes: Mapping[str, int], style: Style | None = None) -> Iterator[Segment]:
        """Yield one line, and what is left of its first cell."""
        first, *others = self.names
        begin, *rest = chop_cells(row[first], sizes[first]) or [""]
        aligned = [set_cell_size(begin, sizes[first])]
        for name in others:
            space = " " * (sizes[name] - cell_len(row[name]))
            aligned.append(space + row[name] if name in RIGHT else row[name] + space)
        for text in ((" " * SPACE).join(aligned), *rest):
            yield Segment(text.rstrip(), style)
            yield Segment.line()


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
    cells = {
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
    return {name: " ".join(printable(text).split()) for name, text in cells.items()}  # a cell is one line


def optimal(row: Mapping[str, Any]) -> str:
    """Return whether an agent is optimal, and in how many of its start states."""
    if row["exact"] is None:
        return "–"
    exact = row["exact"]
    word = {True: "yes", False: "no", None: "unknown"}[exact["optimal"]]
    return f"{word}, {exact['optimal_start_states']:,} of {exact['start_states']:,}"
