"""Of one update on paper, the steps about weights: which change, what that is in a Q table, and by another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deeptaxi.presentation.numbers import factor, plain, short

INDENT = (0, 0, 0, 3)
NAMED_ROWS = 5
Summary = Mapping[str, Any]
Lines = list[RenderableType]


def line(text: str, style: str = "") -> Padding:
    """Return a line of text, set in."""
    return indented(Text(text, style=style))


def indented(part: RenderableType) -> Padding:
    """Return it below a heading, set in."""
    return Padding(part, INDENT, expand=False)


def table(names: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> Padding:
    """Return a table; the first `left` columns are set to the left."""
    found = Table(box=None, padding=(0, 2, 0, 0))
    for index, name in enumerate(names):
        found.add_column(name, justify="left" if index < left else "right", header_style="dim", no_wrap=index == 0)
    for row in rows:
        found.add_row(*row)
    return indented(found)


def changed(summary: Summary) -> Lines:
    """List the weights, how much of each changed, and by how much."""
    rows = [
        (
            weight["name"],
            " × ".join(map(str, weight["shape"])),
            which(weight["rows"], weight["shape"][0]),
            f"{weight['entries']:,}",
            short(weight["largest"]),
        )
        for weight in summary["weights"]
    ]
    lines: Lines = [table(("weight", "shape", "rows that change", "entries", "largest change"), rows, left=3)]
    optimizer = summary["optimizer"]
    if optimizer.get("clip_norm") is not None:
        norm, limit = plain(summary["gradient_norm"]), optimizer["clip_norm"]
        lines.append(line(f"The whole gradient has norm {norm}; where that is above {limit:g}, it is scaled down."))
    if optimizer["name"] == "adam":
        rate = f"{summary['learning_rate']:g}"
        lines.append(line(f"A fresh Adam moves each weight by about the learning rate, {rate}, whatever its gradient."))
    return lines


def which(rows: Sequence[int], count: int) -> str:
    """Say how many rows they are, and name them where they are few of many."""
    named = f": {', '.join(map(str, rows))}" if 0 < len(rows) <= NAMED_ROWS and len(rows) < count else ""
    return f"{len(rows)} of {count}{named}" if rows else "none"


def tabular(summary: Summary) -> Lines:
    """Set the tabular rule beside the step that was made."""
    found, count, batch = summary["tabular"], len(summary["q_online"]), summary["batch_size"]
    entry, rate = f"Q[{summary['state']}, {summary['action']}]", summary["learning_rate"]
    before, error, made = plain(found["before"]), factor(found["td_error"]), plain(found["after"])
    alpha = f"α = 2·lr/(A·B) = 2·{rate:g}/({count}·{batch}) = {plain(2 * rate / (count * batch))}"
    if found["alpha"] is None:
        optimizer = summary["optimizer"]["name"]
        return [
            line(f"{entry} += α · td_error,  {alpha}", "dim"),
            line(f"holds for plain SGD on mse. Here {optimizer} moved {entry} from {before} to {made}."),
            line("See it with --optimizer sgd, or --optimizer sgd --tabular-step α.", "dim"),
        ]
    return [
        line(f"{entry} += α · td_error,  {alpha}", "dim"),
        line(f"{before} + {plain(found['alpha'])} · {error} = {plain(found['expected'])}"),
        line(f"The network's weight is {made} now: the difference is {tiny(found['difference'])}."),
    ]


def tiny(value: float) -> str:
    """Return what should be zero, as zero where it is."""
    return f"{value:.1e}" if value else "0"


def compared(summary: Summary) -> Lines:
    """Set the overwrite recipe beside the masked gradient."""
    found = summary["comparison"]
    rows = [
        (weight["name"], tiny(weight["gradient_difference"]), tiny(weight["weight_difference"]))
        for weight in found["weights"]
    ]
    totals = ("largest", tiny(found["gradient_difference"]), tiny(found["weight_difference"]))
    sizes = ("beside values up to", short(found["largest_gradient"]), short(found["largest_step"]))
    losses = f"E = {plain(found['overwrite_loss'])} and {plain(found['masked_loss'])}"
    return [
        line("recipe: the loss of all A outputs against the overwritten targets", "dim"),
        line("masked: the loss of q_online(s)[a] against td_target alone, at the same scale", "dim"),
        line(f"{losses}; differences of gradients, and of weights after the step:"),
        table(("weight", "gradients", "weights"), [*rows, totals, sizes]),
    ]
