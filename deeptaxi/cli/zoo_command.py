"""``deeptaxi zoo``."""

from __future__ import annotations

from pathlib import Path

import click

from deeptaxi.cli import options


@click.command("zoo")
@click.argument("folder", type=options.PATH, default=Path("models"))
@options.json_option
@options.shared_options
def command(folder: Path, as_json: bool) -> None:
    """List the agents in FOLDER (default: models) with the verdicts on their cards. No model is loaded.

    Optimal counts the start states that are played optimally. Return is the mean over the starts, Best the highest
    possible. A checkout of deeptaxi comes with proven agents in models/; `deeptaxi train` puts yours beside them.
    """
    from deeptaxi.api import listing
    from deeptaxi.display import console, tables

    rows = listing.zoo(folder)
    if as_json:
        options.print_json(rows)
        return
    others = listing.without_model(folder)
    if not rows and not others:
        console.err().print(f"{folder} contains no agents: `deeptaxi train Taxi-v4` trains one", soft_wrap=True)
        return
    screen = console.out()
    if rows:
        screen.print(tables.agents_table(rows, screen.width))
    for row in rows:
        if row["note"]:
            console.err().print(f"Note on {row['name']}: {row['note']}", soft_wrap=True)
    for note in others:
        console.err().print(f"Note: {note}", soft_wrap=True)
