"""``deeptaxi presets``."""

from __future__ import annotations

import click

from deeptaxi.cli import options


@click.command("presets")
@click.argument("name", nargs=-1)
@options.json_option
@options.shared_options
def command(name: tuple[str, ...], as_json: bool) -> None:
    """List the presets: settings tuned for known problems, which `deeptaxi train` chooses automatically.

    With NAME: its settings, how they were found, and what the last search for better ones by `deeptaxi tune` found.

    `deeptaxi train --preset NAME` trains one on its own problem, `deeptaxi train ENV --preset NAME` applies its
    settings to another; `--preset table` derives settings from ENV's transition table, `--preset none` takes the plain
    defaults.
    """
    from deeptaxi.api import listing

    rows = listing.presets(*name)
    if as_json:
        options.print_json(rows)
        return
    from deeptaxi.display import console, tables

    if name:
        for row in rows:
            console.print_wide(tables.preset_page(row))
    else:
        console.out().print(tables.presets_table(rows))
