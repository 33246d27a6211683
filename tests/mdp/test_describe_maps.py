from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv

from deeptaxi.config import EnvironmentConfig
from deeptaxi.mdp.describe import ENDS, grid_map, inside
from deeptaxi.mdp.environment import environment_over
from deeptaxi.mdp.planning import reachable
from deeptaxi.mdp.table import save_table
from tests.problems import build, chain, opened, registered, surely

GRIDS = [
    ("Taxi-v4", {}),
    ("FrozenLake-v1", {"is_slippery": False}),
    ("FrozenLake8x8-v1", {"is_slippery": False}),
    ("FrozenLake-v1", {"desc": ("SFFH", "FHFG"), "is_slippery": False}),  # wider than high
    ("CliffWalking-v1", {}),
]


def neighbors(grid, cell, move):
    """Where a move leads: to the next cell, or nowhere at the edge and at a wall."""
    there = (cell[0] + move[0], cell[1] + move[1])
    inside_the_map = 0 <= there[0] < grid.rows and 0 <= there[1] < grid.columns
    walled = {(cell, there), (there, cell)} & set(grid.walls)
    return there if inside_the_map and not walled else cell


@pytest.mark.parametrize(("name", "kwargs"), GRIDS)
def test_every_move_on_the_map_is_the_one_of_the_transition_table(name, kwargs):
    environment = opened(name, **kwargs)
    grid, table = grid_map(environment), environment.table
    checked = 0
    for layer in (layer for row in grid.layers for layer in row):
        for cell in np.ndindex(grid.rows, grid.columns):
            if grid.kinds[cell[0]][cell[1]] in ENDS:
                continue
            for action, move in enumerate(grid.moves):
                there = neighbors(grid, cell, move) if isinstance(move, tuple) else cell
                if isinstance(move, str) or grid.kinds[there[0]][there[1]] == "cliff":
                    continue  # picking up changes the layer, the cliff sends home
                assert table.next_state[layer.states[cell], action, 0] == layer.states[there]
                checked += 1
    assert checked >= 4 * 5


@pytest.mark.parametrize(("name", "kwargs"), GRIDS)
def test_every_state_is_in_one_place_and_the_starts_are_where_episodes_start(name, kwargs):
    environment = opened(name, **kwargs)
    grid = grid_map(environment)
    states = np.concatenate([layer.states.ravel() for row in grid.layers for layer in row])
    assert np.array_equal(np.sort(states), np.arange(environment.states))
    kinds = np.array(grid.kinds)
    if (kinds == "start").any():
        starts = grid.layers[0][0].states[kinds == "start"]
        assert np.array_equal(np.flatnonzero(environment.table.start), starts)
        ends = grid.layers[0][0].states[np.isin(kinds, ENDS)]
        assert not reachable(environment.table)[ends].any()  # nobody chooses an action there


def test_the_lake_is_drawn_as_its_environment_describes_it():
    grid = grid_map(opened("FrozenLake-v1"))
    assert ["".join(kind[0] for kind in row) for row in grid.kinds] == ["sfff", "fhfh", "fffh", "hffg"]


def test_the_walls_of_the_taxi_are_those_that_the_environment_prints():
    grid = grid_map(opened("Taxi-v4"))
    assert set(grid.walls) == {
        ((0, 1), (0, 2)), ((1, 1), (1, 2)),
        ((3, 0), (3, 1)), ((4, 0), (4, 1)), ((3, 2), (3, 3)), ((4, 2), (4, 3)),
    }  # fmt: skip
    assert grid.letters == {(0, 0): "R", (0, 4): "G", (4, 0): "Y", (4, 3): "B"}
    assert (len(grid.layers), len(grid.layers[0])) == (4, 5)


def test_a_layer_of_the_taxi_says_where_passenger_and_destination_are():
    with gymnasium.make("Taxi-v4") as env:
        inner = inside(env)
        grid = grid_map(opened("Taxi-v4"))
        for row in grid.layers:
            for layer in row:
                _, _, passenger, destination = inner.decode(int(layer.states[2, 2]))
                assert layer.marks["destination"] == tuple(inner.locs[destination])
                assert layer.marks.get("passenger") == (tuple(inner.locs[passenger]) if passenger < 4 else None)


def test_what_is_no_grid_has_no_map(tmp_path):
    save_table(chain(), tmp_path / "chain.npz")
    assert grid_map(opened(str(tmp_path / "chain.npz"))) is None
    assert grid_map(opened("Blackjack-v1")) is None


class Mirrored(gymnasium.ActionWrapper):
    """Plays the opposite of what it is told."""

    def action(self, action):
        return 3 - action


def test_no_arrows_where_a_wrapper_changes_the_actions():
    with registered("Mirrored-v0", lambda **kwargs: Mirrored(FrozenLakeEnv(**kwargs))) as name:
        assert grid_map(opened(name)) is None


def test_the_parts_of_a_state_make_a_chart_of_values_that_occur():
    # Two jobs of 0 … 2 and 0 … 1 steps to go; (0, 0) is the end, and (2, 1) no start leads to.
    names = [f"first {first}, second {second}" for first in range(3) for second in range(2)]
    rows = [[surely(max(s - 2, 0), -1, s < 3), surely(s - s % 2, -1, s < 2)] for s in range(6)]
    table = build(rows, [0, 0, 0, 0.5, 0.5, 0], factors=(3, 2), state_names=names, action_names=("one", "two"))
    grid = grid_map(environment_over(table, EnvironmentConfig("jobs.npz")))
    assert grid.row == ("first", ("0", "1", "2"))
    assert grid.column == ("second", ("0", "1"))
    assert grid.moves == ("one", "two")
    assert [layer.states.tolist() for layer in grid.layers[0]] == [[[0, 1], [2, 3], [4, 5]]]


def test_parts_without_names_are_numbered():
    rows = [[surely(s + 2, 0, s == 2)] for s in (0, 0, 0)]
    table = build([*rows, [surely(0, 0, True)]], 0, factors=(2, 2))
    grid = grid_map(environment_over(table, EnvironmentConfig("plain.npz")))
    assert grid.row == ("part 1:", ("0", "1"))
    assert grid.column == ("part 2:", ("0",))


def test_no_chart_of_one_part_or_of_too_many_actions():
    assert grid_map(environment_over(build([[surely(0, 0)]] * 4), EnvironmentConfig("one.npz"))) is None
    wide = build([[surely(0, 0)] * 7] * 4, factors=(2, 2))
    assert grid_map(environment_over(wide, EnvironmentConfig("wide.npz"))) is None


class Narrow(TaxiEnv):
    """A Taxi that its maker has given one action less."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.action_space = gymnasium.spaces.Discrete(5)


def test_no_map_where_actions_were_changed_by_inheritance():
    with registered("Narrow-v0", Narrow) as name:
        assert grid_map(opened(name)) is None
