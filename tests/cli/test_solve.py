from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import deeptaxi
from deeptaxi.config import EnvironmentConfig
from deeptaxi.exports.readers import by_csv
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.table import save_table
from tests.cli.conftest import refused, run
from tests.problems import ToldEnv, build, chain, gambler, loop, registered, rows_of, surely

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


def test_solve_prints_the_optimum() -> None:
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
    save_table(gambler(), tmp_path / "gambler.npz")
    solution = json.loads(run("solve", tmp_path / "gambler.npz", "--json").stdout)
    assert (solution["discount"], solution["all_policies_equal"]) == (1, None)
    assert solution["optimal_value"] == pytest.approx(0.399064, abs=5e-7)
    assert solution["value"][25] == pytest.approx(0.16)
    assert solution["optimal_actions"][51] == [1, 49]


@pytest.mark.parametrize("command", ["solve", "train"])
def test_a_problem_that_needs_a_discount_says_so_before_any_work(command: str, tmp_path: Path) -> None:
    save_table(loop(1, discount=1.0), tmp_path / "loop.npz")
    words = [command, tmp_path / "loop.npz"]
    why = "discount 1 is not defined here: no policy ends an episode with certainty from state 0"
    refused(run(*words), 2, why)
    assert run("solve", tmp_path / "loop.npz", "--objective-discount", 0.99).exit_code == 0


@pytest.mark.parametrize("ending", ["csv", "npz", "json"])
def test_solve_does_not_overwrite_its_table_without_force(ending: str, tmp_path: Path) -> None:
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


FORMULAS = ("=cmd|'/c calc'!A0", '=HYPERLINK("x";"y")', "-1+1", "-1")
TEXTS = ("'=cmd|'/c calc'!A0", '\'=HYPERLINK("x";"y")', "'-1+1", "-1")


def test_no_name_in_the_csv_of_solve_is_a_formula(tmp_path: Path) -> None:
    table = build([[surely(min(s + 1, 3), -1.0, s > 1) for _ in "ab"] for s in range(4)], state_names=FORMULAS,
                  action_names=("@SUM(1)", "x;+1+1"))  # fmt: skip
    save_table(table, tmp_path / "table.npz")
    for ending in ("csv", "json"):
        assert run("solve", tmp_path / "table.npz", "--out", tmp_path / f"q.{ending}").exit_code == 0
    with (tmp_path / "q.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[2:4] == ["q_@SUM(1)", "q_x;'+1+1"]
    assert tuple(row[1] for row in rows) == TEXTS
    assert {row[-1] for row in rows} == {"'@SUM(1)"}
    q_values, actions = by_csv(str(tmp_path / "q.csv"))(np.arange(4, dtype=np.int32))
    assert (q_values < 0).all()  # numbers stay numbers
    assert actions.tolist() == [0] * 4
    policy = json.loads((tmp_path / "q.json").read_text())["policy"]
    assert tuple(policy[str(state)]["name"] for state in range(4)) == FORMULAS


def test_solve_refuses_an_environment_without_a_true_table() -> None:
    refused(run("solve", "Blackjack-v1"), 2, "no true table")
    refused(run("solve", "Taxi-v4", "--env-arg", "fickle_passenger=true"), 2, "fickle_passenger", "hidden flag")
    refused(run("solve", "FrozenLake-v1", "--out", "q.xls"), 2, ".csv, .npz or .json")


def test_solve_does_not_write_onto_the_table_it_solves(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    save_table(chain(discount=0.5), path)
    refused(run("solve", path, "--out", path, "--force"), 2, "the transition table itself")
    solution = json.loads(run("solve", path, "--json").stdout)
    assert solution["discount"] == 0.5
    assert solution["optimal_value"] == 0.25  # two steps on the way to the 1


def test_a_tiny_return_is_not_shown_as_zero() -> None:
    lake = ["FrozenLake-v1", "--env-arg", "is_slippery=false", "--env-arg", "reward_schedule=[1.23e-12, 0, 0]"]
    assert "Optimal return  1.2e-12 in 100 steps" in run("solve", *lake).stdout
    assert "Optimal return  0 in 2 steps" in run("solve", *lake, "--time-limit", 2).stdout


class Anywhere(ToldEnv):
    """The chain, started in its first or second state by a fair coin; it does not tell so."""

    def __init__(self, render_mode=None):
        table = chain([0.5, 0.5, 0.0])
        super().__init__(table, rows_of(table), None, render_mode)


class Odd(Anywhere):
    """Has an attribute P that is no table."""

    p: object = 0.8

    def __init__(self, render_mode=None):
        super().__init__(render_mode)
        self.__dict__["P"] = self.p


def test_means_over_estimated_start_states_have_no_bound() -> None:
    with registered("Anywhere-v0", Anywhere):
        found = json.loads(run("solve", "Anywhere-v0", "--time-limit", 2, "--json").stdout)
        text = run("solve", "Anywhere-v0", "--time-limit", 2).stdout
        (row,) = json.loads(run("envs", "Anywhere-v0", "--time-limit", 2, "--json").stdout)
        listed = run("envs", "Anywhere-v0", "--time-limit", 2).stdout
        solution = deeptaxi.solve("Anywhere-v0", time_limit=2)
    # Two steps are enough from the second state alone: the return is 0 or 1, each with probability 1/2.
    assert found["return_bound"] is found["value_bound"] is None
    assert found["starts_estimated_from_resets"] == row["starts_estimated_from_resets"] == 10_000
    assert found["return_uncertainty"] == pytest.approx(1.96 * 0.5 / 100, rel=1e-3)
    assert abs(found["optimal_return"] - 0.5) < 2 * found["return_uncertainty"]
    assert row["return_uncertainty"] == found["return_uncertainty"] == solution.return_uncertainty
    assert "(± 0.0098 at 95 %: starts estimated from 10,000 resets)" in text
    assert "2 seen in 10,000 resets" in text
    assert "± 0.0098" in listed
    assert "starts estimated from 10,000 resets" in listed
    assert "starts estimated from 10,000 resets" in repr(solution)


@pytest.mark.parametrize(
    ("p", "fault"),
    [
        (np.zeros((4, 3, 3)), "it is an array of shape [4, 3, 3]"),
        (0.8, "it is 0.8"),
        ({}, "it is an empty dict"),
        ({(0, 0): {0: []}}, "it is a dict whose first key is (0, 0)"),
        ({0: {"up": []}}, "it is a dict at [0] whose first key is 'up'"),
        ([[[(1.0, 0, -1.0)]]], "it is (1.0, 0, -1.0) at [0][0][0]"),
        ([[[(1.0, float("inf"), -1.0, False)]]], "it is (1.0, inf, -1.0, False) at [0][0][0]"),
    ],
)
def test_an_attribute_p_that_is_not_a_table_is_described_in_one_line(p: object, fault: str) -> None:
    with registered("Odd-v0", type("Odd", (Odd,), {"p": p})):
        reason = open_environment(EnvironmentConfig("Odd-v0")).table_missing
        assert "is not of the form" in reason
        assert fault in reason
        assert run("solve", "Odd-v0").exit_code == 0  # its table is discovered instead


def test_an_attribute_p_that_cannot_be_read_is_no_table() -> None:
    def build(_self: object) -> None:
        raise NotImplementedError("call build() first")

    lazy = type(
        "Lazy", (TableEnv,), {"__init__": lambda self, **_: TableEnv.__init__(self, chain()), "P": property(build)}
    )
    with registered("Lazy-v0", lazy):
        reason = open_environment(EnvironmentConfig("Lazy-v0")).table_missing
        assert reason == "its transition table cannot be read: NotImplementedError: call build() first"
