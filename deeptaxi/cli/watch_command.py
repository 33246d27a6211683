"""``deeptaxi watch``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deeptaxi.cli import options
from deeptaxi.cli.options import model_options

if TYPE_CHECKING:
    from deeptaxi.api.run import Run
    from deeptaxi.evaluation.watching import EpisodeStep


@click.command("watch")
@model_options("play on")
@options.objective_discount_option("the run's own, else the table's, else 0.99")
@click.option("--episodes", type=click.IntRange(1), default=1, show_default=True, help="Episodes to play.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the environment.")
@click.option("--state", "start", type=int, metavar="S", help="State to start in.  [default: the environment's starts]")
@click.option("--max-steps", type=click.IntRange(1), help="Steps before an episode is stopped.  [default: the horizon]")
@click.option("--speed", type=options.FiniteRange(0.1, 1000), default=4.0, show_default=True, help="Steps per second.")
@click.option("--step", "by_key", is_flag=True, help="Wait for a key at every step; q ends.")
@click.option("--plain", is_flag=True, help="Print the steps one below the other, without colors or pauses.")
@click.option("--gif", type=options.PATH, metavar="FILE", help="Write the environment's pictures to FILE instead.")
@options.force_option
@options.json_option
@options.shared_options
def command(
    model: Path,
    env: str | None,
    env_args: dict[str, Any],
    time_limit: int | None,
    trust_env: bool,
    objective_discount: float | None,
    speed: float,
    by_key: bool,
    plain: bool,
    gif: Path | None,
    force: bool,
    as_json: bool,
    **show: Any,
) -> None:
    """Play episodes of MODEL's greedy policy, and show the Q values in each state.

    MODEL is a run folder or a model file that `deeptaxi evaluate` takes.

    Each step shows the environment's own drawing, if it has one, and the Q value of every action as a bar. ▶ marks the
    greedy action, = those tied with it to 1e-6, and ✓ those that are optimal, if a transition table is known.
    """
    check_keys(by_key)
    if gif is not None:
        from deeptaxi.api.play import check_gif

        check_gif(gif, force)
    from deeptaxi.api.load import load
    from deeptaxi.api.play import draws_text

    run = load(model, env, env_args=env_args, time_limit=time_limit, trust_env=trust_env)
    show |= {"state": show.pop("start"), "objective_discount": objective_discount}
    episode_steps: Iterable[EpisodeStep]
    if gif is not None:
        episode_steps = run.film(gif, speed=speed, force=force, **show)
    else:
        episode_steps = run.play(**show, render_mode="ansi" if draws_text(run) else None)
    if as_json:
        options.print_json(
            {"model": run.name, **described(run, show["seed"]), "episodes": describe_steps(episode_steps)}
        )
    elif gif is not None:
        show_endings(episode_steps, gif)
    else:
        perform(episode_steps, run, plain, None if by_key else speed)


def check_keys(by_key: bool) -> None:
    """Reject ``--step`` without a terminal to read keys from."""
    from deeptaxi.errors import UsageError

    if by_key and not sys.stdin.isatty():
        raise UsageError("--step waits for a key, which needs a terminal: leave it out")


def described(run: Run, seed: int) -> dict[str, Any]:
    """Return the part of the JSON besides the episodes."""
    from deeptaxi.mdp.describe import names_of

    return {
        "environment": run.environment.describe(),
        "seed": seed,
        "actions": list(names_of(run.environment).actions),
    }


def describe_steps(episode_steps: Iterable[EpisodeStep]) -> list[dict[str, Any]]:
    """Return the episodes as data: state, action and values of each step, and how each episode ended."""
    episodes: list[dict[str, Any]] = []
    for step in episode_steps:
        if step.reward is None:
            episodes.append({"return": 0.0, "length": 0, "ending": None, "loop": None, "steps": []})
        episode = episodes[-1]
        if episode["steps"]:
            episode["steps"][-1] |= {"reward": step.reward, "next_state": step.state}
        if step.ending is None:
            episode["steps"].append(
                {
                    "state": step.state,
                    "action": step.action,
                    "q_values": None if step.q_values is None else step.q_values.tolist(),
                    "optimal_actions": None if step.optimal is None else step.optimal.nonzero()[0].tolist(),
                }
            )
        episode |= {"return": step.total, "length": step.step, "ending": step.ending, "loop": step.loop}
    return episodes


def show_endings(episode_steps: Iterable[EpisodeStep], gif: Path) -> None:
    """Print how the episodes ended and where the GIF is."""
    from deeptaxi.display import console, player

    screen = console.out()
    for step in episode_steps:
        if step.ending is not None:
            screen.print(player.ending(step), soft_wrap=True)
    screen.print(f"Wrote {gif}.", soft_wrap=True)


def perform(episode_steps: Iterable[EpisodeStep], run: Run, plain: bool, speed: float | None) -> None:
    """Show the episodes: each step in place on a terminal, else one below the other."""
    from deeptaxi.display import console, player
    from deeptaxi.mdp.describe import names_of

    screen, names = console.out(), names_of(run.environment)
    if plain or not screen.is_terminal:
        status: Any = player.Page(screen, names)
    else:
        status = player.Stage(screen, names)
    with status:
        for number, step in enumerate(episode_steps):
            if number == 0:
                screen.print(player.legend(step.optimal is not None, step.q_values is not None), soft_wrap=True)
            status.show(step)
            if speed is not None:
                time.sleep(1 / speed if status.waits else 0)
            elif step.ending is None and click.getchar() == "q":
                return
