from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from deeptaxi.mdp import npz
from tests.cli.conftest import refused, run
from tests.problems import chain, gambler, loop

OPTIMA = [
    ("Taxi-v4", [], 7.9300),
    ("Taxi-v4", ["--env-arg", "is_rainy=true"], 3.9546),
    ("FrozenLake-v1", [], 0.7442),
    ("FrozenLake8x8-v1", [], 0.9132),
    ("CliffWalking-v1", [], -13.0),
    ("CliffWalkingSlippery-v1", [], -64.7092),
]


@pytest.mark.parametrize(("name", "arguments", "optimum"), OPTIMA)
def test_solve_reproduces_the_known_optima(name: str, arguments: list[str], optimum: float) -> None:
    solution = json.loads(run("solve", name, *arguments, "--json").stdout)
    assert solution["optimal_return"] == pytest.approx(optimum, abs=1e-4)
    assert solution["return_bound"] < 1e-6
    assert solution["value_bound"] < 1e-6
    assert len(solution["policy"]) == solution["environment"]["states"]


def test_solve_shows_the_optimum_to_people() -> None:
    assert "Optimal return  7.93 in 200 steps" in run("solve", "Taxi-v4").stdout


def test_solve_takes_another_time_limit_and_discount() -> None:
    # Three steps are too few for any of CliffWalking's thirteen: each costs 1.
    solution = json.loads(
        run("solve", "CliffWalking-v1", "--time-limit", 3, "--objective-discount", 0.5, "--json").stdout
    )
    assert solution["optimal_return"] == -3
    assert solution["discount"] == 0.5
    assert solution["optimal_value"] == pytest.approx(-(1 - 0.5**13) / 0.5)


def test_a_table_without_a_discount_is_solved_without_one(tmp_path: Path) -> None:
    npz.save(gambler(), tmp_path / "gambler.npz")
    solution = json.loads(run("solve", tmp_path / "gambler.npz", "--json").stdout)
    assert (solution["discount"], solution["all_policies_equal"]) == (1, None)
    assert solution["optimal_value"] == pytest.approx(0.399064, abs=5e-7)
    assert solution["value"][25] == pytest.approx(0.16)
    assert solution["optimal_actions"][51] == [1, 49]


@pytest.mark.parametrize("command", ["solve", "train"])
def test_a_problem_that_needs_a_discount_says_so_before_any_work(command: str, tmp_path: Path) -> None:
    npz.save(loop(1, discount=1.0), tmp_path / "loop.npz")
    words = [command, tmp_path / "loop.npz"]
    why = (
        "discount 1 is not defined here: no policy surely ends an episode from state 0; take --objective-discount 0.99"
    )
    refused(run(*words), 2, why)
    assert run("solve", tmp_path / "loop.npz", "--objective-discount", 0.99).exit_code == 0


@pytest.mark.parametrize("ending", ["csv", "npz", "json"])
def test_solve_writes_the_table_once(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"q.{ending}"
    assert run("solve", "FrozenLake-v1", "--out", path).exit_code == 0
    before = path.read_bytes()
    refused(run("solve", "FrozenLake-v1", "--out", path), 2, "exists", "--force")
    assert path.read_bytes() == before
    assert run("solve", "FrozenLake-v1", "--out", path, "--force").exit_code == 0


def test_the_csv_of_solve_holds_q_and_the_policy(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    run("solve", "CliffWalking-v1", "--out", path)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["state", "state_name", "q_up", "q_right", "q_down", "q_left", "action", "action_name"]
    assert len(rows) == 48
    q = np.array([row[2:6] for row in rows], float)
    assert [int(row[6]) for row in rows] == q.argmax(axis=1).tolist()


def test_solve_refuses_what_has_no_true_table() -> None:
    refused(run("solve", "Blackjack-v1"), 2, "no true table")
    refused(run("solve", "Taxi-v4", "--env-arg", "fickle_passenger=true"), 2, "fickle_passenger", "hidden flag")
    refused(run("solve", "FrozenLake-v1", "--out", "q.xls"), 2, ".csv, .npz or .json")


def test_solve_does_not_write_onto_the_table_it_solves(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    npz.save(chain(discount=0.5), path)
    refused(run("solve", path, "--out", path, "--force"), 2, "the transition table itself")
    solution = json.loads(run("solve", path, "--json").stdout)
    assert solution["discount"] == 0.5
    assert solution["optimal_value"] == 0.25  # two steps on the way to the 1


def test_envs_lists_what_can_be_trained() -> None:
    rows = json.loads(run("envs", "--json").stdout)
    by_name = {(row["id"], *row["kwargs"]): row for row in rows}
    assert by_name["Taxi-v4",]["optimal_return"] == pytest.approx(7.93)
    assert by_name["Blackjack-v1",]["states"] == 32 * 11 * 2
    assert by_name["Taxi-v4", "fickle_passenger"]["table"] is False
    assert not any(name.startswith("CartPole") for name, *_ in by_name)


def test_envs_describes_the_environment_that_is_named() -> None:
    result = run("envs", "FrozenLake-v1", "--env-arg", "map_name=8x8", "--env-arg", "is_slippery=false")
    assert "64" in result.stdout
    refused(run("envs", "CartPole-v1"), 2, "Box")
    refused(run("envs", "--env-arg", "is_rainy=true"), 2, "--env-arg needs the environment")
