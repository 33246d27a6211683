"""Episodes of the greedy policy, moment by moment, for someone who watches.

A greedy policy does the same in the same state, so it loops forever once it is in a state where it was before, and
no step in between could have had another outcome. The transition table tells which steps those are.
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
from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.describe import inside
from deeptaxi.mdp.environment import Env, Environment
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.spaces import brief
from deeptaxi.mdp.table import Bools, Ints, TransitionTable

# pygame greets on standard output, and looks for a screen and loudspeakers where frames need neither.
SILENT = {"PYGAME_HIDE_SUPPORT_PROMPT": "1", "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}


class Passed(NamedTuple):
    """What an episode has come to; `Moment` has the meanings."""

    step: int
    state: int
    reward: float | None
    total: float
    loop: int | None
    ending: str | None


@dataclass(frozen=True)
class Moment:
    """Where the agent stands, and what it is about to do.

    Attributes:
        episode: from 1.
        step: how many steps of the episode were made.
        state: s.
        reward: of the step that led here; None at the start.
        total: the sum of the rewards of the episode so far.
        loop: the step at which the agent was here before, if it will come back forever.
        ending: ``"terminated"``, ``"truncated"``, ``"loop"`` or ``"steps"`` once the episode is over.
        q_values: `[A]`, −∞ where the agent may not act.
        action: the greedy one.
        optimal: which actions are optimal, `[A]`, or None without a table.
        q_span: how far the Q values of all states lie apart, the allowed ones.
        frame: what the environment renders: a text, a picture `[height, width, 3]`, or None.
    """

    episode: int
    step: int
    state: int
    reward: float | None
    total: float
    loop: int | None
    ending: str | None
    q_values: NDArray[np.floating]
    action: int
    optimal: Bools | None
    q_span: float
    frame: Any


@dataclass(frozen=True)
class Show:
    """What is to be played.

    Attributes:
        episodes: how many.
        seed: of the environment.
        start: the state that each begins in; None for the environment's own starts.
        max_steps: steps after which an episode is over in any case; None for the horizon.
        render_mode: Gymnasium's ``"ansi"`` or ``"rgb_array"``; None for no frames.
    """

    episodes: int = 1
    seed: int = 0
    start: int | None = None
    max_steps: int | None = None
    render_mode: str | None = None


def watch(
    environment: Environment, q_values: NDArray[np.floating], show: Show, optimal: Bools | None = None
) -> Generator[Moment]:
    """Play by the greedy policy of `q_values` `[S, A]`; yield every moment, one with an `ending` last in each episode.

    A time limit of the environment ends an episode. Without one a policy that loops is stopped where that is certain,
    else at the horizon.

    What is asked for is checked at once, and played as the moments are asked for.

    Raises:
        UsageError: the start state does not exist, or cannot be chosen; the environment does not draw so; frames need
            a package that is missing, which is known once the first is asked for.
        DeepTaxiError: the environment failed.
    """
    check(environment, show)
    policy = policy_of(q_values, environment.table.action_mask if environment.table else None)
    return moments(environment, q_values, policy, show, optimal)


def check(environment: Environment, show: Show) -> None:
    """Refuse what cannot be played.

    Raises:
        UsageError: a number is out of range, the environment cannot be put into the state, or does not draw so.
    """
    for name, value, least in (
        ("episodes", show.episodes, 1),
        ("seed", show.seed, 0),
        ("max_steps", show.max_steps, 1),
    ):
        if value is not None and (not is_whole(value) or value < least):
            raise UsageError(f"{name} = {brief(value)}: expected a whole number from {least}")
    start = show.start
    if start is not None and (not is_whole(start) or not 0 <= start < environment.states):
        raise UsageError(f"--state {brief(start)}: expected a state from 0 to {environment.states - 1}")
    if show.render_mode is not None and show.render_mode not in (modes := render_modes(environment)):
        known = f"expected one of {', '.join(modes)}" if modes else f"{environment.config.id} draws nothing"
        raise UsageError(f"render_mode = {brief(show.render_mode)}: {known}")
    if start is not None:
        with open_for_watching(environment, None) as env:
            env.reset(seed=show.seed)
            start_in(env, environment, start)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, and no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def moments(
    environment: Environment, q_values: NDArray[np.floating], policy: Ints, show: Show, optimal: Bools | None
) -> Generator[Moment]:
    """Play as `watch` does what has been checked."""
    known = q_values[np.isfinite(q_values)]
    span = float(known.max()) - float(known.min())
    with open_for_watching(environment, show.render_mode) as env:
        for episode in range(1, show.episodes + 1):
            start = begin(env, environment, show, show.seed if episode == 1 else None)
            for passed in play(env, environment, policy, start, show.max_steps or environment.horizon):
                yield Moment(
                    episode,
                    *passed,
                    q_values=q_values[passed.state],
                    action=int(policy[passed.state]),
                    optimal=None if optimal is None else optimal[passed.state],
                    q_span=span,
                    frame=env.render() if show.render_mode else None,
                )


def play(env: Env, environment: Environment, policy: Ints, state: int, limit: int) -> Generator[Passed]:
    """Play one episode of `policy` `[S]` from `state`, in a copy of the environment that is there already."""
    met: dict[int, int] = {}  # states to the steps at which they were met since the last step that was uncertain
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
        observation, given, terminated, truncated, _ = env.step(policy[state] + environment.first_action)
        state, step, reward = int(environment.codec.encode(observation)), step + 1, float(given)
        total += reward
        ending = "terminated" if terminated else "truncated" if truncated else None


def certain(table: TransitionTable | None, state: int, action: int) -> bool:
    """Return whether (state, action) has only one outcome."""
    return table is not None and bool((table.probability[state, action] > 0).sum() == 1)


def start_in(env: Env, environment: Environment, state: int) -> None:
    """Put a copy of the environment, just reset, into a state.

    Raises:
        UsageError: it has no place for that which we know.
    """
    inner = inside(env)
    if isinstance(inner, TableEnv):
        inner.state = state
    elif isinstance(getattr(inner, "s", None), int | np.integer) and hasattr(inner, "P"):  # Gymnasium's toy-text
        inner.s = state + environment.codec.layout[0][1]
    else:
        raise UsageError(
            f"--state: {environment.config.id} cannot be put into a state; that is possible with transition tables, "
            "and with environments that keep their state in `s`, as Taxi, FrozenLake and CliffWalking do"
        )


def begin(env: Env, environment: Environment, show: Show, seed: int | None) -> int:
    """Reset a copy of the environment, and put it into the state that is asked for; return its state."""
    observation, _ = env.reset(seed=seed)
    if show.start is None:
        return int(environment.codec.encode(observation))
    start_in(env, environment, show.start)
    return show.start


def render_modes(environment: Environment) -> tuple[str, ...]:
    """Return Gymnasium's names for what the environment can show."""
    with open_for_watching(environment, None) as env:
        return tuple(str(mode) for mode in (env.metadata or {}).get("render_modes", ()))


@contextmanager
def open_for_watching(environment: Environment, render_mode: str | None) -> Iterator[Env]:
    """Open a copy of the environment; say what to install where its frames need a package that is missing."""
    name = environment.config.id
    for key, value in SILENT.items():
        os.environ.setdefault(key, value)
    with blaming(name):
        try:
            with closing(environment.make(render_mode=render_mode)) as env:
                yield env
        except DependencyNotInstalled as error:
            what = "pip install 'deeptaxi[render]'" if "toy" in str(error) else str(error)
            raise UsageError(f"the frames of {name} need a package that is not installed: {what}") from None
