"""``deeptaxi diagnose``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options, signals
from deeptaxi.cli.options import model_options

SEVERE = 3  # exit code
STOPPING = "Stopping; what was learned so far follows (press Ctrl-C twice more to end at once) …"


def diagnose_with_cures(model: Any, budget: float | None, **asked: Any) -> tuple[Any, int]:
    """Diagnose a model and try cures, until a signal comes; return the diagnosis and the signal's number, 0 if none.

    The arguments are those of `deeptaxi.diagnose`; a `budget` of None is the default.
    """
    from deeptaxi.api.diagnose import diagnose
    from deeptaxi.display import console

    seconds = budget or options.CURE_BUDGET
    console.err().print(f"Trying cures for at most {seconds:g} seconds (--budget).", soft_wrap=True)
    with signals.stopping_gently(STOPPING) as received:
        found = diagnose(model, **asked, cure=True, budget=seconds, stop=lambda: bool(received()))
        return found, received()


@click.command("diagnose")
@model_options("look at it on")
@options.objective_discount_option("the run's own, else the table's, else 0.99")
@click.option(
    "--discount",
    type=options.FiniteRange(0, 1),
    help="Discount that the model was trained with.  [default: the run's own, else unknown]",
)
@click.option(
    "--episodes", type=click.IntRange(0), default=100, show_default=True, help="Played where no table exists."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the episodes.")
@click.option("--cure", is_flag=True, help="Train with the likeliest cures, and say what each reached.")
@options.budget_option
@options.json_option
@options.shared_options
def command(model: Path, as_json: bool, cure: bool, budget: float | None, **asked: Any) -> int:
    """Diagnose what is wrong with MODEL, a run folder, a model file or a log folder, by name.

    Each finding has evidence, a likely cause, and a cure as an option to type. A model file, made here or elsewhere, is
    one that `deeptaxi evaluate` takes. Exit code 3: something severe was found.
    With --cure, cures are tried: the model that is diagnosed stays as it is, and nothing is written.

    \b
    severe    it harms the agent as it is: the policy is measurably bad, and this is a cause
    warning   it is wrong, but does the agent no harm, or none that can be shown
    note      worth knowing
    """
    from deeptaxi.api.diagnose import diagnose
    from deeptaxi.cli.logs_command import skipped_lines
    from deeptaxi.display import console

    options.check_budget(cure, budget)
    signal_number = 0
    if cure:
        found, signal_number = diagnose_with_cures(model, budget, **asked)
    else:
        found = diagnose(model, **asked)
    if found.history is not None and found.history.skipped:
        console.err().print(skipped_lines(found.history), style="yellow", soft_wrap=True)
    if as_json:
        options.print_json(found.to_dict())
    else:
        console.out().print(found)
    if signal_number:
        return 128 + signal_number
    return SEVERE if found.severe else 0
