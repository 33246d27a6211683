"""Verdicts for people: the same numbers as the JSON, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from deeptaxi.arguments import words
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
    resets = exact.get("starts_estimated_from_resets")
    seen = f" that came in {resets:,} resets" if resets else ""
    optimal = Text(f"yes: {played} of {all_starts} start states{seen} are played optimally", style="green")
    if exact["optimal"] is None:
        optimal = Text(unknown(exact), style="yellow")
    elif exact.get("all_policies_equal"):
        optimal = Text(f"yes, but {exact['all_policies_equal']}", style="yellow")
    elif not exact["optimal"]:
        lost = f"the worst, state {worst['state']}, loses {number(worst['value_gap'])}"
        optimal = Text(f"no: {played} of {all_starts} start states{seen}; {lost}", style="yellow")
    rows: dict[str, str | Text] = {
        "Optimal": optimal,
        "Return": f"{number(exact['return'])} of {number(exact['optimal_return'])} at best"
        f" in {exact['horizon']:,} steps (gap {number(exact['gap'])})",
        "Value": f"{number(-math.inf if exact['value'] is None else exact['value'])}"
        f" of {number(exact['optimal_value'])} at discount {exact['discount']}"
        f" (gap {number(exact['value_gap'])})",
        "Normalized score": f"{number(exact['normalized_score'])} (random policy 0, optimum 1)",
        "Episodes end": f"with probability {probability(exact['termination_probability'])},"
        f" after {number(exact['mean_episode_length'], 2)} steps on average",
    }
    if exact["q_error"]:
        error = exact["q_error"]
        rows["Q error"] = (
            f"max {number(error['max'])}, mean {number(error['mean'])}, bias {number(error['bias'])}"
            f" against Q* at discount {error['discount']}"
        )
    if resets:
        spread = [
            f"{name} ± {exact[key]:.2g}"
            for name, key in (("return", "return_uncertainty"), ("value", "value_uncertainty"))
            if exact.get(key)
        ]
        within = f": {', '.join(spread)} (95 %)" if spread else ""
        rows["Start states"] = f"estimated from {resets:,} resets{within}"
    return rows


def unknown(exact: Mapping[str, Any]) -> str:
    """Return why it cannot be told whether a policy is optimal, and what would tell."""
    why = exact["optimal_unknown"]
    cure = f"; --objective-discount {why['telling_discount']:g} tells" if why["telling_discount"] else ""
    return f"cannot be told at discount {exact['discount']:g}: {why['reason']}{cure}"


def probability(value: float) -> str:
    """Return a probability; one that is not 1 is not shown as 1."""
    text = number(value)
    return f"1 − {1 - value:.1g}" if text == "1" and value < 1 else text


def mean(value: float, solution: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return a mean over the starts, and how far it may be off: by rounding, or because the starts are estimated."""
    bound, spread = solution[f"{name}_bound"], solution[f"{name}_uncertainty"]
    if bound is not None:
        return number(0.0 if abs(value) <= bound else value), f"± {bound:.1e}"
    starts = f"starts estimated from {solution['starts_estimated_from_resets']:,} resets"
    return number(value), starts if spread is None else f"± {spread:.2g} at 95 %: {starts}"


def episode_rows(episodes: Mapping[str, Any]) -> dict[str, str]:
    """Return the sampled verdict, row by row."""
    low, high = episodes["ci95"]
    # Samples that are all alike say nothing of how far others may be off: an interval without width would.
    interval = "all the same" if low == high else f"95 % interval {number(low)} to {number(high)}"
    count, asked = episodes["count"], episodes["asked"]
    title = f"Episodes: {count:,}" if count == asked else f"Episodes: {count:,} of {asked:,}"
    rows = {
        title: f"mean return {number(episodes['mean_return'])}"
        f" ({interval}), mean length {number(episodes['mean_length'], 2)},"
        f" {episodes['terminated_fraction']:.1%} terminated"
    }
    if episodes["endless"]:
        rows["Never end"] = (
            f"{episodes['endless']:,} episodes: the policy never ends one from state {episodes['endless_state']} on;"
            " they were cut there, and the rest of their return is the transition table's"
        )
    if episodes["cut"]:
        rows["Cut"] = (
            f"{episodes['cut']:,} episodes after {episodes['cut_steps']:,} steps: the rest of their return is missing"
        )
    if count < asked:
        rows["Not played"] = f"{asked - count:,} episodes: those that were played took too many steps"
    return rows


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
            **discount_row(summary),
            **sampled_rows(summary),
            "Training": f"{summary['updates']:,} updates, {summary['environment_steps']:,} environment steps,"
            f" {summary['train_seconds']:.1f} s (and {summary['compile_seconds']:.1f} s to compile);"
            f" stopped: {summary['stopped']}",
            "Weights digest": summary["weights_digest"],
            "Kept in": summary["run"] if summary["log"] is None else f"{summary['run']}   (log: {summary['log']})",
            **(
                {"Log": Text(f"not whole: {summary['log_unavailable']}", "yellow")}
                if summary["log_unavailable"]
                else {}
            ),
        },
    )


def discount_row(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the discounts of the training and of the verdict, where they differ."""
    learned, objective = summary["discount"], summary["objective_discount"]
    return {} if learned == objective else {"Discount": f"learned at {learned:g}, evaluated at {objective:g}"}


def optimum_table(title: str, solution: Mapping[str, Any]) -> Table:
    """Return the exact optimum of an environment."""
    nothing = solution["all_policies_equal"]
    (best, how_far), (value, how_far_value) = (
        mean(solution["optimal_return"], solution, "return"),
        mean(solution["optimal_value"], solution, "value"),
    )
    resets = solution["starts_estimated_from_resets"]
    return facts(
        title,
        {
            "Optimal return": f"{best} in {solution['horizon']:,} steps ({how_far})",
            "Optimal value": f"{value} at discount {solution['discount']}"
            f" ({how_far_value}, {solution['iterations']:,} iterations)",
            "Random policy": f"value {number(solution['random_value'])}",
            "Optimal policy": f"return {number(solution['policy_return'])}; episodes end with probability"
            f" {probability(solution['termination_probability'])},"
            f" after {number(solution['mean_episode_length'], 2)} steps",
            "Start states": f"{solution['start_states']:,}"
            + (f" that came in {resets:,} resets; all means are over these" if resets else ""),
            **({"Note": Text(nothing, style="yellow")} if nothing else {}),
        },
    )


def estimated(row: Mapping[str, Any]) -> str:
    """Return the optimal return of an environment whose starts are estimated."""
    spread = row["return_uncertainty"]
    return number(row["optimal_return"]) + (f" ± {spread:.2g}" if spread else "")


def told_table(row: Mapping[str, Any]) -> str:
    """Return whether there is an exact verdict, and what it rests on."""
    if not row["table"]:
        return f"no: {row['table_missing']}"
    resets = row["starts_estimated_from_resets"]
    return f"yes; starts estimated from {resets:,} resets (± at 95 %)" if resets else "yes"


def environments_table(rows: list[Mapping[str, Any]]) -> Table:
    """Return the list of environments that can be trained."""
    names = ("Environment", "Arguments", "States", "Actions", "Time limit", "Optimal return", "Exact verdict")
    return columns(
        None,
        names,
        [
            (
                row["id"],
                words(row["kwargs"]),
                row["states"],
                row["actions"],
                row["time_limit"],
                estimated(row) if row["starts_estimated_from_resets"] else row["optimal_return"],
                told_table(row),
            )
            for row in rows
        ],
    )


def presets_table(rows: list[Mapping[str, Any]]) -> Table:
    """Return the list of presets."""
    return columns(
        None,
        ("Preset", "Environment", "Network", "Updates", "Description"),
        [
            (
                row["name"],
                f"{row['environment']} {words(row['kwargs'])}".strip(),
                row["network"],
                row["updates"],
                row["description"],
            )
            for row in rows
        ],
    )
