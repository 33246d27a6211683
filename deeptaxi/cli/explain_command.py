"""``deeptaxi explain``: one update, or the gradients of a dueling head, with every number."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options
from deeptaxi.cli.groups import Group
from deeptaxi.config import AGGREGATIONS


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Comma-separated numbers, such as ``0,8,0,0``."""

    name = "g1,g2,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Parse comma-separated numbers."""
        if isinstance(value, list):
            return value
        try:
            numbers = [float(part) for part in str(value).split(",")]
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)):
            self.fail(f"expected finite numbers such as 0,8,0,0, received '{value}'", param, ctx)
        return numbers


@click.command("gradients")
@click.option("--actions", type=click.IntRange(1, 1024), help="N, the number of actions.  [default: 4]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of V, A and dE/dQ.")
@click.option(
    "--aggregation",
    type=click.Choice(AGGREGATIONS),
    default="mean",
    show_default=True,
    help="What the dueling head subtracts from A.",
)
@click.option("--gradient", type=Numbers(), help="dE/dQ, one number per action.  [default: random]")
@click.option("--vectors", type=options.PATH, metavar="FILE", help="Write test vectors for several N, as JSON.")
@options.force_option
@options.json_option
@options.shared_options
def gradients_command(
    actions: int | None,
    seed: int,
    aggregation: str,
    gradient: list[float] | None,
    vectors: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Check the gradients of a dueling head, Q = V + A − mean(A), in four ways.

    \b
    nested sum            dE/dA_i = Σ_j g_j · (δ_ij − 1/N),  with g = dE/dQ
    shared sum            dE/dA_i = g_i − (1/N)·Σ_j g_j,  dE/dV = Σ_j g_j: one sum, used twice
    autodiff              the backend's automatic differentiation
    central differences   (E(x + h) − E(x − h)) / 2h

    Exit code 1 if the largest discrepancy is above 1e-6. Everything is computed in float64.
    """
    from deeptaxi.api import explain
    from deeptaxi.errors import DeepTaxiError

    found = explain.gradients(
        actions, seed=seed, aggregation=aggregation, gradient=gradient, vectors=vectors, force=force
    )
    if as_json:
        options.print_json(found.to_dict())
    else:
        from deeptaxi.display import console

        console.print_wide(found.__rich__())
    largest, limit = found["discrepancy"]["largest"], found["limit"]
    if not largest <= limit:
        raise DeepTaxiError(
            f"the gradients differ by {largest:.1e}, more than {limit:g}: the closed form is wrong here"
        )


SHAPING = {"seed", "discount", "network", "optimizer", "batch_size", "action_mask", "double", "reward_scale"}
SHAPING |= {"n_step", "n_step_correction"}
NOT_SHAPING = {"row_sparse", "schedule", "final_fraction"}


def shapes_an_update(path: tuple[str, ...]) -> bool:
    """Return whether a setting affects a single update."""
    return path[-1] not in NOT_SHAPING and (path[-1] in SHAPING or path[0] in SHAPING)


@click.command("update", cls=options.SectionedCommand)
@click.argument("model", type=options.PATH, required=False)
@click.option("--env", help="Environment, as `train` takes it.  [default: the run's own]")
@options.env_arg_option
@options.network_arg_option
@click.option("--state", type=int, metavar="S", help="State of the transition.")
@click.option("--action", type=int, metavar="A", help="Action taken there.  [default: the greedy one]")
@click.option(
    "--transition",
    "transitions",
    type=options.TransitionType(),
    multiple=True,
    help="The transition, given explicitly; repeat it n times for --n-step n.",
)
@click.option("--random", "at_random", is_flag=True, help="A random transition, drawn with --seed.  [default]")
@click.option("--compare", "comparing", is_flag=True, help="Compare the overwrite recipe with the masked gradient.")
@click.option(
    "--target-noise",
    type=options.FiniteRange(0, min_open=True),
    help="Add noise of this standard deviation to the target network's weights, as if it lagged behind.",
)
@click.option("--config", "config_file", type=options.PATH, metavar="FILE", help="TOML file of settings.")
@click.option("--preset", metavar="NAME", help="Settings of `deeptaxi presets`.  [default: the one that fits]")
@click.option("--q-table", is_flag=True, help="No hidden layer, no bias: the weights are the Q table.")
@options.trust_option
@options.json_option
@options.shared_options
@partial(options.training_options, shown=shapes_an_update)
def update_command(
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
    """Show one update step by step: every number from the predictions to the weights that change.

    MODEL is a run folder or a .keras file; without it, the network is the one that `deeptaxi train ENV` with the same
    options would start with. Online and target network are equal, unless --target-noise makes them differ. The
    optimizer is fresh, and B is 1, unless --batch-size makes the sample one of a larger minibatch.

    \b
    --state S --action A   the most likely outcome in the transition table; with --seed, a random one
    --transition S,A,R,S2  given explicitly; add ,terminated if the episode ended
    --random               a state that episodes visit, an action and an outcome, drawn with --seed

    After the first of n steps (--n-step), the network's greedy actions are taken. The other options of `deeptaxi train`
    are accepted too, but do not affect a single update.
    """
    from deeptaxi.api.run_options import NetworkOptions, UpdateOptions

    update_options = UpdateOptions(state, action, transitions, given["seed"])
    update_options.check(at_random)
    names = ("env", "env_args", "config_file", "preset", "q_table", "trust_env")
    env, env_args, config, preset, q_table, trust = (given.pop(name) for name in names)
    from deeptaxi.api.environments import EnvSpec

    spec = EnvSpec(env, env_args, trust=trust)
    network_options = NetworkOptions(spec, config, preset, q_table, given=options.given_settings(given))
    from deeptaxi.api.explain import make_explanation  # not before: it imports NumPy

    found = make_explanation(model, network_options, update_options, target_noise, comparing)
    if as_json:
        options.print_json(found.to_dict())
        return
    from deeptaxi.display import console

    console.print_wide(found.__rich__())


@click.group("explain", cls=Group)
def command() -> None:
    """Show how a network learns: every number of one update, or of the gradients of a dueling head.

    \b
    deeptaxi explain update --env Taxi-v4 --state 328 --action 4
    deeptaxi explain gradients --actions 4
    """


command.add_command(update_command)
command.add_command(gradients_command)
