"""Describe states and actions: the factors of a state number, names, and the map of a grid.

**Factors.** A state number is the row-major index of its parts: with sizes n_1, …, n_F (the *factors*) and parts
p_1, …, p_F,

    s = (… (p_1 · n_2 + p_2) · n_3 + …) · n_F + p_F,    S = n_1 · … · n_F.

**Names** come from a transition table's `state_names` and `action_names`, or from the documentation of Gymnasium's
toy-text environments. States and actions of other environments are numbered.

**Maps.** A state of a grid environment is a cell (row, column), and in Taxi also the passenger's location and
destination: the map is drawn once for each of these, as a *layer*. Row 0 is at the top, column 0 at the left.

All of it is read from an explicit source (a table, an observation's parts, an environment's own attributes), and never
guessed from S.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.toy_text.blackjack import BlackjackEnv
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from deeptaxi.config import NetworkConfig
from deeptaxi.errors import UsageError, printable
from deeptaxi.mdp.contract import Answers, CheckedEnv, blaming, closing
from deeptaxi.mdp.environment import Env, Environment
from deeptaxi.mdp.planning import reachable
from deeptaxi.mdp.table import Ints

# Wrappers that leave observations unchanged.
TRANSPARENT = (
    *(Answers, CheckedEnv, TimeLimit, OrderEnforcing, PassiveEnvChecker),
    *(gymnasium.ActionWrapper, gymnasium.RewardWrapper),
)


def factors(environment: Environment) -> tuple[int, ...] | None:
    """Return the sizes of the parts of a state number, row-major, or None if unknown.

    A state with a single part has no factors: one-hot over the part is one-hot over the state.
    """
    layout = environment.codec.layout
    if environment.table is not None and environment.table.factors is not None:
        found: tuple[int, ...] | None = environment.table.factors
    elif environment.numbering is not None:  # whose numbers are no index of their parts
        return None
    elif len(layout) > 1:
        found = tuple(size for size, _ in layout)
    else:
        with blaming(environment.config.id), closing(environment.make()) as env:
            found = toy_text_factors(env)
    sound = found is not None and len(found) > 1 and math.prod(found) == environment.states
    return found if sound else None


def inside(env: Env) -> Any:
    """Return the environment that makes the observations, without the wrappers that pass them on."""
    while isinstance(env, TRANSPARENT):
        env = env.env
    return env


def toy_text_factors(env: Env) -> tuple[int, ...] | None:
    """Return the factors of Taxi, FrozenLake or CliffWalking, read from the environment; None for any other."""
    inner = inside(env)
    if isinstance(inner, TaxiEnv):  # row, column, passenger's location (the last: aboard), destination
        return inner.max_row + 1, inner.max_col + 1, len(inner.locs) + 1, len(inner.locs)
    if isinstance(inner, FrozenLakeEnv):
        return int(inner.nrow), int(inner.ncol)
    if isinstance(inner, CliffWalkingEnv):
        return tuple(int(size) for size in inner.shape)
    return None


def encoded_factors(environment: Environment, network: NetworkConfig) -> tuple[int, ...] | None:
    """Return the factors that encode the first layer's input; None for one-hot over all states.

    Raises:
        UsageError: a factored encoding is requested, but the factors are unknown.
    """
    if network.encoding == "joint":
        return None
    found = factors(environment)
    if found is None:
        raise UsageError(
            f"{environment.config.id} does not say which parts its states consist of: leave out --encoding factored, "
            "or give an observation of several parts, or a .npz table with 'factors'"
        )
    return found


ACTIONS = {
    TaxiEnv: ("south", "north", "east", "west", "pick up", "drop off"),
    FrozenLakeEnv: ("left", "down", "right", "up"),
    CliffWalkingEnv: ("up", "right", "down", "left"),
    BlackjackEnv: ("stick", "hit"),
}
STOPS = ("red", "green", "yellow", "blue")  # in Taxi


@dataclass(frozen=True)
class Names:
    """The names of an environment's states and actions.

    Attributes:
        actions: `[A]` distinct texts.
        state: returns the name of a state, in a few words; `f"state {s}"` if it has none.
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
    if environment.action_codec.composite:
        actions = tuple(environment.action_codec.name(action) for action in range(environment.actions))
    if len(set(actions)) != environment.actions:
        actions = tuple(f"action {action}" for action in range(environment.actions))
    return Names(actions, state_namer(environment, inner, sizes))


def one_line(name: str) -> str:
    """Return a name from a file on one line, without control characters."""
    return " ".join(printable(name).split())


def state_namer(environment: Environment, inner: Any, sizes: tuple[int, ...] | None) -> Callable[[int], str]:
    """Return a function that names the states of the environment, whose innermost part is `inner`."""
    table = environment.table
    if table is not None and table.state_names is not None:
        given = table.state_names
        return lambda state: one_line(given[state])
    if environment.numbering is not None:
        return lambda state: one_line(environment.codec.name(state))
    describe = next((found for cls, found in STATES.items() if isinstance(inner, cls)), None)
    if describe is None and environment.codec.composite:
        return lambda state: one_line(environment.codec.name(state))
    if sizes is None:
        return lambda state: f"state {state}"

    def name(state: int) -> str:
        parts: Ints = np.array(np.unravel_index(state, sizes))
        return f"({', '.join(map(str, parts))})" if describe is None else describe(*parts.tolist())

    return name


def taxi_state(row: int, column: int, passenger: int, destination: int) -> str:
    """Name a state of Taxi."""
    where = "aboard" if passenger == len(STOPS) else f"at {STOPS[passenger]}"
    return f"taxi in row {row}, column {column}, passenger {where}, destination {STOPS[destination]}"


def cell(row: int, column: int) -> str:
    """Name a cell of a map."""
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


Cell = tuple[int, int]  # row, column
SOUTH, NORTH, EAST, WEST = (1, 0), (-1, 0), (0, 1), (0, -1)
LAKE = {"S": "start", "F": "floor", "H": "hole", "G": "goal"}
ENDS = ("hole", "goal", "cliff")  # kinds of cells where no action is ever chosen


@dataclass(frozen=True, eq=False)
class Layer:
    """The map under one condition.

    Attributes:
        states: the state number of each cell, `[rows, columns]`.
        name: the condition in words; empty if there is only one layer.
        marks: cells marked under this condition: "passenger" or "destination".
    """

    states: Ints
    name: str = ""
    marks: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GridMap:
    """A map and its layers.

    Attributes:
        kinds: the kind of each cell, `[rows][columns]`: "floor", "start", "goal", "hole" or "cliff".
        letters: the letters written on cells.
        walls: pairs of adjacent cells separated by a wall.
        moves: the displacement of each action as (rows, columns), or its name if it does not move. `[A]`
        layers: the arrangement of the layers, `[down][across]`.
        across: what differs between layers side by side, with the value of each.
        down: the same for layers one below the other.
        row: what the rows stand for, with a label for each; empty where they are places.
        column: the same for the columns.
        apart: the states, `[N]`, of layers with so few of them that these are not on the map, by what they share.
    """

    kinds: tuple[tuple[str, ...], ...]
    moves: tuple[Cell | str, ...]
    layers: tuple[tuple[Layer, ...], ...]
    letters: Mapping[Cell, str] = field(default_factory=dict)
    walls: tuple[tuple[Cell, Cell], ...] = ()
    across: tuple[str, tuple[str, ...]] = ("", ("",))
    down: tuple[str, tuple[str, ...]] = ("", ("",))
    row: tuple[str, tuple[str, ...]] = ("", ())
    column: tuple[str, tuple[str, ...]] = ("", ())
    apart: Mapping[str, Ints] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.kinds)

    @property
    def columns(self) -> int:
        """The number of columns."""
        return len(self.kinds[0])

    @property
    def cells(self) -> int:
        """The number of cells of all layers together."""
        return self.rows * self.columns * sum(map(len, self.layers))


def grid_map(environment: Environment) -> GridMap | None:
    """Return the map of Taxi, FrozenLake or CliffWalking, for any arguments; of other environments a chart of parts.

    None for an environment whose states do not have two to four parts.
    """
    with blaming(environment.config.id), closing(environment.make()) as env:
        known = drawn(inside(env))
        found = None if renames_actions(env) else known
    if known is None or environment.numbering is not None:
        return chart_of_parts(environment)
    if found is None or found.cells != environment.states or len(found.moves) != environment.actions:
        return None
    return found


MOST_SIGNS = 6  # actions that a chart has signs for
MOST_CHARTED = 10_000  # states
FEW = 0.1  # of the states that the fullest layers have: fewer are described in words


def chart_of_parts(environment: Environment) -> GridMap | None:
    """Return a map whose rows, columns and layers are the parts of a state, such as Blackjack's sum, card and ace.

    Only values that some state has in which an action is chosen are on it. What the parts are called is taken from the
    names of the states, where these are as many phrases as there are parts.
    """
    sizes = factors(environment)
    if sizes is None or not 2 <= len(sizes) <= 4 or environment.actions > MOST_SIGNS:
        return None
    if environment.table is None or environment.states > MOST_CHARTED:
        return None
    names, table = names_of(environment), environment.table
    states, apart = set_apart(np.flatnonzero(reachable(table, table.action_mask)), sizes, names)
    values = [np.unique(part) for part in np.unravel_index(states, sizes)]
    numbers = np.ravel_multi_index(np.ix_(*values), sizes)
    numbers = numbers.reshape(*numbers.shape, *[1] * (4 - len(sizes)))
    none: tuple[str, tuple[str, ...]] = ("", ("",))
    labels = [label_part(names, numbers, axis, values) for axis in range(len(values))] + [none, none]
    rows, columns, across, down = numbers.shape
    layers = tuple(tuple(Layer(numbers[:, :, x, y]) for x in range(across)) for y in range(down))
    kinds = (("floor",) * columns,) * rows
    row, column, beside, below = labels[:4]
    return GridMap(kinds, names.actions, layers, across=beside, down=below, row=row, column=column, apart=apart)


def set_apart(states: Ints, sizes: tuple[int, ...], names: Names) -> tuple[Ints, dict[str, Ints]]:
    """Return the states `[N]` whose layers are worth a picture, and the others by the part that makes them few."""
    apart: dict[str, Ints] = {}
    for axis in range(2, len(sizes)):
        part = np.unravel_index(states, sizes)[axis]
        values, counts = np.unique(part, return_counts=True)
        for value in values[counts < FEW * counts.max()]:
            found = states[part == value]
            phrases = names.state(int(found[0])).strip("()").split(", ")
            named = len(phrases) == len(sizes) and phrases[axis] != str(value)
            apart[phrases[axis] if named else f"part {axis + 1}: {value}"] = found
        states = states[np.isin(part, values[counts >= FEW * counts.max()])]
    return states, apart


def label_part(names: Names, numbers: Ints, axis: int, values: list[Ints]) -> tuple[str, tuple[str, ...]]:
    """Return what a part of the states is, and the label of each of its values, from the names of the states.

    Args:
        names: the names.
        numbers: states by the values of their parts, four axes.
        axis: the part.
        values: the values of all parts.
    """
    states = np.moveaxis(numbers, axis, 0).reshape(numbers.shape[axis], -1)[:, 0].tolist()
    phrases = [names.state(state).strip("()").split(", ") for state in states]
    if any(len(phrase) != len(values) for phrase in phrases):
        return f"part {axis + 1}:", tuple(map(str, values[axis].tolist()))
    words = [phrase[axis].split(" ") for phrase in phrases]
    common = 0
    while all(len(word) > common + 1 and word[common] == words[0][common] for word in words):
        common += 1
    title = " ".join(words[0][:common]) or ("" if len(words[0]) > 1 else f"part {axis + 1}:")
    return title, tuple(" ".join(word[common:]) for word in words)


def renames_actions(env: Env) -> bool:
    """Whether a wrapper changes the agent's actions before they reach the environment."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.ActionWrapper):
            return True
        env = env.env
    return False


def drawn(inner: Any) -> GridMap | None:
    """Return the map of an environment without its wrappers."""
    if isinstance(inner, TaxiEnv):
        return taxi(inner)
    if isinstance(inner, FrozenLakeEnv):
        return frozen_lake(inner)
    if isinstance(inner, CliffWalkingEnv):
        return cliff_walking(inner)
    return None


def taxi(env: Any) -> GridMap:
    """Return Taxi's map: one layer per passenger location (across) and destination (down)."""
    rows, columns, stops = env.max_row + 1, env.max_col + 1, [(int(row), int(column)) for row, column in env.locs]
    places = (*(f"at {stop}" for stop in STOPS), "aboard")
    numbers = np.arange(rows * columns * len(places) * len(stops)).reshape(rows, columns, len(places), len(stops))

    def layer(passenger: int, destination: int) -> Layer:
        marks = {"destination": stops[destination]}
        if passenger < len(stops):
            marks["passenger"] = stops[passenger]
        title = f"passenger {places[passenger]}, destination {STOPS[destination]}"
        return Layer(numbers[:, :, passenger, destination], title, marks)

    walls = tuple(
        ((row, column), (row, column + 1))
        for row in range(rows)
        for column in range(columns - 1)
        if env.desc[1 + row, 2 * column + 2] != b":"
    )
    return GridMap(
        kinds=(("floor",) * columns,) * rows,
        moves=(SOUTH, NORTH, EAST, WEST, "pick up", "drop off"),
        layers=tuple(tuple(layer(p, d) for p in range(len(places))) for d in range(len(stops))),
        letters={stop: name[0].upper() for stop, name in zip(stops, STOPS, strict=True)},
        walls=walls,
        across=("passenger", places),
        down=("destination", STOPS),
    )


def frozen_lake(env: Any) -> GridMap:
    """Return FrozenLake's map, with start, holes and goal from its `desc`."""
    kinds = tuple(tuple(LAKE.get(letter.decode(), "floor") for letter in row) for row in env.desc)
    return GridMap(kinds, (WEST, SOUTH, EAST, NORTH), single(len(kinds), len(kinds[0])))


def cliff_walking(env: Any) -> GridMap:
    """Return CliffWalking's map: the cliff between the start, at the bottom left, and the goal, at the bottom right."""
    rows, columns = (int(size) for size in env.shape)
    kinds = [["cliff" if cliff else "floor" for cliff in row] for row in env._cliff]  # it has no public name
    row, column = np.unravel_index(int(env.start_state_index), (rows, columns))
    kinds[row][column] = "start"
    kinds[-1][-1] = "goal"
    return GridMap(tuple(map(tuple, kinds)), (NORTH, EAST, SOUTH, WEST), single(rows, columns))


def single(rows: int, columns: int) -> tuple[tuple[Layer, ...], ...]:
    """Return the single layer of a map whose states are its cells, row by row."""
    return ((Layer(np.arange(rows * columns).reshape(rows, columns)),),)
