"""``deeptaxi evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options
from deeptaxi.cli.models import Opened, model_options, open_model


@click.command("evaluate")
@model_options("judge on")
@options.objective_discount_option("the run's own, else the table's, else 0.99")
@click.option("--episodes", type=click.IntRange(0), default=1000, show_default=True, help="Episodes to play as well.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the episodes.")
@options.json_option
@options.shared
def command(
    model: Path,
    env: str | None,
    env_args: dict[str, Any],
    time_limit: int | None,
    objective_discount: float | None,
    episodes: int,
    seed: int,
    trust_env: bool,
    as_json: bool,
) -> None:
    """Judge MODEL, a run folder or a .keras file: exactly where a transition table exists, and by episodes.

    \b
    Optimal      every start state's discounted value is the optimum
    Return       undiscounted sum of rewards, within the time limit
    Gap          how much the best possible return or value is above the agent's
    """
    from deeptaxi.presentation import console, verdict

    opened = open_model(model, env, env_args, time_limit, trust_env)
    summary = {
        "model": opened.source.name,
        "environment": opened.environment.describe(),
        "exact": exact_verdict(opened, objective_discount),
        "exact_unavailable": opened.environment.table_missing,
        "episodes": played(opened, episodes, seed),
    }
    if as_json:
        options.print_json(summary)
        return
    title = f"{opened.source.name} on {opened.environment.config.id}"
    table = verdict.verdict_table(title, summary["exact"], summary["exact_unavailable"], summary["episodes"])
    console.print_wide(table, console.FACTS)


def exact_verdict(opened: Opened, discount: float | None) -> dict[str, Any] | None:
    """Return the exact verdict at the given discount; None without a true table."""
    if opened.environment.table is None:
        return None
    from deeptaxi.evaluation import exact
    from deeptaxi.presentation.console import err

    with err().status("computing the exact verdict …"):
        return exact.judge(opened.reference(discount), opened.q_values, opened.environment.start_resets).to_dict()


def played(opened: Opened, count: int, seed: int) -> dict[str, Any] | None:
    """Play episodes by the greedy policy, showing that something happens."""
    from deeptaxi.evaluation.episodes import play
    from deeptaxi.evaluation.exact import policy_of
    from deeptaxi.presentation.console import err

    environment = opened.environment
    policy = policy_of(opened.q_values, environment.table.action_mask if environment.table else None)
    if count == 0:
        return None
    with err().status(f"playing {count:,} episodes …"):
        return play(environment, policy, count, seed).to_dict()
