"""Numbers of every action, a column each, as `explain` shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deeptaxi.presentation.explained_weights import Summary, indented
from deeptaxi.presentation.numbers import short

SHOWN = 6  # actions that fit in 80 columns


@dataclass(frozen=True)
class Actions:
    """Which actions have a column: the one taken, those that matter for the target, and the first of the others."""

    names: Sequence[str]
    taken: int
    shown: list[int]

    def table(self, rows: Mapping[str, Sequence[float] | None], next_action: int | None = None) -> Padding:
        """Return the rows that are not None, a column an action; those of a next state mark `next_action`."""
        marked = self.taken if next_action is None else next_action
        table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False)
        table.add_column("action", style="dim", header_style="dim", no_wrap=True, width=12)
        for action in self.shown:
            mark, style = ("▸ ", "bold") if action == marked else ("", "")
            name = "" if self.names[action] == f"action {action}" else f"\n{cut(self.names[action])}"
            header = Text(f"{mark}{action}{name}", style=style or "dim")
            table.add_column(header, justify="right", style=style, no_wrap=True, width=9)
        for label, values in rows.items():
            if values is not None:
                table.add_row(label, *(short(values[action]) for action in self.shown))
        return indented(table)


def cut(name: str) -> str:
    """Return a name in at most nine characters."""
    return name if len(name) <= 9 else name[:8] + "…"


def actions_of(summary: Summary) -> Actions:
    """Choose the actions to show."""
    count, target = len(summary["q_online"]), summary["td_target"]
    first = [summary["action"]] + [target["best_action"]] * (target["best_action"] is not None)
    order = list(dict.fromkeys([*first, *range(count)]))
    return Actions(summary["action_names"], summary["action"], sorted(order[:SHOWN]))
