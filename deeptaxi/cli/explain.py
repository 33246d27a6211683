"""``deeptaxi explain``: a group of what can be explained."""

from __future__ import annotations

import click

from deeptaxi.cli import explain_gradients, explain_update
from deeptaxi.cli.groups import Group


@click.group("explain", cls=Group)
def command() -> None:
    """Show how a network learns: one update, or the gradients of a dueling head, with every number.

    \b
    deeptaxi explain update --env Taxi-v4 --state 328 --action 4
    deeptaxi explain gradients --actions 4
    """


command.add_command(explain_update.command)
command.add_command(explain_gradients.command)
