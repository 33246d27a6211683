"""``deeptaxi diagnose``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options
from deeptaxi.cli.models import model_options

SEVERE = 3  # exit code


@click.command("diagnose")
@model_options("look at it on")
@options.objective_discount_option("the run's own, else the table's, else 0.99")
@click.option(
    "--discount",
    type=click.FloatRange(0, 1),
    help="Discount that the model was trained with.  [default: the run's own, else unknown]",
)
@click.option(
    "--episodes", type=click.IntRange(0), default=100, show_default=True, help="Played where no table exists."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the episodes.")
@options.json_option
@options.shared
def command(model: Path, as_json: bool, **asked: Any) -> int:
    """Say by name what is wrong with MODEL: a run folder, a .keras file or a log folder.

    Each finding has its evidence, the likely cause, and the cure as an option to type. A .keras file may be a model
    made elsewhere of Keras' own layers, from state numbers to Q values. Exit code 3: something severe was found.

    \b
    severe    it harms the agent as it is: the policy is measurably bad, and this is a cause
    warning   it is wrong, and the agent is none the worse for it, or that cannot be known
    note      worth knowing
    """
    from deeptaxi.cli.cases import Asked, open_case
    from deeptaxi.cli.logs import skipped_lines
    from deeptaxi.evaluation.diagnosis import diagnose
    from deeptaxi.presentation import console, findings

    case, name = open_case(model, Asked(**asked))
    if case.history is not None and case.history.skipped:
        console.err().print(skipped_lines(case.history), style="yellow", soft_wrap=True)
    found = diagnose(case)
    optimal = case.verdict.optimal if case.verdict else None
    if as_json:
        place = case.environment
        sizes = {"states": case.states, "actions": case.actions}
        environment = {"id": place.id, "kwargs": dict(place.kwargs), **sizes}
        options.print_json({"model": name, "environment": environment, **found.to_dict()})
    else:
        console.out().print(findings.findings_page(f"{name} on {case.environment.id}", found.to_dict(), optimal))
    return SEVERE if found.severe else 0
