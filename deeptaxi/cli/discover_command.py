"""``deeptaxi discover``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options

STATES, BRANCHES, SECONDS = 1_000_000, 50_000_000, 600.0  # as in `mdp.walk.Limits`, which would import NumPy


@click.command("discover")
@click.argument("env")
@options.env_arg_option
@options.time_limit_option
@click.option("--out", "-o", type=options.PATH, metavar="FILE", help="Write the table: .npz.")
@click.option("--split", is_flag=True, help="Make states of what observations hide, even if the optimum depends on it.")
@click.option("--reachable", is_flag=True, help="Number only the observations that it comes to, instead of all.")
@click.option(
    "--max-states", type=click.IntRange(1), default=STATES, help=f"End the walk there.  [default: {STATES:,}]"
)
@click.option(
    "--max-branches",
    type=click.IntRange(1),
    default=BRANCHES,
    help=f"Steps and resets to run at most, one for each sequence of draws.  [default: {BRANCHES:,}]",
)
@click.option(
    "--max-seconds",
    type=options.FiniteRange(0, min_open=True),
    default=SECONDS,
    help=f"CPU time to take at most.  [default: {SECONDS:g}]",
)
@options.force_option
@options.json_option
@options.shared_options
def command(env: str, env_args: dict[str, Any], time_limit: int | None, as_json: bool, **given: Any) -> None:
    """Discover the exact transition table of ENV by visiting every state, with all the chance of every step.

    ENV is a Gymnasium id or module:Id. Its chance must be finite: draws from a list, of integers, of an order, or
    comparisons of a random number with constants. The table is compared with 20,000 steps of ENV itself.
    """
    from deeptaxi.api.discover import check_out, discover

    if given["out"] is not None:
        check_out(given["out"], given["force"])  # before anything is imported
    found = discover(env, env_args=env_args, time_limit=time_limit, **given)
    if as_json:
        options.print_json(found.to_dict())
        return
    from deeptaxi.arguments import title
    from deeptaxi.display import console, tables

    facts = found.to_dict()
    console.print_wide(tables.discovery_table(title(facts["environment"]), facts), console.FACTS)
    out: Path | None = given["out"]
    if out is not None:
        console.out().print(f"Wrote {out}", soft_wrap=True)
