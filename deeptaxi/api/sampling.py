"""The sampled verdict at the end of a training, where there is no exact one.

The run is kept before an episode is played: an environment that fails, a signal or a lack of time costs only them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import gymnasium

from deeptaxi.api.conduct import Conduct
from deeptaxi.api.runs import Run
from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation.episodes import Episodes, play
from deeptaxi.mdp.environment import Env, Environment
from deeptaxi.metrics import Warned
from deeptaxi.storage.runs import add_episodes

COUNTS = (1_000, 100, 10)  # episodes: fewer where so many take too long
STEPS, SECONDS = 200_000, 2.0  # that may be spent on each of these counts
SEED = 0
UNSAMPLED = "no-episodes"  # the finding that no episodes could be played


class SpentError(DeepTaxiError):
    """The steps or the seconds that were to be spent are spent."""


class StoppedError(DeepTaxiError):
    """The user does not want to wait."""


class Budget:
    """Steps and seconds to spend on episodes, over all copies of an environment."""

    def __init__(self, steps: int, seconds: float, stop: Callable[[], bool]) -> None:
        self._steps = steps
        self._deadline = time.monotonic() + seconds
        self._stop = stop

    def spend(self) -> None:
        """Spend a step.

        Raises:
            SpentError: none is left, or the time is over.
            StoppedError: the user has had enough.
        """
        self._steps -= 1
        if self._stop():
            raise StoppedError("the training was stopped")
        if self._steps < 0 or time.monotonic() > self._deadline:
            raise SpentError(f"{COUNTS[-1]} episodes take too long here: `deeptaxi evaluate` plays them")


class Limited(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A copy of an environment whose steps come out of a budget."""

    def __init__(self, env: Env, budget: Budget) -> None:
        super().__init__(env)
        self._budget = budget

    def step(self, action: Any) -> Any:
        """Spend a step, and make it."""
        self._budget.spend()
        return self.env.step(action)


def with_episodes(run: Run, conduct: Conduct, remark: Callable[[Warned], object]) -> Run:
    """Return the run of a training with the episodes that its policy plays, where there is no exact verdict.

    Args:
        run: which is kept already, if it is to be.
        conduct: of the training; its `stop` ends the playing.
        remark: called with a warning where episodes could not be played or kept.
    """
    if run.environment.table is not None or run.finished is None:
        return run
    try:
        played = sampled(run, conduct.stop).to_dict()
    except DeepTaxiError as error:
        remark(Warned(run.finished.updates, UNSAMPLED, f"{UNSAMPLED}: {error}"))
        return dataclasses.replace(run, episodes_unavailable=str(error))
    try:
        if run.folder is not None:
            add_episodes(run.folder, played)
    except DeepTaxiError as error:
        remark(Warned(run.finished.updates, UNSAMPLED, f"{UNSAMPLED}: in the card: {error}"))
    return dataclasses.replace(run, episodes=played)


def sampled(run: Run, stop: Callable[[], bool]) -> Episodes:
    """Play as many episodes as there is time for.

    Raises:
        DeepTaxiError: the environment or the network failed, the training was stopped, or episodes take too long.
    """
    if stop() or run.failure:
        raise StoppedError("the training was stopped" if stop() else "the training broke off")
    for count in COUNTS[:-1]:
        try:
            return play(limited(run.environment, stop), run.policy, count, SEED)
        except SpentError:
            continue
    return play(limited(run.environment, stop), run.policy, COUNTS[-1], SEED)


def limited(environment: Environment, stop: Callable[[], bool]) -> Environment:
    """Return an environment whose copies share one budget."""
    budget = Budget(STEPS, SECONDS, stop)

    def make(*words: Any, **named: Any) -> Env:
        return Limited(environment.make(*words, **named), budget)

    return dataclasses.replace(environment, make=make)
