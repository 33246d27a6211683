from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import deeptaxi
from deeptaxi.errors import UsageError
from tests.cli.conftest import refused, run
from tests.mdp.test_discovery import Grid, Small, Wide
from tests.problems import registered


def test_a_table_is_discovered_written_and_solved(tmp_path: Path) -> None:
    place = tmp_path / "lake.npz"
    found = json.loads(run("discover", "FrozenLake-v1", "-o", place, "--json").stdout)
    assert found["states"] == 11
    assert found["table"] == str(place)
    assert (found["hidden"], found["split_states"], found["time_limit"]) == (None, 0, 100)
    solution = json.loads(run("solve", place, "--json").stdout)
    assert solution["optimal_return"] == pytest.approx(0.7442, abs=1e-4)


def test_people_are_told_what_was_found(type_in: Callable[..., Result]) -> None:
    lines = type_in("discover", "CliffWalking-v1", "--out", "cliff.npz").stdout
    assert "discovered: 37 states, exact" in lines
    assert "lastaction: changing nothing else" in lines
    assert "Wrote cliff.npz" in lines
    refused(type_in("discover", "CliffWalking-v1", "--out", "cliff.npz"), 2, "cliff.npz exists")
    refused(type_in("discover", "cliff.npz"), 2, "cliff.npz is a transition table already")
    refused(type_in("discover", "CliffWalking-v1", "--out", "cliff.csv"), 2, "a name that ends in .npz")


def test_only_what_is_reachable_is_numbered_on_request(tmp_path: Path) -> None:
    place = tmp_path / "cliff.npz"
    found = json.loads(run("discover", "CliffWalking-v1", "--reachable", "-o", place, "--json").stdout)
    assert (found["states"], found["table_states"]) == (37, 38)  # and the goal, where no action is taken
    assert found["environment"]["observation"]["numbering"]["seen"] == 38
    assert json.loads(run("solve", place, "--json").stdout)["optimal_return"] == -13


def test_a_limit_is_a_number() -> None:
    refused(
        run("discover", "CliffWalking-v1", "--max-seconds", "nan"), 2, "--max-seconds", "nan is not in the range x>0"
    )
    with pytest.raises(UsageError, match=r"max_seconds = nan, .*expected numbers above 0"):
        deeptaxi.discover("CliffWalking-v1", max_seconds=float("nan"))


def test_a_limit_says_how_to_raise_it() -> None:
    with registered("Wide-v0", Wide) as name:
        line = refused(
            run("discover", name, "--max-states", 100), 1, "met its limit of 100 states: it had seen 101 states"
        )
    assert line.endswith("--max-seconds, --max-states and --max-branches raise the limits")


def test_what_hides_something_that_matters_is_split_only_if_asked_for() -> None:
    def command(*more: object) -> Result:
        with registered("Hidden-v0", Hidden) as name:
            return run("discover", name, "--json", *more)

    refused(command(), 1, "Hidden-v0 has no table of its observations", "hides something", "--split makes it part of")
    found = json.loads(command("--split").stdout)
    assert found["policy_needs_hidden"]
    assert found["split_states"] == 2  # the observation stands for: not yet told, told 0, told 1


class Hidden(Small):
    """The first step tells by its reward which action gets on, once and for all."""

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        self.right = None
        return super().reset(seed=seed)

    def step(self, action):  # type: ignore[no-untyped-def]
        if self.right is None:
            self.right = int(self.np_random.integers(2))
            return 0, float(self.right), False, False, {}
        return 0, 1.0 if action == self.right else -1.0, True, False, {}


def test_a_training_discovers_the_table_by_itself(tmp_path: Path) -> None:
    quick = {"q_table": True, "updates": 10_000, "eval_every": 500, "out": tmp_path / "grid", "logs": tmp_path / "logs"}
    with registered("Grid-v0", lambda: Grid(2, limit=20)) as name:
        trained = deeptaxi.train(name, **quick)
        assert trained.optimal
        assert trained.config is not None
        assert trained.config.loop == "compiled"
        assert trained.environment.discovered == 12
        card = (tmp_path / "grid" / "card.md").read_text()
        assert "| Table | discovered: 12 states, exact |" in card
        assert deeptaxi.load(tmp_path / "grid").exact == trained.exact
        without = deeptaxi.train(name, discover=False, q_table=True, updates=20)
        assert without.exact is None
        again = json.loads(run("evaluate", tmp_path / "grid", "--json").stdout)
        assert again["exact"]["optimal"]
