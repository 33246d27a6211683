"""Play episodes of a run step by step, and write them as animations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from deeptaxi.api.run_data import RunData
from deeptaxi.errors import UsageError
from deeptaxi.evaluation.watching import EpisodeStep, Show, render_modes, watch
from deeptaxi.io.atomic import check_free, write_atomic
from deeptaxi.mdp.planning import optimal_actions

COLORS = 128
LAST_MILLISECONDS = 1500  # how long the last frame of an episode is shown


class Animation:
    """An animation; frames are quantized when added, because a long episode has thousands.

    Args:
        speed: frames per second.
    """

    def __init__(self, speed: float) -> None:
        self._milliseconds = round(1000 / speed)
        self._pictures: list[Image.Image] = []
        self._durations: list[int] = []

    def add(self, frame: Any, last: bool) -> None:
        """Add a frame, uint8 `[height, width, 3]`; `last` marks the final frame of an episode."""
        self._pictures.append(Image.fromarray(frame).quantize(COLORS))
        self._durations.append(LAST_MILLISECONDS if last else self._milliseconds)

    def write(self, path: Path, force: bool = True) -> None:
        """Write the frames as an endless loop; `force` overwrites an existing file.

        Raises:
            DeepTaxiError: the file cannot be written.
        """
        first, *others = self._pictures
        with write_atomic(path, force) as aside:
            first.save(aside, save_all=True, append_images=others, duration=self._durations, loop=0)


SLOWEST, FASTEST = 0.1, 1000.0  # steps per second


def play(
    run: RunData,
    discount: float | None = None,
    episodes: int = 1,
    seed: int = 0,
    state: int | None = None,
    max_steps: int | None = None,
    render_mode: str | None = None,
) -> Iterator[EpisodeStep]:
    """Play with the greedy policy; actions are marked as optimal at the objective's `discount`."""
    reference = run.reference(discount)
    optimal = None if reference is None else optimal_actions(reference.optimum.q)
    return watch(run.environment, run.decisions, Show(episodes, seed, state, max_steps, render_mode), optimal)


def draws_text(run: RunData) -> bool:
    """Return whether the environment renders itself as text."""
    return "ansi" in render_modes(run.environment)


def film(run: RunData, path: Path, speed: float = 4.0, force: bool = False, **show: Any) -> list[EpisodeStep]:
    """Play, write the environment's frames as a GIF, and return the steps without their frames.

    Raises:
        UsageError: the file cannot be written as a GIF, or the environment renders no images.
    """
    check_gif(path, force)
    if not SLOWEST <= speed <= FASTEST:
        raise UsageError(f"speed = {speed}: expected steps per second, from {SLOWEST:g} to {FASTEST:g}")
    if "rgb_array" not in render_modes(run.environment):
        raise UsageError(f"{run.environment.config.id} renders no images for --gif; leave it out")
    discount = show.pop("objective_discount", None)
    return filmed(play(run, discount, **{**show, "render_mode": "rgb_array"}), path, speed, force)


def check_gif(path: Path, force: bool) -> None:
    """Reject a file that cannot be written as a GIF, before anything is played.

    Raises:
        UsageError: its name does not end in .gif, or it exists.
    """
    if path.suffix.lower() != ".gif":
        raise UsageError(f"--gif {path}: expected a name that ends in .gif")
    check_free(path, force, replaceable=path.is_file(), option="--gif")


def filmed(episode_steps: Iterator[EpisodeStep], path: Path, speed: float, force: bool = True) -> list[EpisodeStep]:
    """Write the frames of the steps as a GIF; return the steps without their frames."""
    animation, passed = Animation(speed), []
    for step in episode_steps:
        animation.add(step.frame, last=step.ending is not None)
        passed.append(dataclasses.replace(step, frame=None))
    animation.write(path, force)
    return passed
