"""``deeptaxi explain update``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options

SHAPING = {"seed", "discount", "network", "optimizer", "batch_size", "action_mask", "double", "n_step", "reward_scale"}
NOT_SHAPING = {"row_sparse", "schedule", "final_fraction"}


def shapes_an_update(path: tuple[str, ...]) -> bool:
    """Whether a setting has a say in one update."""
    return path[-1] not in NOT_SHAPING and (path[-1] in SHAPING or path[0] in SHAPING)


@click.command("update", cls=options.SectionedCommand)
@click.argument("model", type=options.PATH, required=False)
@click.option("--env", help="Environment, as `train` takes it.  [default: the run's own]")
@options.env_arg_option
@click.option("--state", type=int, metavar="S", help="State of the transition.")
@click.option("--action", type=int, metavar="A", help="Action that is taken there.  [default: the greedy one]")
@click.option(
    "--transition",
    "transitions",
    type=options.TransitionType(),
    multiple=True,
    help="The transition, written down; n times in a row for --n-step n.",
)
@click.option("--random", "at_random", is_flag=True, help="A transition drawn by --seed.  [default]")
@click.option("--compare", "comparing", is_flag=True, help="Set the masked gradient beside the overwrite recipe.")
@click.option(
    "--target-noise",
    type=click.FloatRange(0, min_open=True),
    help="Add noise of this spread to the target network's weights, as if it lagged behind.",
)
@click.option("--config", "config_file", type=options.PATH, metavar="FILE", help="TOML file of settings.")
@click.option("--preset", metavar="NAME", help="Settings of `deeptaxi presets`.  [default: the one that fits]")
@click.option("--q-table", is_flag=True, help="No hidden layer, no bias: the weights are the Q table.")
@options.trust_option
@options.json_option
@options.shared
@partial(options.training_options, shown=shapes_an_update)
def command(
    model: Path | None,
    state: int | None,
    action: int | None,
    transitions: tuple[tuple[Any, ...], ...],
    at_random: bool,
    comparing: bool,
    target_noise: float | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Show one update, on paper: every number from the predictions to the weights that change.

    Without MODEL, the network is the one that `deeptaxi train ENV` with the same options would start with; with MODEL,
    a run folder or a .keras file, it is that one. Online and target network are equal, unless --target-noise parts
    them. The optimizer is fresh, B is 1 unless --batch-size says that the sample is one of more.

    \b
    --state S --action A   the likeliest outcome in the transition table; drawn from it where --seed is given
    --transition S,A,R,S2  written down; add ,terminated where the episode ended
    --random               a state that episodes visit, an action and an outcome, drawn by --seed

    After the first of n steps (--n-step) the network's greedy actions are taken. The other options of `deeptaxi train`
    are taken too, and have no say in one update.
    """
    from deeptaxi.api.explain import Request, Wish, explained

    wish = Wish(state, action, transitions, given["seed"])
    wish.check(at_random)
    place = [given.pop(name) for name in ("env", "env_args", "config_file", "preset", "q_table", "trust_env")]
    request = Request(*place, given=options.given_settings(given))
    found = explained(model, request, wish, target_noise, comparing)
    if as_json:
        options.print_json(found.to_dict())
        return
    from deeptaxi.display import console

    console.print_wide(found.__rich__())
