"""The gradient check of a dueling head, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deeptaxi.presentation.explained_weights import tiny
from deeptaxi.presentation.numbers import factor, plain, short

FORMS = {
    "mean": ("mean(A)", "dE/dA_i = g_i − (1/N)·Σ_j g_j"),
    "max": ("max(A)", "dE/dA_i = g_i − [i is the best action]·Σ_j g_j"),
    "none": ("nothing", "dE/dA_i = g_i"),
}
WAYS = {"nested": "nested sum", "shared": "shared sum", "autodiff": "autodiff", "central_differences": "differences"}
SHOWN = 12


def explanation(summary: Mapping[str, Any]) -> RenderableType:
    """Return the table of all ways, how far they are apart, and what to read off it."""
    count, (taken_off, form) = summary["actions"], FORMS[summary["aggregation"]]
    total = summary["dE_dV"]["nested"]
    lines: list[RenderableType] = [
        Text(f"The gradient of a dueling head, N = {count} actions", style="bold"),
        Text(f"Q = V + A − {taken_off};  g = dE/dQ is what the loss sends in\n", style="dim"),
        Text(f"  dE/dV   = Σ_j g_j = {plain(total)}      V is one neuron: it gets one number"),
        Text(f"  {form}{example(summary, total)}\n"),
        table(summary),
    ]
    if count > SHOWN:
        lines.append(Text(f"{count - SHOWN} more actions: --json has all", style="dim"))
    return Group(*lines, Text(), verdict(summary))


def example(summary: Mapping[str, Any], total: float) -> str:
    """Return the shared sum with the numbers of the first action; nothing for another aggregation than the mean."""
    if summary["aggregation"] != "mean":
        return ""
    first, count = summary["dE_dQ"][0], summary["actions"]
    return f"   e.g. {plain(first)} − {factor(total)}/{count} = {plain(summary['dE_dA']['shared'][0])} for i = 0"


def table(summary: Mapping[str, Any]) -> Table:
    """Return a row a number of dE/dA, and one for dE/dV, with a column a way."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    shown.add_column("", style="dim", no_wrap=True)
    for name in ("dE/dQ", *WAYS.values()):
        shown.add_column(name, justify="right", header_style="dim", no_wrap=True)
    for index, g in enumerate(summary["dE_dQ"][:SHOWN]):
        ways = (summary["dE_dA"][way] for way in WAYS)
        shown.add_row(f"dE/dA_{index}", short(g), *(short(values and values[index]) for values in ways))
    total = summary["dE_dV"]
    shared = total["nested"] if summary["aggregation"] == "mean" else None  # the sum that is shared
    shown.add_row("dE/dV", "", *(short({**total, "shared": shared}[way]) for way in WAYS))
    return shown


def verdict(summary: Mapping[str, Any]) -> Text:
    """Say how far the ways are apart."""
    found = summary["discrepancy"]
    parts = [f"{WAYS[way]} {tiny(found[way])}" for way in WAYS if found.get(way) is not None]
    style = "green" if found["largest"] <= summary["limit"] else "red"
    text = Text(f"Largest discrepancy {tiny(found['largest'])} (allowed: {summary['limit']:g})", style=style)
    text.append(f"\nfrom the nested sum: {', '.join(parts)}", style="dim")
    if summary["vectors"]:
        text.append(f"\nWrote {summary['vectors']}", style="default")
    return text
