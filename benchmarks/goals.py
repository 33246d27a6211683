"""The ratios that matter, each beside its goal. A ratio is `ours` over `theirs`, or the other way round for seconds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """One ratio of two rows of a part: what stands above the line, what below it, and the goal."""

    part: str
    over: str
    under: str
    goal: float
    key: str
    least: bool  # whether the goal is the least that the ratio may be; else it is the most
    fraction: bool = False  # whether it is shown as 1/n


def rate(over: str, under: str, goal: float) -> Goal:
    """Return a goal of part a."""
    return Goal("a", over, under, goal, "updates_per_cpu_second", least=True)


def seconds(over: str, under: str, goal: float) -> Goal:
    """Return a goal of part b."""
    return Goal("b", over, under, goal, "train_seconds", least=False, fraction=True)


def goals() -> list[Goal]:
    """Return all goals."""
    found = []
    for backend, over_sb3, over_scan in (("TF", 30.0, 0.9), ("JAX", 45.0, 1.0)):
        dense, sparse = (f"deeptaxi {backend} dueling, {kind} Adam" for kind in ("dense", "row-sparse"))
        found += [
            rate(sparse, "SB3 DQN [64]", over_sb3),
            rate(sparse, "rejax DQN, memory 500,000", 10),
            rate(sparse, "rejax DQN, memory 1,008", 10),
            rate(dense, "plain JAX scan, dueling, dense Adam", over_scan),
            rate(sparse, dense, 1.3),
            rate(f"deeptaxi {backend} Q table, SGD", "SB3 DQN linear", 250),
        ]
    for backend in ("TF", "JAX"):
        found.append(seconds(f"deeptaxi {backend} dueling", "SB3 DQN [64]", 1 / 30))
        found.append(seconds(f"deeptaxi {backend} Q table", "SB3 DQN [64]", 1 / 150))
    whole = 'python -c "import keras"'
    found.append(Goal("p", "deeptaxi train Taxi-v4", whole, 1.5, "process_cpu_seconds", least=False))
    return found


def ratios(rows: Iterable[Row]) -> list[Row]:
    """Return the goals whose rows were measured: the ratio of medians, and the range over repeats."""
    rows = list(rows)
    return [row for goal in goals() if (row := ratio(goal, rows)) is not None]


def ratio(goal: Goal, rows: Sequence[Row]) -> Row | None:
    """Return one goal beside what was measured; None where one side is missing."""
    over, under = (
        {row["seed"]: row[goal.key] for row in rows if row["part"] == goal.part and row["name"] == name and usable(row)}
        for name in (goal.over, goal.under)
    )
    if not over or not under:
        return None
    value = statistics.median(over.values()) / statistics.median(under.values())
    each = [over[seed] / under[seed] for seed in over if seed in under] or [value]
    return {
        "part": goal.part,
        "name": f"{goal.over} / {goal.under}",
        "ratio": value,
        "least": min(each),
        "most": max(each),
        "goal": goal.goal,
        "fraction": goal.fraction,
        "at_least": goal.least,
        "met": value >= goal.goal if goal.least else value <= goal.goal,
    }


def usable(row: Row) -> bool:
    """Whether a row counts: it did not fail and, if it was to reach the optimum, it did."""
    return "failed" not in row and row.get("optimal", True)


def cells(row: Row) -> list[str]:
    """Return a ratio as the cells of a table."""

    def written(value: float) -> str:
        if row["fraction"]:
            return f"1/{1 / value:,.0f}"
        return f"{value:,.0f}" if value >= 20 else f"{value:.2f}"

    name = row["name"].replace(" / ", " over ")
    goal = written(row["goal"]) if row["fraction"] else format(row["goal"], "g")
    sign = "≥" if row["at_least"] else "≤"
    spread = f"{written(row['least'])} to {written(row['most'])}" if row["most"] > row["least"] else ""
    return [name, written(row["ratio"]), spread, f"{sign} {goal}", "yes" if row["met"] else "**no**"]
