"""``deeptaxi evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options
from deeptaxi.cli.options import model_options


@click.command("evaluate")
@model_options("evaluate on")
@options.objective_discount_option("the run's own, else the table's, else 0.99")
@click.option(
    "--episodes", type=click.IntRange(0), default=1000, show_default=True, help="Episodes to play in addition."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the episodes.")
@options.json_option
@options.shared_options
def command(
    model: Path,
    env: str | None,
    env_args: dict[str, Any],
    time_limit: int | None,
    objective_discount: float | None,
    episodes: int,
    seed: int,
    trust_env: bool,
    as_json: bool,
) -> None:
    """Evaluate MODEL: exactly if there is a transition table, and by episodes.

    MODEL is a run folder or a model file: .keras, .h5, a Q table or policy (.npy, .npz, .csv, .json), .onnx, or the
    folder of a SavedModel. A file does not record its environment: name it with --env.

    \b
    Optimal      every start state's discounted value is the optimum
    Return       undiscounted sum of rewards, within the time limit
    Gap          how much the best possible return or value is above the agent's
    """
    from deeptaxi.api.evaluate import evaluate
    from deeptaxi.display import console

    found = evaluate(
        model,
        env,
        episodes,
        seed,
        objective_discount,
        env_args=env_args,
        time_limit=time_limit,
        trust_env=trust_env,
    )
    if as_json:
        options.print_json(found.to_dict())
    else:
        console.print_wide(found.__rich__(), console.FACTS)
