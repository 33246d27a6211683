"""Episodes of the greedy policy, step by step, for viewing.

A greedy policy always takes the same action in the same state, so it loops forever once it returns to a state and no
step in between could have had another outcome, according to the transition table.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from deeptaxi.errors import UsageError
from deeptaxi.evaluation.exact import policy_of
from deeptaxi.evaluation.rollout import rollout
from deeptaxi.io.safe_load import is_a
from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.describe import inside
from deeptaxi.mdp.environment import Env, Environment
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.spaces import brief
from deeptaxi.mdp.table import Bools, Ints, TransitionTable
from deeptaxi.mdp.vector_env import VectorEnv

# pygame prints a greeting to standard output, and looks for a display and audio device that frames do not need.
SILENT = {"PYGAME_HIDE_SUPPORT_PROMPT": "1", "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}


class Passed(NamedTuple):
    """The progress of an episode; see `EpisodeStep` for the fields."""

    step: int
    state: int
    reward: float | None
    total: float
    loop: int | None
    ending: str | None


@dataclass(frozen=True)
class EpisodeStep:
    """The agent's state and its next action.

    Attributes:
        episode: number of the episode, from 1.
        step: number of steps taken in the episode.
        state: s.
        reward: of the step that led here; None at the start.
        total: the sum of rewards in the episode so far.
        loop: the step of the previous visit to this state, if the policy will return forever; else None.
        ending: ``"terminated"``, ``"truncated"``, ``"loop"`` or ``"steps"`` once the episode is over.
        q_values: `[A]`, −∞ for disallowed actions; None for a policy that has none.
        action: the greedy action.
        optimal: the optimal actions, `[A]`, or None without a table.
        q_span: range of the allowed Q values over all states.
        frame: the rendered frame: text, an image `[height, width, 3]`, or None.
    """

    episode: int
    step: int
    state: int
    reward: float | None
    total: float
    loop: int | None
    ending: str | None
    q_values: NDArray[np.floating] | None
    action: int
    optimal: Bools | None
    q_span: float
    frame: Any


@dataclass(frozen=True)
class Show:
    """The episodes to play.

    Attributes:
        episodes: number of episodes.
        seed: of the environment.
        start: the initial state of each episode; None for the environment's own starts.
        max_steps: maximum number of steps per episode; None for the horizon.
        render_mode: Gymnasium's ``"ansi"`` or ``"rgb_array"``; None for no frames.
    """

    episodes: int = 1
    seed: int = 0
    start: int | None = None
    max_steps: int | None = None
    render_mode: str | None = None


def watch(
    environment: Environment, q_values: NDArray[Any], show: Show, optimal: Bools | None = None
) -> Generator[EpisodeStep]:
    """Play the greedy policy of `q_values` `[S, A]`, or a policy `[S]`, yielding a `EpisodeStep` per step.

    The last one of each episode has an `ending`. The environment's time limit ends an episode. Without one, a looping
    policy is stopped as soon as the loop is certain, else at the horizon.

    Arguments are validated immediately; episodes are played lazily.

    Raises:
        UsageError: the start state does not exist or cannot be set; the render mode is not supported; or, on the first
            iteration, rendering needs a package that is not installed.
        DeepTaxiError: the environment failed.
    """
    check(environment, show)
    policy = policy_of(q_values, environment.table.action_mask if environment.table else None, environment.table)
    return episode_steps(environment, q_values if q_values.ndim > 1 else None, policy, show, optimal)


def check(environment: Environment, show: Show) -> None:
    """Validate what to play.

    Raises:
        UsageError: a number is out of range, the start state cannot be set, or the render mode is not supported.
    """
    for name, value, least in (
        ("episodes", show.episodes, 1),
        ("seed", show.seed, 0),
        ("max_steps", show.max_steps, 1),
    ):
        if value is not None and (not is_a(value, int | np.integer) or value < least):
            raise UsageError(f"{name} = {brief(value)}: expected a whole number from {least}")
    start = show.start
    if start is not None and (not is_a(start, int | np.integer) or not 0 <= start < environment.states):
        raise UsageError(f"--state {brief(start)}: expected a state from 0 to {environment.states - 1}")
    if show.render_mode is not None and show.render_mode not in (modes := render_modes(environment)):
        known = f"expected one of {', '.join(modes)}" if modes else f"{environment.config.id} renders nothing"
        raise UsageError(f"render_mode = {brief(show.render_mode)}: {known}")
    if start is not None:
        with open_for_watching(environment, None) as vector:
            vector.reset(seed=show.seed)
            start_in(vector.envs[0], environment, start)


def episode_steps(
    environment: Environment, q_values: NDArray[np.floating] | None, policy: Ints, show: Show, optimal: Bools | None
) -> Generator[EpisodeStep]:
    """Play as `watch` does, without validation."""
    known = np.zeros(1) if q_values is None else q_values[np.isfinite(q_values)]
    span = float(known.max()) - float(known.min())
    with open_for_watching(environment, show.render_mode) as vector:
        for episode in range(1, show.episodes + 1):
            start = begin(vector, environment, show, show.seed if episode == 1 else None)
            for passed in play(vector, environment, policy, start, show.max_steps or environment.horizon):
                yield EpisodeStep(
                    episode,
                    *passed,
                    q_values=None if q_values is None else q_values[passed.state],
                    action=int(policy[passed.state]),
                    optimal=None if optimal is None else optimal[passed.state],
                    q_span=span,
                    frame=vector.envs[0].render() if show.render_mode else None,
                )


def play(vector: VectorEnv, environment: Environment, policy: Ints, state: int, limit: int) -> Generator[Passed]:
    """Play one episode of `policy` `[S]` in the one environment of `vector`, which is in `state`."""
    steps = rollout(environment, vector, np.array([state]), lambda states: policy[states])
    met: dict[int, int] = {}  # maps states to the steps of their first visit since the last random transition
    step, total = 0, 0.0
    reward: float | None = None
    ending: str | None = None
    while True:
        before = met.setdefault(state, step)
        loop = before if before < step else None
        if ending is None and loop is not None and environment.time_limit is None:
            ending = "loop"
        if ending is None and step >= limit:
            ending = "steps"
        yield Passed(step, state, reward, total, loop if ending != "terminated" else None, ending)
        if ending is not None:
            return
        if not certain(environment.table, state, int(policy[state])):
            met.clear()
        taken = next(steps)
        state, step, reward = int(taken.next_state[0]), step + 1, float(taken.reward[0])
        total += reward
        ending = "terminated" if taken.terminated[0] else "truncated" if taken.truncated[0] else None


def certain(table: TransitionTable | None, state: int, action: int) -> bool:
    """Return whether (state, action) has only one outcome."""
    return table is not None and bool((table.probability[state, action] > 0).sum() == 1)


def start_in(env: Env, environment: Environment, state: int) -> None:
    """Set the state of a newly reset environment.

    Raises:
        UsageError: its state cannot be set.
    """
    inner = inside(env)
    if isinstance(inner, TableEnv):
        inner.state = state
    elif isinstance(getattr(inner, "s", None), int | np.integer) and hasattr(inner, "P"):  # Gymnasium's toy-text
        inner.s = environment.codec.decode(state)
    else:
        raise UsageError(
            f"--state: {environment.config.id} cannot be put into a state; that is possible with transition tables, "
            "and with environments that keep their state in `s`, as Taxi, FrozenLake and CliffWalking do"
        )


def begin(vector: VectorEnv, environment: Environment, show: Show, seed: int | None) -> int:
    """Reset the environment, set the requested start state if any, and return its state."""
    states, _ = vector.reset(seed=seed)
    if show.start is None:
        return int(states[0])
    start_in(vector.envs[0], environment, show.start)
    return show.start


def render_modes(environment: Environment) -> tuple[str, ...]:
    """Return the render modes that the environment supports."""
    with open_for_watching(environment, None) as vector:
        return tuple(str(mode) for mode in (vector.envs[0].metadata or {}).get("render_modes", ()))


@contextmanager
def open_for_watching(environment: Environment, render_mode: str | None) -> Iterator[VectorEnv]:
    """Open a vector of one environment.

    Raises:
        UsageError: rendering needs a package that is not installed; the message says which.
    """
    name = environment.config.id
    for key, value in SILENT.items():
        os.environ.setdefault(key, value)
    with blaming(name):
        try:
            with closing(environment.make_vector(1, masks=False, render_mode=render_mode)) as vector:
                yield vector
        except DependencyNotInstalled as error:
            what = "pip install 'deeptaxi[render]'" if "toy" in str(error) else str(error)
            raise UsageError(f"the frames of {name} need a package that is not installed: {what}") from None
