"""What only a run's files name is not imported, whatever the command: it is code."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import deeptaxi
from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import open_environment
from tests.cli.conftest import refused, run

# What an untrusted module may be called: by a word of its own, as a part of Gymnasium that imports what is not
# installed, as one that the folder has under its name, and as a package that is there.
MODULES = [
    "stranger",
    "gymnasium.envs.mujoco.mujoco_env",
    "gymnasium.stranger",
    "gymnasium.envs.box2d",
    "numpy",
    "deeptaxi",
    "json",
]
COMMANDS = [
    ["evaluate", "models/x"],
    ["watch", "models/x"],
    ["diagnose", "models/x"],
    ["report", "models/x"],
    ["export", "models/x", "--format", "npz", "--out", "out.npz"],
    ["explain", "update", "models/x"],
    ["explain", "update", "--config", "models/x/config.toml"],
    ["train", "--config", "models/x/config.toml"],
    ["train", "--resume", "models/x", "--no-early-stop"],
]
LAZY = ("mujoco", "mujoco_py", "Box2D", "pygame", "ale_py", "cv2", "moviepy", "imageio")  # of Gymnasium
ID = r"([\w.-]+:)?FrozenLake-v1"
SIGN = "open('EXECUTED', 'w').close()\n"


def name_module(folder, module):
    """Let every file of a run, and its checkpoints, name an environment of a module."""
    for name in ("models/x/config.toml", "models/x/card.json", "logs/x/metrics.jsonl"):
        path = folder / name
        path.write_text(re.sub(ID, f"{module}:FrozenLake-v1", path.read_text()))
    for path in (folder / "models/x/checkpoints").glob("0*.npz"):
        with np.load(path) as archive:
            arrays = dict(archive)
        about = re.sub(ID, f"{module}:FrozenLake-v1", str(arrays["about"]))
        path.chmod(0o600)
        np.savez(path, **{**arrays, "about": np.array(about)})


@pytest.fixture
def stranger(lake_run, tmp_path, monkeypatch):
    """A run from elsewhere, in whose folder there are modules of code; the folder is first on the search path."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(lake_run, tmp_path / "models/x")
    shutil.copytree(lake_run.parent / "logs" / lake_run.name, tmp_path / "logs/x")
    known = [name for name in LAZY if importlib.util.find_spec(name) is None]
    for name in ("stranger", *known):
        (tmp_path / f"{name}.py").write_text(SIGN)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    before = list(sys.path)
    name_module(tmp_path, "stranger")
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    yield "models/x"
    assert not {"stranger", *known} & sys.modules.keys()
    assert not (tmp_path / "EXECUTED").exists()
    assert sys.path == before
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - files
    assert {path.name for path in made if path.suffix not in (".py", ".pyc")} <= {"out.npz"}


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] != "export"], ids=" ".join)
def test_a_command_refuses_to_import_a_module_named_by_a_run(stranger, words):
    refused(run(*words), 2, "names the environment module 'stranger', which is code: pass --trust-env")


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_not_imported_whatever_their_name(stranger, module, tmp_path):
    name_module(tmp_path, module)
    refused(run("evaluate", "models/x"), 2, f"names the environment module '{module}', which is code")


def test_a_submodule_of_gymnasium_needs_trust(stranger, tmp_path):
    name_module(tmp_path, "gymnasium.envs.mujoco.mujoco_env")
    for words in COMMANDS:
        done = run(*words)
        if words[0] != "export":
            refused(done, 2, "names the environment module 'gymnasium.envs.mujoco.mujoco_env'")
    with pytest.raises(UsageError, match="pass --trust-env"):
        deeptaxi.load("models/x")


@pytest.mark.parametrize("words", [["zoo"], ["logs", "models/x"], ["diagnose", "logs/x"]])
def test_a_command_that_needs_no_environment_imports_none(stranger, words):
    assert run(*words).exit_code in (0, 3)


def test_an_export_leaves_out_the_names_of_an_untrusted_environment(stranger):
    assert run("export", stranger, "--format", "npz", "--out", "out.npz").exit_code == 0


@pytest.mark.parametrize("use", [deeptaxi.load, deeptaxi.evaluate, deeptaxi.diagnose])
def test_a_script_must_pass_trust(stranger, use):
    with pytest.raises(UsageError, match="pass --trust-env"):
        use(stranger)


def test_the_gymnasium_module_itself_needs_no_trust(stranger, tmp_path):
    name_module(tmp_path, "gymnasium")
    assert run("evaluate", "models/x", "--episodes", "1").exit_code == 0


@pytest.mark.parametrize("name", ["Ant-v5", "Ant-v05", "Ant-v٥", "Ant", "LunarLander-v3", "phys2d/CartPole-v1"])
def test_lazy_imports_of_gymnasium_never_come_from_the_folder(stranger, name):
    with pytest.raises(UsageError):
        open_environment(EnvironmentConfig(name, {"width": 3}), trust_module=False)


def test_frames_are_not_drawn_by_a_module_of_the_folder(stranger, tmp_path, monkeypatch):
    name_module(tmp_path, "gymnasium")
    (tmp_path / "pygame.py").write_text(SIGN)
    monkeypatch.delitem(sys.modules, "pygame", raising=False)
    lake = open_environment(EnvironmentConfig("FrozenLake-v1"), trust_module=False).make("rgb_array")
    lake.reset(seed=0)
    with contextlib.suppress(gymnasium.error.DependencyNotInstalled):
        lake.render()
    (tmp_path / "pygame.py").unlink()


def test_a_malformed_version_does_not_match_the_typed_name(stranger, tmp_path):
    (tmp_path / "FrozenLake-vstranger.py").write_text(SIGN)
    name_module(tmp_path, "FrozenLake-vstranger")
    refused(
        run("train", "FrozenLake", "--resume", "models/x", "--no-early-stop"),
        2,
        "cannot change ENV on resume: ",
    )


def test_a_registered_environment_gets_no_text_arguments_from_a_file(stranger):
    gymnasium.register("Mine-v0", entry_point=lambda **kwargs: pytest.fail(f"made with {kwargs}"))
    try:
        for value in ("os:system", ["x"], {"a": ("x",)}):
            with pytest.raises(UsageError, match="gives Mine a text as loader, which may name a file or code"):
                open_environment(EnvironmentConfig("Mine", {"loader": value}), trust_module=False)
    finally:
        del gymnasium.registry["Mine-v0"]


@pytest.mark.slow
@pytest.mark.parametrize("empty", ["", os.pathsep])
def test_a_command_imports_nothing_from_the_folder(stranger, tmp_path, empty):
    for name in ("click", "rich", "filelock", "optree"):
        (tmp_path / f"{name}.py").write_text(SIGN)
    root = os.path.dirname(os.path.dirname(deeptaxi.__file__))  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, "-m", "deeptaxi", "zoo"],
        env={**os.environ, "PYTHONPATH": f"{root}{empty}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["CartPole-v1", "CartPole", "gymnasium:CartPole-v1"])
def test_a_text_as_an_argument_is_refused_from_a_file(name):
    with pytest.raises(UsageError, match=r"a text as xml_file, which may name a file or code: pass --trust-env"):
        open_environment(EnvironmentConfig(name, {"xml_file": "/etc/passwd"}), trust_module=False)


def test_an_environment_that_is_not_known_is_not_even_made_for_a_file():
    with pytest.raises(UsageError, match=r"which is not an environment that deeptaxi knows: pass --trust-env"):
        open_environment(EnvironmentConfig("GymV26Environment-v0", {"xml_file": "/etc/passwd"}), trust_module=False)


def test_environments_registered_by_the_process_need_no_trust():
    gymnasium.register("Mine-v0", entry_point=lambda **kwargs: gymnasium.make("CliffWalking-v1", **kwargs).unwrapped)
    try:
        assert open_environment(EnvironmentConfig("Mine-v0"), trust_module=False).states == 48
    finally:
        del gymnasium.registry["Mine-v0"]
