from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.spaces import Discrete, MultiDiscrete, Tuple

from deeptaxi.config import EnvironmentConfig, NetworkConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.describe import ENDS, encoded_factors, factors, grid_map, inside, names_of
from deeptaxi.mdp.environment import environment_over, open_environment
from deeptaxi.mdp.planning import reachable
from deeptaxi.mdp.table import save_table
from tests.problems import build, chain, opened, random_table, registered, surely


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("Taxi-v4", {}, (5, 5, 5, 4)),
        ("Taxi-v4", {"is_rainy": True}, (5, 5, 5, 4)),
        ("FrozenLake-v1", {}, (4, 4)),
        ("FrozenLake-v1", {"desc": ["SFF", "FFG"]}, (2, 3)),
        ("CliffWalking-v1", {}, (4, 12)),
        ("Blackjack-v1", {}, (32, 11, 2)),
    ],
)
def test_the_factors_are_read_from_the_environment(name, kwargs, expected):
    kwargs = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    environment = open_environment(EnvironmentConfig(name, kwargs))
    assert factors(environment) == expected
    assert np.prod(expected) == environment.states


def test_the_factors_of_taxi_decode_its_states():
    taxi, sizes = gymnasium.make("Taxi-v4").unwrapped, factors(opened("Taxi-v4"))
    for state in range(500):
        assert tuple(taxi.decode(state)) == np.unravel_index(state, sizes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [((2, 3), (2, 3)), ((3, 2, 1), (3, 2, 1)), (None, None), ((6,), None)],  # one part is the whole state
)
def test_a_table_has_its_own_factors(given, expected, tmp_path):
    save_table(random_table(0, states=6, factors=given), tmp_path / "own.npz")
    assert factors(open_environment(EnvironmentConfig(str(tmp_path / "own.npz")))) == expected


class Parts(gymnasium.Env):
    """Observes two parts of sizes 2 and 3, one of them counted from 1."""

    observation_space = Tuple((Discrete(2, start=1), MultiDiscrete([3])))
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return (1, np.array([0])), {}

    def step(self, action):
        return (2, np.array([2])), 1.0, True, False, {}


class Whole(Parts):
    """Observes one number of 6."""

    observation_space = Discrete(6)

    def reset(self, *, seed=None, options=None):
        return 3, super().reset(seed=seed)[1]

    def step(self, action):
        return 5, *super().step(action)[1:]


class Shuffled(gymnasium.ObservationWrapper):
    """Numbers the states of the lake otherwise."""

    def observation(self, observation):
        return 15 - observation


class Cheered(gymnasium.RewardWrapper):
    """Leaves observations as they are."""

    def reward(self, reward):
        return reward + 1


@pytest.mark.parametrize(
    ("entry_point", "expected"),
    [
        pytest.param(Parts, (2, 3), id="parts-of-the-observation"),
        pytest.param(Whole, None, id="one-number"),
        pytest.param(lambda: Cheered(FrozenLakeEnv()), (4, 4), id="other-rewards"),
        pytest.param(lambda: Shuffled(FrozenLakeEnv()), None, id="other-numbers"),
    ],
)
def test_only_certain_factors_of_other_environments_are_reported(entry_point, expected):
    with registered("Own-v0", entry_point) as name:
        assert factors(open_environment(EnvironmentConfig(name))) == expected


def test_a_factored_encoding_without_factors_is_refused_with_advice(tmp_path):
    save_table(chain(), tmp_path / "own.npz")
    environment = open_environment(EnvironmentConfig(str(tmp_path / "own.npz")))
    assert encoded_factors(environment, NetworkConfig()) is None
    with pytest.raises(UsageError, match=r"own.npz does not say .* leave out --encoding factored"):
        encoded_factors(environment, NetworkConfig(encoding="factored"))


def test_the_encoding_decides_whether_factors_are_used():
    assert encoded_factors(opened("Taxi-v4"), NetworkConfig(encoding="factored")) == (5, 5, 5, 4)
    assert encoded_factors(opened("Taxi-v4"), NetworkConfig(encoding="joint")) is None


@pytest.mark.parametrize(
    ("env_id", "kwargs", "state", "name"),
    [
        # ((row·5 + column)·5 + passenger)·4 + destination, as Taxi documents it
        ("Taxi-v4", {}, 328, "taxi in row 3, column 1, passenger at yellow, destination red"),
        ("Taxi-v4", {}, 18, "taxi in row 0, column 0, passenger aboard, destination yellow"),
        ("FrozenLake-v1", {"map_name": "8x8"}, 19, "row 2, column 3"),
        ("CliffWalking-v1", {}, 36, "row 3, column 0"),
        ("Blackjack-v1", {}, (13 * 11 + 10) * 2 + 1, "sum 13, dealer shows 10, a usable ace"),
    ],
)
def test_states_are_named_as_the_environment_documents_them(env_id, kwargs, state, name):
    assert names_of(opened(env_id, **kwargs)).state(state) == name


@pytest.mark.parametrize(
    ("env_id", "kwargs", "middle", "moves"),
    [
        # From the middle of the map, one step: a row is so many states, a column so many.
        ("Taxi-v4", {}, (2 * 5 + 2) * 20, {"south": 100, "north": -100, "east": 20, "west": -20}),
        ("FrozenLake-v1", {"is_slippery": False}, 9, {"left": -1, "down": 4, "right": 1, "up": -4}),
        ("CliffWalking-v1", {}, 17, {"up": -12, "right": 1, "down": 12, "left": -1}),
    ],
)
def test_actions_that_are_directions_lead_there(env_id, kwargs, middle, moves):
    environment = opened(env_id, **kwargs)
    names = names_of(environment).actions
    for name, step in moves.items():
        assert environment.table.next_state[middle, names.index(name), 0] == middle + step


def test_a_table_has_its_own_names(tmp_path):
    table = build([[surely(0, 1, True), surely(0, 0)]], state_names=("home",), action_names=("leave", "stay"))
    save_table(table, tmp_path / "t.npz")
    names = names_of(opened(str(tmp_path / "t.npz")))
    assert (names.state(0), names.actions) == ("home", ("leave", "stay"))


def test_states_without_names_are_called_by_number_or_factors(tmp_path):
    rows = [[surely(0, 1, True)] for _ in range(6)]
    save_table(build(rows), tmp_path / "t.npz")
    save_table(build(rows, factors=(2, 3)), tmp_path / "parts.npz")
    plain, parts = (names_of(opened(str(tmp_path / name))) for name in ("t.npz", "parts.npz"))
    assert (plain.state(4), plain.actions) == ("state 4", ("action 0",))
    assert parts.state(4) == "(1, 1)"


def test_names_from_a_file_are_one_line_without_control_characters(tmp_path):
    actions = ("up\nand away", "\x1b[2Jclear", "\u202eback", "go")
    save_table(build([[surely(0, 1, True)] * 4], state_names=("here\x07\t",), action_names=actions), tmp_path / "t.npz")
    names = names_of(opened(str(tmp_path / "t.npz")))
    assert names.actions == ("up and away", "[2Jclear", "back", "go")
    assert names.state(0) == "here"


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
def test_every_state_is_in_one_cell_and_starts_are_marked(name, kwargs):
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


def test_an_environment_without_a_grid_has_no_map(tmp_path):
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


def remembering(states=1):
    """A ring of 20 places, some of which have a second history, as the table of `discover` names them."""
    names = [f"place {place}, lap {lap}, history {kind}" for place in range(10) for lap in (1, 2) for kind in (1, 2)]
    rows = [[surely((s // 2 * 2 + 2) % 40 + (s // 2 < states), 0), surely(s // 2 * 2, -1)] for s in range(40)]
    return build(rows, 0, factors=(10, 2, 2), state_names=names, action_names=("go", "stay"))


def test_a_layer_of_few_states_is_no_picture():
    grid = grid_map(environment_over(remembering(), EnvironmentConfig("ring.npz")))
    assert [len(row) for row in grid.layers] == [1]
    assert grid.cells == 20
    assert {shared: states.tolist() for shared, states in grid.apart.items()} == {"history 2": [3]}
    more = grid_map(environment_over(remembering(states=2), EnvironmentConfig("ring.npz")))
    assert (more.apart, more.across) == ({}, ("history", ("1", "2")))  # two of 20 are a tenth


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
