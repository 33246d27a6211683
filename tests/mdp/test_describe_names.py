from __future__ import annotations

import pytest

from deeptaxi.mdp.describe import names_of
from deeptaxi.mdp.table import save_table
from tests.problems import build, opened, surely


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


def test_what_has_no_names_is_called_by_its_number_or_its_parts(tmp_path):
    rows = [[surely(0, 1, True)] for _ in range(6)]
    save_table(build(rows), tmp_path / "t.npz")
    save_table(build(rows, factors=(2, 3)), tmp_path / "parts.npz")
    plain, parts = (names_of(opened(str(tmp_path / name))) for name in ("t.npz", "parts.npz"))
    assert (plain.state(4), plain.actions) == ("state 4", ("action 0",))
    assert parts.state(4) == "(1, 1)"


def test_names_from_a_file_are_of_one_line_and_hold_nothing_that_a_terminal_obeys(tmp_path):
    actions = ("up\nand away", "\x1b[2Jclear", "\u202eback", "go")
    save_table(build([[surely(0, 1, True)] * 4], state_names=("here\x07\t",), action_names=actions), tmp_path / "t.npz")
    names = names_of(opened(str(tmp_path / "t.npz")))
    assert names.actions == ("up and away", "[2Jclear", "back", "go")
    assert names.state(0) == "here"
