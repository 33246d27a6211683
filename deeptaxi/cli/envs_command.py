"""``deeptaxi envs``."""

from __future__ import annotations

from typing import Any

import click

from deeptaxi.cli import options


@click.command("envs")
@click.argument("env", nargs=-1)
@options.env_arg_option
@options.time_limit_option
@options.json_option
@options.shared_options
def command(env: tuple[str, ...], env_args: dict[str, Any], time_limit: int | None, as_json: bool) -> None:
    """List what can be trained: sizes, time limit, whether a true table exists, the exact optimum.

    Without ENV: all registered environments with state numbers, and their best-known variants.
    """
    from deeptaxi.api import listing

    rows = listing.envs(*env, env_args=env_args, time_limit=time_limit)
    if as_json:
        options.print_json(rows)
        return
    from deeptaxi.display import console, tables

    console.out().print(tables.environments_table(rows))
