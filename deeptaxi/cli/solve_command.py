"""``deeptaxi solve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options


@click.command("solve")
@click.argument("env")
@options.env_arg_option
@options.time_limit_option
@options.objective_discount_option("the table's own, else 0.99")
@click.option("--out", type=options.PATH, metavar="FILE", help="Write Q* and the optimal policy: .csv, .npz or .json.")
@options.force_option
@options.json_option
@options.shared_options
def command(
    env: str,
    env_args: dict[str, Any],
    time_limit: int | None,
    objective_discount: float | None,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compute the exact optimum of ENV from its transition table: return, value and policy, without learning."""
    from deeptaxi.api.environments import EnvSpec
    from deeptaxi.api.solve import check_out, solve
    from deeptaxi.arguments import title
    from deeptaxi.display import console, tables

    if out is not None:
        check_out(out, env, force)  # `solve` checks again; here, before the environment is opened
    environment = EnvSpec(env, env_args, time_limit).open()
    solution = solve(environment, objective_discount, out=out, force=force)
    described = environment.describe()
    del environment  # and what was kept for its table, before the lists of a million states are written
    if as_json:
        options.print_json({"environment": described, **solution.to_dict()})
        return
    console.print_wide(tables.optimum_table(title(described), solution.to_dict(), described), console.FACTS)
    if out is not None:
        console.out().print(f"Wrote {out}", soft_wrap=True)
