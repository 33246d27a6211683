"""``deeptaxi convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options


@click.command("convert")
@click.argument("source", metavar="IN")
@click.argument("out", type=options.PATH, metavar="OUT.npz")
@click.option(
    "--start", metavar="STATE", help="Where episodes start: a state's number or name, several with commas, or uniform."
)
@click.option("--discount", type=options.FiniteRange(0, 1), help="Discount that the problem is meant with.")
@options.time_limit_option
@click.option(
    "--prior",
    type=options.FiniteRange(0),
    metavar="ALPHA",
    help="Dirichlet prior of logged data, added to the count of every next state.  [default: 0]",
)
@click.option(
    "--goal",
    metavar="LABEL",
    help="End episodes in the states of a label (PRISM); entering them earns 1 without a file of rewards.",
)
@click.option("--end-absorbing", is_flag=True, help="End episodes where no action leaves a state or earns anything.")
@options.env_arg_option
@options.force_option
@options.json_option
@options.shared_options
def command(source: str, out: Path, env_args: dict[str, Any], force: bool, as_json: bool, **given: Any) -> None:
    """Convert a table of another form to a .npz that every command takes as ENV.

    IN is a file of matrices (.npz, .mat, .json), of rows (.csv, .tsv, .jsonl, .json, .parquet), of PRISM (.tra) or of
    Cassandra (.mdp), or an environment that has a table. Rows without a probability are logged transitions, of which a
    table is estimated.
    """
    from deeptaxi.api.convert import convert
    from deeptaxi.display import console, tables

    found = convert(source, out, env_args=env_args, force=force, **given)
    if as_json:
        options.print_json(found.to_dict())
        return
    console.print_wide(tables.conversion_table(found.to_dict()), console.FACTS)
