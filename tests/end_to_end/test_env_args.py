"""Arguments of an environment on their way through the commands: what is trained is what is evaluated and resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import deeptaxi
from deeptaxi.errors import UsageError
from tests.cli.conftest import QUICK, refused, run

WORDS = "is_slippery=false reward_schedule=(1, 0, 0) desc=None"
GIVEN = ["FrozenLake-v1", *(word for text in ("is_slippery=False", "reward_schedule=(1, 0, 0)", "desc=None")
                            for word in ("--env-arg", text))]  # fmt: skip


def test_tuples_and_none_survive_from_training_to_verdict(type_in: Callable[..., Result], tmp_path: Path) -> None:
    # The settings are those of `lake_run`, so that its programs are compiled already.
    quick = ["--preset", "frozenlake-sure", "--q-table", *QUICK, "--out", "r", "--stop-after", 100]
    trained = type_in("train", *GIVEN, *quick, "--no-early-stop")
    assert f"FrozenLake-v1 {WORDS}, q-table, seed 0" in trained.stdout
    assert f"| Environment | `FrozenLake-v1 {WORDS}`" in (tmp_path / "r" / "card.md").read_text()
    assert f"r on FrozenLake-v1 {WORDS}" in type_in("evaluate", "r", "--episodes", 0).stdout
    again = type_in("train", "--resume", "r", "--env-arg", "reward_schedule=(1, 0, 0)", "--json")
    assert json.loads(again.stdout)["resumed_from"] == 100
    assert json.loads(again.stdout)["environment"]["kwargs"] == {
        "is_slippery": False, "reward_schedule": [1, 0, 0], "desc": None  # JSON has no tuples
    }  # fmt: skip
    fault = f"uses {WORDS}, not is_slippery=false reward_schedule=[1, 0, 0] desc=None"
    refused(type_in("train", "--resume", "r", "--env-arg", "reward_schedule=[1, 0, 0]"), 2, fault)
    config = deeptaxi.load("r").config
    assert config is not None
    assert config.environment.kwargs == {"is_slippery": False, "reward_schedule": (1, 0, 0), "desc": None}


def test_a_text_for_a_boolean_argument_is_refused_everywhere(
    lake_run: Path, type_in: Callable[..., Result], tmp_path: Path
) -> None:
    expected = "FrozenLake-v1 expects true or false"
    (tmp_path / "c.toml").write_text('environment.id = "FrozenLake-v1"\nenvironment.kwargs.is_slippery = "False"')
    refused(type_in("train", "--config", "c.toml"), 2, 'is_slippery="False"', expected)
    for command in ("evaluate", "diagnose", "watch", "explain update"):
        refused(type_in(*command.split(), lake_run, "--env-arg", "is_slippery=no"), 2, expected)
    refused(type_in("envs", "FrozenLake-v1", "--env-arg", "is_slippery=no"), 2, expected)
    refused(type_in("export", lake_run, "--format", "csv", "--out", "q.csv", "--env", "FrozenLake-v1",
                    "--env-arg", "is_slippery=no"), 2, expected)  # fmt: skip
    with pytest.raises(UsageError, match=expected):
        deeptaxi.solve("FrozenLake-v1", env_args={"is_slippery": "False"})
    assert deeptaxi.solve("FrozenLake-v1", env_args={"is_slippery": np.bool_(False)}).optimal_return == 1


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (
            "[run]\n",
            "[run]\nweights_digset = 'x'\n",
            "unknown key 'run.weights_digset'; did you mean 'weights_digest'?",
        ),
        ("[optimizer.options]\n", "[optimizer.options]\nbeta_3 = 0.5\n", "did you mean 'beta_2'?"),
        ("seed = 0\n", "seed = 0\nupdatse = 3\n", "unknown key 'updatse'; did you mean 'updates'?"),
    ],
)
def test_a_run_with_an_unknown_key_is_not_opened(
    before: str, after: str, fault: str, lake_run: Path, type_in: Callable[..., Result], tmp_path: Path
) -> None:
    shutil.copytree(lake_run, tmp_path / "r")
    config = tmp_path / "r" / "config.toml"
    config.write_text(config.read_text().replace(before, after, 1))
    for command in ("evaluate", "diagnose", "report", "watch"):
        refused(type_in(command, "r"), 2, fault)
    refused(type_in("export", "r", "--format", "csv", "--out", "q.csv"), 2, fault)


def test_no_log_is_searched_for_a_run_with_an_unknown_key(
    lake_run: Path, type_in: Callable[..., Result], tmp_path: Path
) -> None:
    shutil.copytree(lake_run, tmp_path / "r")
    config = tmp_path / "r" / "config.toml"
    config.write_text(config.read_text().replace("log = ", "lgo = "))
    refused(type_in("logs", "r"), 2, "unknown key 'run.lgo'; did you mean 'log'?")


def test_a_misspelled_key_of_a_card_is_named(lake_run: Path, type_in: Callable[..., Result], tmp_path: Path) -> None:
    shutil.copytree(lake_run, tmp_path / "r")
    card = tmp_path / "r" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "licence": "MIT", "x_newer": 1}))
    (row,) = json.loads(type_in("zoo", "r", "--json").stdout)
    assert "unknown key 'licence'; did you mean 'license'?" in row["note"]


@pytest.mark.parametrize(
    ("name", "argument", "shown", "optimum"),
    [
        ("FrozenLake-v1", "is_slippery=False", "is_slippery=false", 1.0),
        ("Taxi-v4", "is_rainy=False", "is_rainy=false", 7.93),
        ("CliffWalking-v1", "is_slippery=False", "is_slippery=false", -13.0),
        ("FrozenLake-v1", "success_rate=1/3", "success_rate=0.3333333333333333", 0.7442),
        ("FrozenLake-v1", "reward_schedule=(2, 0, 0)", "reward_schedule=(2, 0, 0)", 2 * 0.7442),
        ("FrozenLake-v1", "desc=None", "desc=None", 0.7442),
    ],
)
def test_arguments_are_read_as_gymnasiums_pages_write_them(
    name: str, argument: str, shown: str, optimum: float
) -> None:
    solved = run("solve", name, "--env-arg", argument)
    assert solved.stdout.startswith(f"{name} {shown} ")
    (row,) = json.loads(run("envs", name, "--env-arg", argument, "--json").stdout)
    assert row["optimal_return"] == pytest.approx(optimum, abs=1e-4)
    assert shown in run("envs", name, "--env-arg", argument).stdout


def test_ambiguous_arguments_are_refused() -> None:
    given = ("solve", "FrozenLake-v1", "--env-arg")
    refused(run(*given, "is_slippery=no"), 2, "is_slippery=no: FrozenLake-v1 expects true or false")
    refused(run(*given, "is_slippery=None"), 2, "is_slippery=None: FrozenLake-v1 expects true or false")
    refused(run(*given, "is_slippery=TRUE"), 2, "is_slippery=TRUE: expected true or false in lowercase")
    refused(run(*given, "desc=[SFFF,HFFG]"), 2, "desc=[SFFF,HFFG]: it is neither TOML nor Python", "the shell")
    refused(run(*given, "success_rate=1", "--env-arg", "success_rate=0.5"), 2, "success_rate is given twice")
