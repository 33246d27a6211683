"""What states and actions are called.

Names come from where they are written down: a transition table's `state_names` and `action_names`, or what
Gymnasium's own toy-text environments document. Anything else is called by its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.envs.toy_text.blackjack import BlackjackEnv
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv

from deeptaxi.errors import printable
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.foreign import blaming, closing
from deeptaxi.mdp.layout import factors, inside
from deeptaxi.mdp.table import Ints

ACTIONS = {
    TaxiEnv: ("south", "north", "east", "west", "pick up", "drop off"),
    FrozenLakeEnv: ("left", "down", "right", "up"),
    CliffWalkingEnv: ("up", "right", "down", "left"),
    BlackjackEnv: ("stick", "hit"),
}
STOPS = ("red", "green", "yellow", "blue")  # of Taxi


@dataclass(frozen=True)
class Names:
    """The names of an environment's states and actions.

    Attributes:
        actions: `[A]` texts, each different from the others.
        state: the name of a state, in a few words; `f"state {s}"` where it has none.
    """

    actions: tuple[str, ...]
    state: Callable[[int], str]


def names_of(environment: Environment) -> Names:
    """Return the names of an environment's states and actions."""
    with blaming(environment.config.id), closing(environment.make()) as env:
        inner = inside(env)
    table, sizes = environment.table, factors(environment)
    actions = next((names for cls, names in ACTIONS.items() if isinstance(inner, cls)), ())
    if table is not None and table.action_names is not None:
        actions = tuple(map(one_line, table.action_names))
    if len(set(actions)) != environment.actions:
        actions = tuple(f"action {action}" for action in range(environment.actions))
    return Names(actions, state_namer(environment, inner, sizes))


def one_line(name: str) -> str:
    """Return a name from a file in one line, without what a terminal would obey."""
    return " ".join(printable(name).split())


def state_namer(environment: Environment, inner: Any, sizes: tuple[int, ...] | None) -> Callable[[int], str]:
    """Return what names a state of the environment, whose innermost part is `inner`."""
    table = environment.table
    if table is not None and table.state_names is not None:
        given = table.state_names
        return lambda state: one_line(given[state])
    if sizes is None:
        return lambda state: f"state {state}"
    describe = next((found for cls, found in STATES.items() if isinstance(inner, cls)), None)
    firsts = [first for _, first in environment.codec.layout]

    def name(state: int) -> str:
        parts: Ints = np.array(np.unravel_index(state, sizes))
        if describe is not None:
            return describe(*parts.tolist())
        shown = parts + firsts if len(firsts) == len(parts) else parts
        return f"({', '.join(map(str, shown))})"

    return name


def taxi_state(row: int, column: int, passenger: int, destination: int) -> str:
    """Name a state of Taxi."""
    where = "aboard" if passenger == len(STOPS) else f"at {STOPS[passenger]}"
    return f"taxi in row {row}, column {column}, passenger {where}, destination {STOPS[destination]}"


def cell(row: int, column: int) -> str:
    """Name a state that is a place on a map."""
    return f"row {row}, column {column}"


def blackjack_state(total: int, dealer: int, ace: int) -> str:
    """Name a state of Blackjack."""
    return f"sum {total}, dealer shows {dealer}, {'a' if ace else 'no'} usable ace"


STATES: dict[type[Any], Callable[..., str]] = {
    TaxiEnv: taxi_state,
    FrozenLakeEnv: cell,
    CliffWalkingEnv: cell,
    BlackjackEnv: blackjack_state,
}
