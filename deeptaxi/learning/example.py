"""Choose the transitions to explain: given, looked up in a table, sampled from it, or played.

An n-step target needs n consecutive transitions, or fewer if the episode ends. The first action is given; later ones
are greedy with respect to the online network. (During training some are random, and end the sum: see `recipe`.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from deeptaxi.errors import UsageError
from deeptaxi.io.safe_load import is_a
from deeptaxi.mdp import planning
from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.environment import Env, Environment
from deeptaxi.mdp.spaces import brief
from deeptaxi.mdp.table import Bools, TransitionTable
from deeptaxi.network.tabulate import tabulate

WARM_UP = 20  # random steps at most before a played transition

Policy = Callable[[int], int]  # state to action


@dataclass(frozen=True)
class Transition:
    """One step of an episode; `probability` is that of its outcome, None if unknown."""

    state: int
    action: int
    reward: float
    next_state: int
    terminated: bool
    truncated: bool = False
    probability: float | None = None


@dataclass(frozen=True)
class Choice:
    """Consecutive transitions, and a short description of their source."""

    transitions: list[Transition]
    how: str


def choose(
    environment: Environment,
    network: keras.Model,
    allowed: Bools,
    n: int,
    state: int | None = None,
    action: int | None = None,
    given: Sequence[tuple[Any, ...]] = (),
    seed: int | None = None,
) -> Choice:
    """Return up to n transitions: those in `given`, else from `state`, else random ones.

    Args:
        environment: the environment.
        network: the online network, whose greedy actions are taken unless an action is given.
        allowed: bool `[S, A]`.
        n: of the n-step target.
        state: of the first transition, or None.
        action: of the first transition; None for the greedy one.
        given: explicit transitions, ``(state, action, reward, next state, terminated)``.
        seed: random seed; None for the likeliest outcomes if `state` is given, else for 0.

    Raises:
        UsageError: the requested state, action or transitions do not exist.
    """
    if given:
        steps = [Transition(*row) for row in given]
        check_sequence(steps, environment, allowed, n)
        return Choice(steps, "as given")
    q_values = np.where(allowed, tabulate(network), -np.inf)

    def act(reached: int) -> int:
        return int(q_values[reached].argmax())

    table, rng = environment.table, np.random.default_rng(seed or 0)
    if state is not None:
        check_pair(environment, allowed, state, action)
        table = table_to_look_in(environment)
        check_goes_on(table, state)
        first = act(state) if action is None else action
        how = "the most likely in the table" if seed is None else f"drawn from the table with seed {seed}"
        return Choice(looked_up(table, state, first, n, act, None if seed is None else rng), how)
    if table is None:
        return Choice(play_transitions(environment, allowed, n, act, rng), f"played with seed {seed or 0}")
    pair = random_pair(table, allowed, rng)
    return Choice(looked_up(table, *pair, n, act, rng), f"drawn from the table with seed {seed or 0}")


def table_to_look_in(environment: Environment) -> TransitionTable:
    """Return the transition table, or raise a `UsageError` if it is missing."""
    if environment.table is None:
        raise UsageError(
            f"{environment.config.id} has no transition table to look the outcome up in "
            f"({environment.table_missing}): give --transition S,A,R,S2[,terminated], or --random to play one"
        )
    return environment.table


def check_pair(environment: Environment, allowed: Bools, state: int, action: int | None) -> None:
    """Raise a `UsageError` if the state or action does not exist, or the mask `[S, A]` excludes the action."""
    check_range("state", state, environment.states, environment.config.id)
    if action is None:
        return
    check_range("action", action, environment.actions, environment.config.id)
    if not allowed[state, action]:
        rest = ", ".join(map(str, np.flatnonzero(allowed[state])))
        raise UsageError(f"the action mask excludes action {action} in state {state}: allowed there is {rest}")


def check_range(name: str, value: int, count: int, where: str) -> None:
    """Raise a `UsageError` if a state or action does not exist; `name` is one of these two words."""
    if not is_a(value, int | np.integer):
        raise UsageError(f"{name} {brief(value)}: expected a whole number, not an observation of several parts")
    if not 0 <= value < count:
        raise UsageError(f"{name} {value} does not exist: {where} has {name}s 0 to {count - 1}")


def check_sequence(given: Sequence[Transition], environment: Environment, allowed: Bools, n: int) -> None:
    """Reject transitions that are not consecutive, or not as many as an n-step target needs.

    Raises:
        UsageError: the transitions are invalid.
    """
    for item in given:
        check_pair(environment, allowed, item.state, item.action)
        check_range("state", item.next_state, environment.states, environment.config.id)
    for one, other in itertools.pairwise(given):
        if one.terminated:
            raise UsageError("nothing follows a transition that terminated: give it as the last --transition")
        if other.state != one.next_state:
            raise UsageError(
                f"the transitions do not follow each other: one leads to state {one.next_state}, "
                f"the next starts in state {other.state}"
            )
    if len(given) > n or (len(given) < n and not given[-1].terminated):
        wanted = "one --transition" if n == 1 else f"--transition {n} times, in a row, or until one terminated"
        raise UsageError(f"--n-step {n} takes {wanted}; received {len(given)}")


def terminal_states(table: TransitionTable) -> Bools:
    """Mark the terminal states, bool `[S]`: termination leads there, and no episode continues from them."""
    ends = np.zeros(table.states, np.bool_)
    ends[table.next_state[table.terminated & (table.probability > 0)]] = True
    return ends & ~planning.reachable(table)


def check_goes_on(table: TransitionTable, state: int) -> None:
    """Raise a `UsageError` if `state` is terminal: no update starts there."""
    if terminal_states(table)[state]:
        raise UsageError(
            f"state {state} is terminal: episodes end there, so it is only ever a next state; "
            "choose another --state, or write a --transition down"
        )


def outcome(table: TransitionTable, state: int, action: int, rng: np.random.Generator | None) -> Transition:
    """Return one outcome of (state, action): sampled if `rng` is given, else the likeliest, the first on ties."""
    chances = table.probability[state, action]
    k = int(np.argmax(chances)) if rng is None else int(rng.choice(len(chances), p=chances))
    entry = (state, action, k)
    return Transition(
        state,
        action,
        float(table.reward[entry]),
        int(table.next_state[entry]),
        bool(table.terminated[entry]),
        probability=float(chances[k]),
    )


def looked_up(
    table: TransitionTable, state: int, action: int, n: int, act: Policy, rng: np.random.Generator | None
) -> list[Transition]:
    """Return n transitions from (state, action), or up to termination; `rng` as for `outcome`."""
    steps = [outcome(table, state, action, rng)]
    while len(steps) < n and not steps[-1].terminated:
        reached = steps[-1].next_state
        steps.append(outcome(table, reached, act(reached), rng))
    return steps


def random_pair(table: TransitionTable, allowed: Bools, rng: np.random.Generator) -> tuple[int, int]:
    """Sample a state that an episode may visit, and an action that is `allowed` `[S, A]` there."""
    state = int(rng.choice(np.flatnonzero(planning.reachable(table))))
    return state, int(rng.choice(np.flatnonzero(allowed[state])))


def play_transitions(
    environment: Environment, allowed: Bools, n: int, act: Policy, rng: np.random.Generator
) -> list[Transition]:
    """Play n transitions, or up to the end of an episode, after some random steps; the first action is random too."""
    with blaming(environment.config.id), closing(environment.make()) as env:
        state = state_of(environment, env.reset(seed=int(rng.integers(2**31))))
        for _ in range(rng.integers(WARM_UP)):
            step = step_environment(environment, env, state, int(rng.choice(np.flatnonzero(allowed[state]))))
            over = step.terminated or step.truncated
            state = state_of(environment, env.reset()) if over else step.next_state
        steps = [step_environment(environment, env, state, int(rng.choice(np.flatnonzero(allowed[state]))))]
        while len(steps) < n and not (steps[-1].terminated or steps[-1].truncated):
            reached = steps[-1].next_state
            steps.append(step_environment(environment, env, reached, act(reached)))
    return steps


def state_of(environment: Environment, answer: tuple[Any, ...]) -> int:
    """Return the state of an answer of ``reset`` or ``step``."""
    return int(environment.codec.encode(answer[0]))


def step_environment(environment: Environment, env: Env, state: int, action: int) -> Transition:
    """Step the environment with `action`."""
    answer = env.step(action + environment.first_action)
    _, reward, terminated, truncated, _ = answer
    return Transition(
        state,
        action,
        float(reward),
        state_of(environment, answer),
        bool(terminated),
        bool(truncated) and not terminated,
    )
