"""``deeptaxi check``."""

from __future__ import annotations

from typing import Any

import click

from deeptaxi.cli import options

FAULTY = 1  # exit code


@click.command("check")
@click.argument("env")
@options.env_arg_option
@options.time_limit_option
@options.json_option
@options.shared_options
def command(env: str, env_args: dict[str, Any], time_limit: int | None, as_json: bool) -> int:
    """Check ENV against Gymnasium's API, and list all its faults at once.

    ENV is what `deeptaxi train` takes. It is played for 20,000 random steps, or 60 seconds, in spite of its faults:
    spaces, reset, step, action mask, the same seed twice, and its table P against what it does. Without P, further
    random steps show a goal that truncates, a hidden time limit, late observations and late rewards. Exit code 1: it
    has a fault.
    """
    from deeptaxi.api.check import check
    from deeptaxi.display import console

    found = check(env, env_args=env_args, time_limit=time_limit)
    if as_json:
        options.print_json(found.to_dict())
    else:
        console.out().print(found)
    return 0 if found.ok else FAULTY
