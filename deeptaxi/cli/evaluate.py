"""``deeptaxi evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options


@click.command("evaluate")
@click.argument("model", type=options.PATH)
@click.option("--env", help="Environment to judge on.  [default: the run's own]")
@options.env_arg_option
@options.time_limit_option
@options.objective_discount_option("the run's own, else the table's, else 0.99")
@click.option("--episodes", type=click.IntRange(0), default=1000, show_default=True, help="Episodes to play as well.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the episodes.")
@options.trust_option
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
    from deeptaxi.artifacts.models import find_model
    from deeptaxi.presentation import console, verdict

    source = find_model(model)
    environment = open_named(source, env, env_args, time_limit, trust_env)
    q_values = load_q_values(source, environment)
    summary = {
        "model": source.name,
        "environment": environment.describe(),
        "exact": exact_verdict(source, environment, q_values, objective_discount),
        "exact_unavailable": environment.table_missing,
        "episodes": played(environment, q_values, episodes, seed),
    }
    if as_json:
        options.print_json(summary)
        return
    title = f"{source.name} on {environment.config.id}"
    console.out().print(verdict.verdict_table(title, summary["exact"], environment.table_missing, summary["episodes"]))


def open_named(
    source: Any, env: str | None, env_args: dict[str, Any], time_limit: int | None, trust_module: bool
) -> Any:
    """Open the environment to judge on; a module that only the run names must be trusted.

    Raises:
        UsageError: none is known, or it cannot be opened.
    """
    from deeptaxi.mdp.environment import open_environment

    place = environment_of(source, env, env_args, time_limit)
    return open_environment(place, trust_module or env is not None)


def environment_of(source: Any, env: str | None, env_args: dict[str, Any], time_limit: int | None) -> Any:
    """Return the environment to judge on: the one that is named, else the run's, with what is changed of it.

    Raises:
        UsageError: neither is known.
    """
    import dataclasses

    from deeptaxi.errors import UsageError

    if env is not None:
        return options.environment_config(env, env_args, time_limit)
    if source.environment is None:
        raise UsageError(f"{source.name} does not say what it was trained on: name it with --env")
    changes: dict[str, Any] = {"kwargs": {**source.environment.kwargs, **env_args}}
    if time_limit:
        changes["time_limit"] = time_limit
    return dataclasses.replace(source.environment, **changes)


def load_q_values(source: Any, environment: Any) -> Any:
    """Load the network and return its Q values of all states, `[S, A]`, showing that something happens.

    Raises:
        UsageError: it was made for another number of states or actions.
        DeepTaxiError: the file is damaged, or is a model of another kind.
    """
    from deeptaxi.artifacts.models import check_fits, load_network
    from deeptaxi.presentation.console import err

    with err().status("loading the model …"):
        network = load_network(source.path)
        check_fits(network, environment, source.name)
        from deeptaxi.network.build import tabulate

        return tabulate(network)


def exact_verdict(source: Any, environment: Any, q_values: Any, discount: float | None) -> dict[str, Any] | None:
    """Return the exact verdict at the given discount, else the run's, else the table's; None without a true table."""
    if environment.table is None:
        return None
    from deeptaxi.evaluation import exact
    from deeptaxi.mdp.environment import objective_discount
    from deeptaxi.presentation.console import err

    if discount is None:
        discount = (
            source.config.judgement.objective_discount if source.config else objective_discount(environment.table)
        )
    training_discount = source.config.discount if source.config else None
    with err().status("computing the exact verdict …"):
        agent_mask = q_values > float("-inf")
        target = exact.reference(environment.table, environment.horizon, discount, training_discount, agent_mask)
        return exact.judge(target, q_values, environment.start_resets).to_dict()


def played(environment: Any, q_values: Any, count: int, seed: int) -> dict[str, Any] | None:
    """Play episodes by the greedy policy, showing that something happens."""
    from deeptaxi.evaluation.episodes import play
    from deeptaxi.evaluation.exact import policy_of
    from deeptaxi.presentation.console import err

    policy = policy_of(q_values, environment.table.action_mask if environment.table else None)
    if count == 0:
        return None
    with err().status(f"playing {count:,} episodes …"):
        return play(environment, policy, count, seed).to_dict()
