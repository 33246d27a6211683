"""The argument MODEL and its options, which the commands on a trained model share."""

from __future__ import annotations

from typing import Any

import click

from deeptaxi.cli import options


def model_options(purpose: str) -> Any:
    """Add the argument MODEL and the options that say which environment it is looked at on."""

    def add(function: options.Function) -> options.Function:
        for decorate in (
            options.trust_option,
            options.time_limit_option,
            options.env_arg_option,
            click.option("--env", help=f"Environment to {purpose}.  [default: the run's own]"),
            click.argument("model", type=options.PATH),
        ):
            function = decorate(function)
        return function

    return add
