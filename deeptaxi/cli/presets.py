"""``deeptaxi presets``."""

from __future__ import annotations

from typing import Any

import click

from deeptaxi.cli import options


@click.command("presets")
@options.json_option
@options.shared
def command(as_json: bool) -> None:
    """List the presets: settings tuned for known problems, which `deeptaxi train` picks by itself.

    `deeptaxi train --preset NAME` trains one on its own problem, `deeptaxi train ENV --preset NAME` uses its settings
    on another; `--preset table` derives settings from ENV's transition table, `--preset none` takes the plain defaults.
    """
    from deeptaxi.catalogue import listed

    rows = [describe(item) for item in listed()]
    if as_json:
        options.print_json(rows)
        return
    from deeptaxi.presentation import console, verdict

    console.out().print(verdict.presets_table(rows))


def describe(preset: Any) -> dict[str, Any]:
    """Return one row of the list."""
    from deeptaxi.config import TrainConfig

    return {
        "name": preset.name,
        "environment": preset.environment["id"],
        "kwargs": preset.environment["kwargs"],
        "network": preset.network,
        "updates": preset.settings.get("updates", TrainConfig().updates),
        "description": preset.description,
        "problems": [{"id": problem.id, "kwargs": dict(problem.kwargs)} for problem in preset.problems],
        "settings": dict(preset.settings),
    }
