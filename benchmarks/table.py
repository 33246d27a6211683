"""Write what was measured: ``results.json`` with every row, ``RESULTS.md`` with one table a part."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import goals

GOAL = 2.5  # times the limit
Row = dict[str, Any]
HOW = {
    "a": "## a. Updates a second at equal work",
    "b": "## b. Time to the exact optimum of Taxi-v4",
    "p": "### Whole processes",
    "c": "## c. How well presets do",
    "u": "### Tables that nobody tuned for",
    "d": "## d. Cost against size",
    "e": "## e. Distance to the machine's limit",
}
WHAT = {
    "a": "Taxi-v4, minibatch 128, hidden layer of 64 with a dueling head, 16 environments and one step of each an "
    "update, Polyak 0.01 at each update, γ 0.97, replay 500,000, unless the row says otherwise. Steady state, after "
    "compilation. The first columns are by CPU seconds, the last by the wall clock.",
    "b": "Until the greedy policy plays all 300 start states optimally, as `deeptaxi.evaluation.exact` tells, "
    "checks included. *Training* leaves out compilation, *with compilation* has it (from a warm cache for deeptaxi, "
    "which keeps programs). deeptaxi stops only at the third optimal evaluation in a row, the others at their first; "
    "*first optimal* is deeptaxi's first. The times are of the seeds that got there.",
    "p": "From the start of Python to its end, programs in the cache; in turn.",
    "c": "*Within 0.002* counts the trainings whose value falls short of the optimum by at most "
    "0.002 · (1 + |optimum|). Training seconds are of the wall clock.",
    "u": "Families of problems that no preset is for; settings come from the table's numbers. A score of 1 is the "
    "optimum, 0 is random play.",
    "d": "deeptaxi, dueling, Adam row-sparse by default, a hard copy of the target every 1,000 updates, on random "
    "tables (5 % of the outcomes end an episode); no evaluation. One factor at a time differs from S = 500, A = 6, "
    "K = 1, B = 128, H = 64. Where the kernel is small (H = 32) or the minibatch holds S (B = 512) the step is dense.",
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
    """Return ``median (least to greatest)``; the one value alone, a dash where there is nothing."""
    if len(values) < 2:
        return format(values[0], form) if values else "–"
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
    head = ["peer", "updates/s", "environment steps/s", "µs an update", "updates/s of the wall", "settings"]
    found = []
    for name, group in by_name(rows).items():
        each = values(group, "updates_per_cpu_second")
        cells = failure(group, 4) or [
            spread(each, ",.0f"),
            f"{statistics.median(values(group, 'steps_per_cpu_second')):,.0f}",
            f"{1e6 / statistics.median(each):,.1f}",
            f"{statistics.median(values(group, 'updates_per_wall_second')):,.0f}",
        ]
        found.append([name, *cells, group[0].get("settings", "")])
    return markdown(head, found)


def optima(rows: Sequence[Row]) -> str:
    """Part b."""
    head = ["peer", "seeds optimal", "training, s", "first optimal, s", "with compilation, s", "updates", "settings"]
    found = []
    for name, group in by_name(rows).items():
        there = [row for row in group if row.get("optimal")]
        cells = failure(group, 5) or [
            f"{len(there)} of {len(group)}",
            spread(values(there, "train_seconds"), ".2f"),
            spread(values(there, "first_optimal_seconds"), ".2f"),
            spread(values(there, "cpu_seconds"), ".1f"),
            spread(values(there, "updates"), ",.0f"),
        ]
        found.append([name, *cells, group[0].get("settings", "")])
    return markdown(head, found)


def processes(rows: Sequence[Row]) -> str:
    """Part b: whole processes."""
    found = []
    for name, group in by_name(rows).items():
        keys = ("process_cpu_seconds", "process_wall_seconds")
        cells = failure(group, 2) or [spread(values(group, key), ".1f") for key in keys]
        found.append([f"`{name}`", *cells])
    return markdown(["command", "CPU seconds", "seconds of the wall"], found)


def presets(rows: Sequence[Row]) -> str:
    """Part c."""
    head = ["", "seeds", "optimal", "within 0.002", "score ≥ 0.99", "updates, median", "training, s, median"]
    found, whole = [], [row for row in rows if "failed" not in row]
    for row in rows:
        counts = [row.get(key) for key in ("seeds", "optimal", "near", "good")]
        cells = failure([row], 6) or [*counts, f"{row['updates']:,.0f}", f"{row['seconds']:.2f}"]
        found.append([row["name"], *cells])
    good, count = sum(row["good"] for row in whole), sum(row["seeds"] for row in whole)
    return f"{markdown(head, found)}\n\nA score of 0.99 or more: {good} of {count} trainings."


def sizes(rows: Sequence[Row]) -> str:
    """Part d."""
    by_case: dict[str, dict[str, list[Row]]] = {}
    for name, group in by_name(rows).items():
        backend, case = name.split(" ", 2)[1:]
        by_case.setdefault(case, {})[backend] = group
    found = []
    for case, backends in by_case.items():
        found.append([case, *(cell for name in ("TF", "JAX") for cell in size_cells(backends.get(name, []), rows))])
    heads = (f"{name}, {what}" for name in ("TF", "JAX") for what in ("µs an update", "over S = 500", "opening, s"))
    return markdown(["case", *heads], found)


def size_cells(group: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """Return microseconds, their ratio to the smallest case, and the seconds that opening the table takes."""
    if not group or failure(group, 1):
        return [str(group[0]["failed"]) if group else "–", "", ""]
    backend = group[0]["name"].split(" ")[1]
    micros = statistics.median(1e6 / rate for rate in values(group, "updates_per_cpu_second"))
    usual = [1e6 / row["updates_per_cpu_second"] for row in rows if row["name"] == f"deeptaxi {backend} S = 500"]
    opening = statistics.median(values(group, "opening_seconds"))
    return [f"{micros:,.1f}", f"{micros / statistics.median(usual):.2f}" if usual else "–", f"{opening:.1f}"]


def limits(rows: Sequence[Row]) -> str:
    """Part e."""
    head = ["update", "operations", "bytes", "arithmetic, µs", "memory, µs", "limit, µs", "limit at these shapes, µs"]
    head += ["by", "measured, µs", "over the limit, goal ≤ 2.5", "over that of these shapes"]
    found = []
    for row in rows:
        if "failed" in row:
            found.append([row["name"], row["failed"], *[""] * 9])
            continue
        numbers = [f"{row[key]:,.0f}" for key in ("operations", "bytes")]
        numbers += [f"{row[key]:.1f}" for key in ("arithmetic_us", "memory_us", "limit_us", "limit_of_shapes_us")]
        last = ["", "–", "–", "–"]
        if micros := row.get("measured_us"):
            far = [micros / row[key] for key in ("limit_us", "limit_of_shapes_us")]
            last = [
                row["by"],
                f"{micros:.1f}",
                *(f"{times:.1f} {'yes' if times <= GOAL else '**no**'}" for times in far),
            ]
        found.append([row["name"], *numbers, *last])
    return markdown(head, found)


WRITERS: dict[str, Callable[[Sequence[Row]], str]] = {
    "a": rates, "b": optima, "p": processes, "c": presets, "u": presets, "d": sizes, "e": limits,
}  # fmt: skip
HOW_MEASURED = (
    "Each measurement is a fresh process pinned to one core, the peers take turns, and figures are the median (and the "
    "range) over repeats or seeds; only deeptaxi's sizes in part d share a process. Seconds are CPU seconds of the "
    "process unless the table says otherwise: on one core they are what the work costs, and what else runs on the "
    "machine does not count. The measurements had between {least:.0%} and "
    "{most:.0%} of the core; well below 100 % the caches were shared too, and the figures are pessimistic."
)


def summary(rows: Sequence[Row]) -> str:
    """Return the table of goals."""
    found = [goals.cells(row) for row in goals.ratios(rows)]
    if not found:
        return ""
    return "## Goals\n\n" + markdown(["ratio", "measured", "range over repeats", "goal", "reached"], found)


def document(result: dict[str, Any]) -> str:
    """Return the whole of ``RESULTS.md``."""
    machine = "\n".join(f"- {key}: {value}" for key, value in result["machine"].items())
    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    parts = [f"# Results\n\nMeasured by `python -m benchmarks` on {result['date']}.\n\n{machine}\n- {packages}"]
    shares = values(result["rows"], "cpu_share") or [1.0]
    parts.append(HOW_MEASURED.format(least=min(shares), most=max(shares)))
    parts += [result[key] for key in ("note",) if result.get(key)]
    parts += [summary(result["rows"])]
    if result["skipped"]:
        parts.append(f"Not installed, so left out: {', '.join(result['skipped'])}.")
    for part, title in HOW.items():
        rows = [row for row in result["rows"] if row["part"] == part]
        if rows:
            parts.append(f"{title}\n\n{WHAT[part]}\n\n{WRITERS[part](rows)}")
    if result.get("minutes"):
        taken = ", ".join(f"{part} {minutes:.1f}" for part, minutes in sorted(result["minutes"].items()))
        parts.append(f"Minutes that the parts took: {taken}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def write(result: dict[str, Any], folder: Path) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text(document(result), encoding="utf-8")
