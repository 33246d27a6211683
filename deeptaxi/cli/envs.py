"""``deeptaxi envs``."""

from __future__ import annotations

from typing import Any

import click

from deeptaxi.cli import options

# Arguments that make another problem of a known environment.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "Taxi-v4": [{"is_rainy": True}, {"fickle_passenger": True}],
    "FrozenLake-v1": [{"is_slippery": False}],
    "FrozenLake8x8-v1": [{"is_slippery": False}],
}


@click.command("envs")
@click.argument("env", nargs=-1)
@options.env_arg_option
@options.time_limit_option
@options.json_option
@options.shared
def command(env: tuple[str, ...], env_args: dict[str, Any], time_limit: int | None, as_json: bool) -> None:
    """List what can be trained: sizes, time limit, whether a true table exists, the exact optimum.

    Without ENV: all registered environments with state numbers, and their best-known variants.
    """
    from deeptaxi.errors import DeepTaxiError, UsageError
    from deeptaxi.mdp.environment import known_ids, open_environment
    from deeptaxi.presentation import console, verdict

    if env_args and not env:
        raise UsageError("--env-arg needs the environment that takes it: deeptaxi envs ENV --env-arg KEY=VALUE")
    asked = [(name, env_args) for name in env]
    if not env:
        asked = [(name, kwargs) for name in known_ids() for kwargs in ({}, *VARIANTS.get(name, []))]
    rows: list[Any] = []
    with console.err().status("computing the exact optima …"):
        for name, kwargs in asked:
            try:
                rows.append(describe(open_environment(options.environment_config(name, kwargs, time_limit))))
            except DeepTaxiError:
                if env:  # asked for by name; otherwise the list just leaves out what cannot be trained
                    raise
    if as_json:
        options.print_json(rows)
        return
    console.out().print(verdict.environments_table(rows))


def describe(environment: Any) -> dict[str, Any]:
    """Return one row of the list."""
    from deeptaxi.evaluation.solution import optimal_return

    table = environment.table
    return {
        **environment.describe(),
        "horizon": environment.horizon,
        "table": table is not None,
        "table_missing": environment.table_missing,
        "start_states": None if table is None else int((table.start > 0).sum()),
        "optimal_return": None if table is None else optimal_return(table, environment.horizon),
    }
