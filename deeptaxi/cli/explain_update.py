"""``deeptaxi explain update``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options
from deeptaxi.cli.subjects import Subject, fresh, kept
from deeptaxi.errors import UsageError

SHAPING = {"seed", "discount", "network", "optimizer", "batch_size", "action_mask", "double", "n_step", "reward_scale"}
NOT_SHAPING = {"row_sparse", "schedule", "final_fraction"}


def shapes_an_update(path: tuple[str, ...]) -> bool:
    """Whether a setting has a say in one update."""
    return path[-1] not in NOT_SHAPING and (path[-1] in SHAPING or path[0] in SHAPING)


@dataclass(frozen=True)
class Wish:
    """Which update is asked for; at most one of a pair, transitions, or a random one."""

    state: int | None
    action: int | None
    transitions: tuple[tuple[Any, ...], ...]
    seed: int | None

    def check(self, at_random: bool) -> None:
        """Refuse wishes that exclude each other.

        Raises:
            UsageError: two of them are given.
        """
        if self.action is not None and self.state is None:
            raise UsageError("--action needs the state that it is taken in: add --state S")
        given = {"--state": self.state is not None, "--transition": bool(self.transitions), "--random": at_random}
        names = [name for name, is_given in given.items() if is_given]
        if len(names) > 1:
            raise UsageError(f"{' and '.join(names)} each say which transition it is: give one of them")


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
    them. The optimiser is fresh, B is 1 unless --batch-size says that the sample is one of more.

    \b
    --state S --action A   the likeliest outcome in the transition table; drawn from it where --seed is given
    --transition S,A,R,S2  written down; add ,terminated where the episode ended
    --random               a state that episodes visit, an action and an outcome, drawn by --seed

    After the first of n steps (--n-step) the network's greedy actions are taken. The other options of `deeptaxi train`
    are taken too, and have no say in one update.
    """
    wish = Wish(state, action, transitions, given["seed"])
    wish.check(at_random)
    subject = fresh(given) if model is None else kept(model, given)
    summary = explained(subject, wish, target_noise, comparing)
    if as_json:
        options.print_json(summary)
        return
    from deeptaxi.presentation import console, explanation

    console.print_wide(explanation.of_update(summary))


def explained(subject: Subject, wish: Wish, target_noise: float | None, comparing: bool) -> dict[str, Any]:
    """Make the update; return all that there is to tell of it."""
    from deeptaxi.learning.anatomy import dissect
    from deeptaxi.learning.example import choose
    from deeptaxi.mdp.names import names_of
    from deeptaxi.settings import to_mapping

    environment, config = subject.environment, subject.config
    asked = (wish.state, wish.action, wish.transitions, wish.seed)
    choice = choose(environment, subject.network, subject.allowed, config.target.n_step, *asked)
    learner = learner_of(subject, target_noise, wish.seed)
    names, anatomy = names_of(environment), dissect(learner, choice.transitions, subject.allowed, comparing)
    return {
        "model": subject.model,
        "environment": environment.describe(),
        "preset": subject.preset,
        "seed": wish.seed if subject.model else config.seed,
        "network": {"kind": config.network.kind, **to_mapping(config.network)},
        "optimizer": to_mapping(config.optimizer),
        "discount": config.discount,
        "double": config.target.double,
        "n_step": config.target.n_step,
        "reward_scale": config.target.reward_scale,
        "target_noise": target_noise,
        "outcome": choice.how,
        "action_names": list(names.actions),
        "state_name": names.state(anatomy.state),
        "next_state_name": names.state(anatomy.td_target.next_state),
        **anatomy.to_dict(),
    }


def learner_of(subject: Subject, target_noise: float | None, seed: int | None) -> Any:
    """Return a fresh learner; its target network equals the online one up to the noise."""
    import keras
    import numpy as np

    from deeptaxi.learning.learner import Learner

    target = keras.models.clone_model(subject.network)
    learner = Learner(subject.network, target, subject.config, copies=1)
    if target_noise is not None:
        rng = np.random.default_rng([seed or 0, 1])
        target.set_weights([w + rng.normal(0, target_noise, w.shape).astype(w.dtype) for w in target.get_weights()])
    return learner
