"""What only a run's files name is not imported, whatever the command: it is code."""

from __future__ import annotations

import os
import re
import shutil
import sys

import gymnasium
import pytest

import deeptaxi
from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import open_environment
from deeptaxi.sections import EnvironmentConfig
from tests.cli.conftest import refused, run


@pytest.fixture
def stranger(lake_run, tmp_path, monkeypatch):
    """A run from elsewhere whose files name a module of code, which stands in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(lake_run, tmp_path / "models/x")
    shutil.copytree(lake_run.parent / "logs" / lake_run.name, tmp_path / "logs/x")
    (tmp_path / "stranger.py").write_text("open('EXECUTED', 'w').close()\n")
    for name in ("models/x/config.toml", "models/x/card.json", "logs/x/metrics.jsonl"):
        path = tmp_path / name
        path.write_text(re.sub(r"FrozenLake-v1", "stranger:Walk-v0", path.read_text()))
    yield "models/x"
    assert "stranger" not in sys.modules
    assert not os.path.exists("EXECUTED")  # noqa: PTH110  # in the current folder


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "models/x"],
        ["watch", "models/x"],
        ["diagnose", "models/x"],
        ["report", "models/x"],
        ["explain", "update", "models/x"],
        ["explain", "update", "--config", "models/x/config.toml"],
        ["train", "--config", "models/x/config.toml"],
    ],
)
def test_a_command_refuses_to_import_what_the_files_of_a_run_name(stranger, words):
    refused(run(*words), 2, "names the environment module 'stranger', which is code: pass --trust-env")


@pytest.mark.parametrize("words", [["zoo"], ["logs", "models/x"], ["diagnose", "logs/x"]])
def test_a_command_that_needs_no_environment_imports_none(stranger, words):
    assert run(*words).exit_code in (0, 3)


def test_an_export_goes_without_the_names_of_an_environment_that_is_not_trusted(stranger):
    assert run("export", stranger, "--format", "csv", "--out", "policy.csv").exit_code == 0


@pytest.mark.parametrize("use", [deeptaxi.load, deeptaxi.evaluate, deeptaxi.diagnose])
def test_a_script_must_say_that_it_trusts(stranger, use):
    with pytest.raises(UsageError, match="pass --trust-env"):
        use(stranger)


@pytest.mark.parametrize("name", ["CartPole-v1", "CartPole", "gymnasium:CartPole-v1", "GymV26Environment-v0"])
def test_an_environment_without_state_numbers_is_not_even_made_for_a_file(name):
    with pytest.raises(UsageError, match=r"is not one of the environments with state numbers: pass --trust-env"):
        open_environment(EnvironmentConfig(name, {"xml_file": "/etc/passwd"}), trust_module=False)


def test_what_the_process_itself_registered_needs_no_trust():
    gymnasium.register("Mine-v0", entry_point=lambda **kwargs: gymnasium.make("CliffWalking-v1", **kwargs).unwrapped)
    try:
        assert open_environment(EnvironmentConfig("Mine-v0"), trust_module=False).states == 48
    finally:
        del gymnasium.registry["Mine-v0"]
