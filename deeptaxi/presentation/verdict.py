"""Verdicts for people: the same numbers as the JSON, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from deeptaxi.presentation.console import columns, facts, number


def verdict_table(
    title: str, exact: Mapping[str, Any] | None, unavailable: str | None, episodes: Mapping[str, Any] | None = None
) -> Table:
    """Return the exact verdict, or why there is none, and the sampled one."""
    return facts(title, {**exact_rows(exact, unavailable), **(episode_rows(episodes) if episodes else {})})


def exact_rows(exact: Mapping[str, Any] | None, unavailable: str | None) -> dict[str, str | Text]:
    """Return the exact verdict, or why there is none."""
    return verdict_rows(exact) if exact else {"Exact verdict": Text(f"none: {unavailable}", style="yellow")}


def verdict_rows(exact: Mapping[str, Any]) -> dict[str, str | Text]:
    """Return the exact verdict, row by row."""
    played, all_starts, worst = exact["optimal_start_states"], exact["start_states"], exact["worst_start"]
    optimal = Text(f"yes: {played} of {all_starts} start states are played optimally", style="green")
    if not exact["optimal"]:
        lost = f"the worst, state {worst['state']}, loses {number(worst['value_gap'])}"
        optimal = Text(f"no: {played} of {all_starts} start states; {lost}", style="yellow")
    rows: dict[str, str | Text] = {
        "Optimal": optimal,
        "Return": f"{number(exact['return'])} of {number(exact['optimal_return'])} at best"
        f" in {exact['horizon']:,} steps (gap {number(exact['gap'])})",
        "Value": f"{number(exact['value'])} of {number(exact['optimal_value'])} at discount {exact['discount']}"
        f" (gap {number(exact['value_gap'])})",
        "Normalised score": f"{number(exact['normalised_score'])} (random policy 0, optimum 1)",
        "Episodes end": f"with probability {number(exact['termination_probability'])},"
        f" after {number(exact['mean_episode_length'], 2)} steps on average",
    }
    if exact["q_error"]:
        error = exact["q_error"]
        rows["Q error"] = (
            f"max {number(error['max'])}, mean {number(error['mean'])}, bias {number(error['bias'])}"
            f" against Q* at discount {error['discount']}"
        )
    if exact.get("starts_estimated_from_resets"):
        rows["Start states"] = f"estimated from {exact['starts_estimated_from_resets']:,} resets"
    return rows


def episode_rows(episodes: Mapping[str, Any]) -> dict[str, str]:
    """Return the sampled verdict, row by row."""
    low, high = episodes["ci95"]
    return {
        f"Episodes: {episodes['count']:,}": f"mean return {number(episodes['mean_return'])}"
        f" (95 % interval {number(low)} to {number(high)}), mean length {number(episodes['mean_length'], 2)},"
        f" {episodes['terminated_fraction']:.1%} terminated"
    }


def sampled_rows(summary: Mapping[str, Any]) -> dict[str, str | Text]:
    """Return what a training sampled at its end, or why it did not; nothing where its verdict is exact."""
    if summary["episodes"]:
        return {**episode_rows(summary["episodes"])}
    why = summary["episodes_unavailable"]
    return {"Episodes": Text(f"none: {why}", style="yellow")} if why else {}


def training_table(title: str, summary: Mapping[str, Any]) -> Table:
    """Return what a training ends with: the verdict, then how it came about and where it is kept."""
    return facts(
        title,
        {
            **exact_rows(summary["exact"], summary["exact_unavailable"]),
            **sampled_rows(summary),
            "Training": f"{summary['updates']:,} updates, {summary['environment_steps']:,} environment steps,"
            f" {summary['train_seconds']:.1f} s (and {summary['compile_seconds']:.1f} s to compile);"
            f" stopped: {summary['stopped']}",
            "Weights digest": summary["weights_digest"],
            "Kept in": f"{summary['run']}   (log: {summary['log']})",
        },
    )


def optimum_table(title: str, solution: Mapping[str, Any]) -> Table:
    """Return the exact optimum of an environment."""
    return facts(
        title,
        {
            "Optimal return": f"{number(solution['optimal_return'])} in {solution['horizon']:,} steps"
            f" (± {solution['return_bound']:.1e})",
            "Optimal value": f"{number(solution['optimal_value'])} at discount {solution['discount']}"
            f" (± {solution['value_bound']:.1e}, {solution['iterations']:,} iterations)",
            "Random policy": f"value {number(solution['random_value'])}",
            "Optimal policy": f"return {number(solution['policy_return'])}; episodes end with probability"
            f" {number(solution['termination_probability'])}, after {number(solution['mean_episode_length'], 2)} steps",
            "Start states": str(solution["start_states"]),
        },
    )


def environments_table(rows: list[Mapping[str, Any]]) -> Table:
    """Return the list of environments that can be trained."""
    names = ("Environment", "Arguments", "States", "Actions", "Time limit", "Optimal return", "Exact verdict")
    return columns(
        None,
        names,
        [
            (
                row["id"],
                arguments(row["kwargs"]),
                row["states"],
                row["actions"],
                row["time_limit"],
                row["optimal_return"],
                "yes" if row["table"] else f"no: {row['table_missing']}",
            )
            for row in rows
        ],
    )


def arguments(kwargs: Mapping[str, Any]) -> str:
    """Return the arguments of an environment as ``--env-arg`` takes them."""
    return " ".join(f"{key}={str(value).lower()}" for key, value in kwargs.items())


def presets_table(rows: list[Mapping[str, Any]]) -> Table:
    """Return the list of presets."""
    return columns(
        None,
        ("Preset", "Environment", "Network", "Updates", "Description"),
        [
            (
                row["name"],
                f"{row['environment']} {arguments(row['kwargs'])}".strip(),
                row["network"],
                row["updates"],
                row["description"],
            )
            for row in rows
        ],
    )
