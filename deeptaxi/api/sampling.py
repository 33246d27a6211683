"""Sample episodes of a run; at the end of a training, within a budget.

After a training, the run is saved first, so a failing environment, a signal or a lack of time costs only the episodes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium

from deeptaxi.api.run_data import RunData
from deeptaxi.api.status import status
from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation.episodes import Episodes, play
from deeptaxi.mdp.environment import Env, Environment
from deeptaxi.metrics import Warned
from deeptaxi.storage.runs import add_episodes

Kind = TypeVar("Kind", bound=RunData)
COUNTS = (1_000, 100, 10)  # episodes to try, fewer if more would take too long
STEPS, SECONDS = 200_000, 2.0  # budget for each of these counts
SEED = 0
LEAST_STEPS, STEPS_EACH = 500_000, 100  # step budget of requested episodes: minimum, and per episode
UNSAMPLED = "no-episodes"  # name of the finding


class BudgetSpentError(DeepTaxiError):
    """The budget of steps or seconds is exhausted."""


class StoppedError(DeepTaxiError):
    """The user asked to stop."""


class Budget:
    """A budget of steps and seconds for episodes, shared by vectorized environments."""

    def __init__(self, steps: int, seconds: float, stop: Callable[[], bool]) -> None:
        self._steps = steps
        self._deadline = time.monotonic() + seconds
        self._stop = stop

    def spend(self) -> None:
        """Spend a step.

        Raises:
            BudgetSpentError: no step or no time is left.
            StoppedError: the user asked to stop.
        """
        self._steps -= 1
        if self._stop():
            raise StoppedError("the training was stopped")
        if self._steps < 0 or time.monotonic() > self._deadline:
            raise BudgetSpentError(f"{COUNTS[-1]} episodes take too long here: `deeptaxi evaluate` plays them")


class Limited(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that takes its steps from a shared budget."""

    def __init__(self, env: Env, budget: Budget) -> None:
        super().__init__(env)
        self._budget = budget

    def step(self, action: Any) -> Any:
        """Spend a step of the budget and take it."""
        self._budget.spend()
        return self.env.step(action)


def add_sampled_episodes(run: Kind, stop: Callable[[], bool], warn: Callable[[Warned], object]) -> Kind:
    """Add sampled episodes to a run that has no exact verdict.

    Args:
        run: the run, already saved if it is to be.
        stop: whether the user asked to stop.
        warn: called with a warning if episodes could not be played or saved.
    """
    if run.environment.table is not None or run.finished is None:
        return run
    try:
        played = sample_within_budget(run, stop).to_dict()
    except DeepTaxiError as error:
        warn(Warned(run.finished.updates, UNSAMPLED, f"{UNSAMPLED}: {error}"))
        return dataclasses.replace(run, episodes_unavailable=str(error))
    try:
        if run.folder is not None:
            add_episodes(run.folder, played)
    except DeepTaxiError as error:
        warn(Warned(run.finished.updates, UNSAMPLED, f"{UNSAMPLED}: in the card: {error}"))
    return dataclasses.replace(run, episodes=played)


def sample_within_budget(run: RunData, stop: Callable[[], bool]) -> Episodes:
    """Play as many episodes as the budget allows.

    Raises:
        DeepTaxiError: the environment or network failed, training was stopped, or episodes take too long.
    """
    if stop() or run.failure:
        raise StoppedError("the training was stopped" if stop() else "the training failed")
    for count in COUNTS[:-1]:
        try:
            return play(limit_steps(run.environment, stop), run.policy, count, SEED)
        except BudgetSpentError:
            continue
    return play(limit_steps(run.environment, stop), run.policy, COUNTS[-1], SEED)


def limit_steps(environment: Environment, stop: Callable[[], bool]) -> Environment:
    """Return an environment whose instances share one budget."""
    budget = Budget(STEPS, SECONDS, stop)

    def make(*words: Any, **named: Any) -> Env:
        return Limited(environment.make(*words, **named), budget)

    return dataclasses.replace(environment, make=make)


def sample_episodes(run: RunData, count: int, seed: int) -> Episodes | None:
    """Play episodes with the greedy policy; return None if `count` is 0."""
    policy = run.policy
    if count == 0:
        return None
    with status(f"playing {count:,} episodes …"):
        return play(run.environment, policy, count, seed, max(LEAST_STEPS, STEPS_EACH * count))
