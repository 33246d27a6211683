"""Write what was measured: ``results.json`` with every row, ``RESULTS.md`` with one table a part."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
HOW = {
    "a": "## a. Updates a second at equal work",
    "b": "## b. Time to the exact optimum of Taxi-v4",
    "c": "## c. Seeds that each preset makes exactly optimal",
    "d": "## d. Cost against size",
    "e": "## e. Distance to the machine's limit",
}
WHAT = {
    "a": "Taxi-v4, minibatch 128, hidden layer of 64 with a dueling head, 16 environment steps an update, Adam, Polyak "
    "0.01 at each update, γ 0.97, replay 500,000, unless the row says otherwise. Steady state, after compilation.",
    "b": "Until the greedy policy plays all 300 start states optimally, as `deeptaxi.evaluation.exact` judges it. "
    "Compilation and checks are included for everybody; the second time adds the start of Python and imports. The "
    "times are of the seeds that got there.",
    "c": "`deeptaxi train … --json`, as a user would run it; wall-clock seconds.",
    "d": "deeptaxi, dueling, Adam as row-sparse as it is by default, on random tables; one factor at a time differs "
    "from S = 500, A = 6, B = 128, H = 64, K = 1.",
    "e": "`benchmarks/limits.py` has the formula. The limit takes the rate of a large float32 product, the second "
    "limit that of products of the shapes used here; both take the bandwidth at the size of the state.",
}


def line(cells: Iterable[Any]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def markdown(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    return "\n".join([line(head), line("---" for _ in head), *(line(row) for row in rows)])


def spread(values: Sequence[float], form: str) -> str:
    """Return ``median (least to greatest)``; a dash where there is nothing."""
    if not values:
        return "–"
    low, middle, high = (format(value, form) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def by_name(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Group rows by their name, in the order of the first of each."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["name"], []).append(row)
    return groups


def failure(group: Sequence[Row], width: int) -> list[Any] | None:
    """Return the cells of a peer that failed whenever it was run."""
    broken = [row["failed"] for row in group if "failed" in row]
    return [f"failed: {broken[0]}", *[""] * (width - 1)] if len(broken) == len(group) else None


def values(group: Sequence[Row], key: str) -> list[float]:
    """Return what the rows that have it hold under `key`."""
    return [row[key] for row in group if row.get(key) is not None]


def rates(rows: Sequence[Row]) -> str:
    """Part a."""
    head = ["peer", "updates/s", "environment steps/s", "µs an update", "share of the core", "settings"]
    found = []
    for name, group in by_name(rows).items():
        each = values(group, "updates_per_cpu_second")
        cells = failure(group, 4) or [
            spread(each, ",.0f"),
            f"{statistics.median(values(group, 'steps_per_cpu_second')):,.0f}",
            f"{1e6 / statistics.median(each):,.1f}",
            f"{min(values(group, 'cpu_share')):.2f}",
        ]
        found.append([name, *cells, group[0].get("settings", "")])
    return markdown(head, found)


def optima(rows: Sequence[Row]) -> str:
    """Part b."""
    head = ["peer", "seeds optimal", "seconds", "with start and imports", "updates", "share of the core", "settings"]
    found = []
    for name, group in by_name(rows).items():
        there = [row for row in group if row.get("optimal")]
        cells = failure(group, 5) or [
            f"{len(there)} of {len(group)}",
            spread(values(there, "cpu_seconds"), ".2f"),
            spread(values(there, "process_cpu_seconds"), ".1f"),
            spread(values(there, "updates"), ",.0f"),
            f"{min(values(group, 'cpu_share')):.2f}",
        ]
        found.append([name, *cells, group[0].get("settings", "")])
    return markdown(head, found)


def presets(rows: Sequence[Row]) -> str:
    """Part c."""
    head = ["preset", "seeds optimal", "updates", "training, s", "whole process, s"]
    found = []
    for name, group in by_name(rows).items():
        cells = failure(group, 4) or [
            f"{sum(bool(row.get('optimal')) for row in group)} of {len(group)}",
            spread(values(group, "updates"), ",.0f"),
            spread(values(group, "train_seconds"), ".1f"),
            spread(values(group, "process_seconds"), ".1f"),
        ]
        found.append([f"`{name}`", *cells])
    return markdown(head, found)


def sizes(rows: Sequence[Row]) -> str:
    """Part d."""
    found = []
    for name, group in by_name(rows).items():
        micros = [1e6 / rate for rate in values(group, "updates_per_cpu_second")]
        found.append([name, *(failure(group, 1) or [spread(micros, ",.1f")])])
    return markdown(["case", "µs an update"], found)


def limits(rows: Sequence[Row]) -> str:
    """Part e."""
    head = [
        "update",
        "operations",
        "bytes",
        "arithmetic, µs",
        "memory, µs",
        "limit, µs",
        "limit at these shapes, µs",
        "measured, µs",
        "measured / limit",
        "by",
    ]
    found = []
    for row in rows:
        if "failed" in row:
            found.append([row["name"], row["failed"], *[""] * 8])
            continue
        numbers = [f"{row[key]:,.0f}" for key in ("operations", "bytes")]
        keys = ("arithmetic_us", "memory_us", "limit_us", "limit_of_shapes_us")
        micros = row.get("measured_us")
        last = [f"{micros:.1f}", f"{micros / row['limit_us']:.1f}"] if micros else ["–", "–"]
        found.append([row["name"], *numbers, *(f"{row[key]:.1f}" for key in keys), *last, row.get("by", "")])
    return markdown(head, found)


WRITERS: dict[str, Callable[[Sequence[Row]], str]] = {
    "a": rates, "b": optima, "c": presets, "d": sizes, "e": limits,
}  # fmt: skip


def document(result: dict[str, Any]) -> str:
    """Return the whole of ``RESULTS.md``."""
    machine = "\n".join(f"- {key}: {value}" for key, value in result["machine"].items())
    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    parts = [f"# Results\n\nMeasured by `python -m benchmarks` on {result['date']}.\n\n{machine}\n- {packages}"]
    parts.append(
        "Each measurement is a fresh process pinned to one core, the peers take turns, and figures are the median "
        "(and the range) over repeats or seeds. Seconds are CPU seconds of the process, so that what else ran on the "
        "core does not count; the *share of the core* is the least that any measurement got, and where it is well "
        "below 1 the caches were shared too, and the figures are pessimistic."
    )
    if result.get("note"):
        parts.append(result["note"])
    if result["skipped"]:
        parts.append(f"Not installed, so left out: {', '.join(result['skipped'])}.")
    for part, title in HOW.items():
        rows = [row for row in result["rows"] if row["part"] == part]
        if rows:
            parts.append(f"{title}\n\n{WHAT[part]}\n\n{WRITERS[part](rows)}")
    return "\n\n".join(parts) + "\n"


def write(result: dict[str, Any], folder: Path) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text(document(result), encoding="utf-8")
