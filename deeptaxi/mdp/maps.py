"""What a grid environment looks like: its cells, its walls, where its actions lead, and which state is where.

A state of such an environment is a place (row, column), and in Taxi also where the passenger is and where it wants to
go: the map is there once for each of these, as a *layer*. All of it is read off the environment's own attributes.
Row 0 is at the top, column 0 at the left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv

from deeptaxi.mdp.environment import Env, Environment
from deeptaxi.mdp.foreign import blaming, closing
from deeptaxi.mdp.layout import inside
from deeptaxi.mdp.names import STOPS
from deeptaxi.mdp.table import Ints

Cell = tuple[int, int]  # row, column
SOUTH, NORTH, EAST, WEST = (1, 0), (-1, 0), (0, 1), (0, -1)
LAKE = {"S": "start", "F": "floor", "H": "hole", "G": "goal"}
ENDS = ("hole", "goal", "cliff")  # kinds of cells where nobody ever chooses an action


@dataclass(frozen=True, eq=False)
class Layer:
    """The map under one condition.

    Attributes:
        states: the state number of each cell, `[rows, columns]`.
        name: the condition in words; empty where there is only one layer.
        marks: what stands on a cell under this condition: "passenger" or "destination".
    """

    states: Ints
    name: str = ""
    marks: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GridMap:
    """A map, and the layers that a state number tells apart.

    Attributes:
        kinds: of each cell, `[rows][columns]`: "floor", "start", "goal", "hole" or "cliff".
        letters: what is written on cells.
        walls: pairs of neighboring cells that nobody gets from one to the other of.
        moves: where each action leads, as (rows, columns); its name where it leads nowhere. `[A]`
        layers: side by side and one below the other, `[down][across]`.
        across: what the layers beside each other differ in, with the value of each.
        down: the same of the layers below each other.
    """

    kinds: tuple[tuple[str, ...], ...]
    moves: tuple[Cell | str, ...]
    layers: tuple[tuple[Layer, ...], ...]
    letters: Mapping[Cell, str] = field(default_factory=dict)
    walls: tuple[tuple[Cell, Cell], ...] = ()
    across: tuple[str, tuple[str, ...]] = ("", ("",))
    down: tuple[str, tuple[str, ...]] = ("", ("",))

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
    """Return the map of Taxi, FrozenLake or CliffWalking, with whatever arguments; None for any other environment."""
    with blaming(environment.config.id), closing(environment.make()) as env:
        found = None if renames_actions(env) else drawn(inside(env))
    if found is None or found.cells != environment.states or len(found.moves) != environment.actions:
        return None
    return found


def renames_actions(env: Env) -> bool:
    """Tell whether a wrapper stands between the agent's actions and the environment's."""
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
    """Return Taxi's map: a layer for every place of the passenger (across) and every destination (down)."""
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
    """Return FrozenLake's map: start, holes and goal as its `desc` has them."""
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
    """Return the one layer of a map whose states are its cells, row by row."""
    return ((Layer(np.arange(rows * columns).reshape(rows, columns)),),)
