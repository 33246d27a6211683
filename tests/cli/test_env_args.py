"""Arguments of an environment on their way through the commands: what is trained is what is judged and resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import deeptaxi
from deeptaxi.mdp.simulate import TableEnv
from tests.cli.conftest import refused
from tests.problems import chain, registered

FEW = ["--q-table", "--loop", "gymnasium", "--updates", 4, "--environments", 2, "--batch-size", 2, "--replay-start", 2]


class Strict(TableEnv):
    """The chain, which is not to be had for a list in place of a tuple, or for anything but None in `note`."""

    def __init__(self, render_mode=None, goal=(0, 0), note=None):
        assert (type(goal), note["a"]) == (tuple, None)
        super().__init__(chain(), render_mode)


def test_tuples_and_none_are_kept_from_training_to_verdict(type_in: Callable[..., Result], tmp_path: Path) -> None:
    given = ["--env-arg", "goal=(1, 0)", "--env-arg", 'note={"a": None}']
    words = 'goal=(1, 0) note={"a": None}'
    with registered("Strict-v0", Strict):
        trained = type_in("train", "Strict-v0", *given, *FEW, "--stop-after", 2, "--out", "r")
        assert f"Strict-v0 {words}, q-table, seed 0" in trained.stdout
        assert f"| Environment | `Strict-v0 {words}`" in (tmp_path / "r" / "card.md").read_text()
        assert f"r on Strict-v0 {words}" in type_in("evaluate", "r", "--episodes", 0).stdout
        again = json.loads(type_in("train", "--resume", "r", "--env-arg", "goal=(1, 0)", "--json").stdout)
        assert (again["resumed_from"], again["updates"]) == (2, 4)
        assert again["environment"]["kwargs"] == {"goal": [1, 0], "note": {"a": None}}  # JSON has no tuples
        refused(
            type_in("train", "--resume", "r", "--env-arg", "goal=[1, 0]", "--updates", 8), 2,
            f"--env-arg is {words}, not goal=[1, 0] note=",
        )  # fmt: skip
        assert deeptaxi.load("r").config.environment.kwargs == {"goal": (1, 0), "note": {"a": None}}


def test_every_door_refuses_a_text_where_a_truth_value_belongs(
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
    with pytest.raises(deeptaxi.UsageError, match=expected):
        deeptaxi.solve("FrozenLake-v1", env_args={"is_slippery": "False"})
    assert deeptaxi.solve("FrozenLake-v1", env_args={"is_slippery": np.bool_(False)}).optimal_return == 1


def test_an_argument_goes_over_those_of_the_configuration(type_in: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[environment]\nid = 'FrozenLake-v1'\nkwargs = {is_slippery = false}")
    explained = type_in(
        "explain", "update", "--config", "c.toml", "--env-arg", "map_name=8x8", "--q-table", "--state", 0, "--json"
    )
    assert json.loads(explained.stdout)["environment"]["kwargs"] == {"is_slippery": False, "map_name": "8x8"}


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
    for command in (["evaluate", "r"], ["diagnose", "r"], ["report", "r"], ["watch", "r"],
                    ["export", "r", "--format", "csv", "--out", "q.csv"], ["train", "--config", "r/config.toml"]):  # fmt: skip
        refused(type_in(*command), 2, fault)


def test_the_log_of_a_run_with_an_unknown_key_is_not_looked_for(
    lake_run: Path, type_in: Callable[..., Result], tmp_path: Path
) -> None:
    shutil.copytree(lake_run, tmp_path / "r")
    config = tmp_path / "r" / "config.toml"
    config.write_text(config.read_text().replace("log = ", "lgo = "))
    refused(type_in("logs", "r"), 2, "unknown key 'run.lgo'; did you mean 'log'?")


def test_a_card_with_a_misspelt_key_is_told(lake_run: Path, type_in: Callable[..., Result], tmp_path: Path) -> None:
    shutil.copytree(lake_run, tmp_path / "r")
    card = tmp_path / "r" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "licence": "MIT", "x_newer": 1}))
    (row,) = json.loads(type_in("zoo", "r", "--json").stdout)
    assert "unknown key 'licence'; did you mean 'license'?" in row["note"]
