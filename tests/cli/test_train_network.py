"""`--network`: a Keras model of one's own, from the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.cli.conftest import LAKE, refused, run

NAME = "tests.network.own_models"
QUICK = ["--updates", "12", "--eval-every", "6", "--environments", "2", "--batch-size", "8", "--replay-start", "16"]


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A run folder whose network is built by a function, stopped halfway."""
    folder = tmp_path_factory.mktemp("own") / "run"
    words = ["--out", folder, "--logs", folder.parent / "logs", "--stop-after", "6", "--json", "--no-tensorboard"]
    result = run("train", *LAKE, "--network", f"{NAME}:build", "--network-arg", "width=4", *QUICK, *words)
    assert result.exit_code == 0, result.output
    return folder


def test_a_network_is_trained_resumed_and_opened(own_run, tmp_path):
    shutil.copytree(own_run, tmp_path / "run")
    resumed = run("train", "--resume", tmp_path / "run", "--logs", tmp_path, "--json")
    assert resumed.exit_code == 0, resumed.output
    found = json.loads(resumed.stdout)
    assert found["network"] == {"kind": "own", "builder": f"{NAME}:build", "kwargs": {"width": 4}}
    assert (found["updates"], found["resumed_from"], found["loop"]) == (12, 6, "compiled")
    evaluated = json.loads(run("evaluate", tmp_path / "run", "--episodes", "2", "--json").stdout)
    assert evaluated["exact"] == found["exact"]
    assert "own, of" in run("explain", "update", tmp_path / "run", "--state", "14").stdout


def test_the_same_network_is_trained_again_from_its_configuration(own_run, tmp_path):
    words = ["--config", own_run / "config.toml", "--stop-after", "6", "--out", tmp_path / "again", "--logs", tmp_path]
    again = run("train", *words, "--json", "--trust-env")
    before = json.loads((own_run / "card.json").read_text())
    assert json.loads(again.stdout)["weights_digest"] == before["weights_digest"]


def test_a_file_names_a_network_too(type_in, tmp_path):
    (tmp_path / "net.py").write_text(f"from {NAME} import one_hot\n")
    result = type_in("explain", "update", "--env", LAKE[0], "--network", "net.py:one_hot", "--state", "14", "--json")
    assert json.loads(result.stdout)["network"] == {"kind": "own", "builder": "net.py:one_hot"}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--network", f"{NAME}:build", "--hidden", "64"], ["leave out --hidden"]),
        (["--network", f"{NAME}:build", "--q-table"], ["--network builds the whole network: leave out --q-table"]),
        (["--network", f"{NAME}:build", "--no-dueling"], ["leave out --dueling/--no-dueling"]),
        (["--network", f"{NAME}:build", "--preset", "frozenlake.q-table"], ["leave out --network, or take --preset"]),
        (["--network", f"{NAME}:build", "--network-arg", "width"], ["expected KEY=VALUE, received 'width'"]),
        (["--network", f"{NAME}:build", "--network-arg", "wdith=4"], ["did you mean 'width'?"]),
        (["--network-arg", "width=4"], ["--network-arg is an argument of what --network names: add --network"]),
        (["--network", f"{NAME}:biuld"], [f"did you mean '{NAME}:build'?"]),
        (["--network", "no_such_module:build"], ["there is no module 'no_such_module'"]),
        (["--network", "no_such_file.py:build"], ["there is no file no_such_file.py"]),
        (["--network", "nothing"], ["expected module:function or file.py:function"]),
        (["--network", f"{NAME}:raises"], ["raised RuntimeError: no room for it"]),
        (["--network", f"{NAME}:returns_nothing"], ["returns is None: expected a Keras model"]),
        (["--network", f"{NAME}:model", "--network-arg", "a=1"], ["is a model already, and takes no arguments"]),
        (["--network", f"{NAME}:mixing"], [f"the model of {NAME}:mixing mixes states"]),
    ],
    ids=lambda value: " ".join(value[1:])[-30:],
)
def test_a_network_that_cannot_be_trained_is_refused_before_any_work(type_in, tmp_path, words, parts):
    refused(type_in("train", *LAKE, *QUICK, *words), 2, *parts)
    assert not list(tmp_path.iterdir())


def test_what_only_a_file_names_is_not_imported(own_run, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPTAXI_DATA", "off")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(own_run, tmp_path / "run")
    message = f"the run names the network module '{NAME}', which is code: pass --trust-env"
    refused(run("train", "--resume", "run"), 2, message)
    refused(run("train", LAKE[0], "--config", "run/config.toml"), 2, message)
    assert run("evaluate", "run", "--episodes", "2").exit_code == 0  # all of its layers are Keras' own


@pytest.mark.parametrize("words", [["--network", "a:b", "--hidden", "64"], ["--network-arg", "a=1"]], ids=" ".join)
def test_settings_that_exclude_each_other_are_refused_before_anything_is_imported(words):
    code = (
        "import sys; from click.testing import CliRunner; from deeptaxi.cli.main import cli; "
        f"found = CliRunner().invoke(cli, ['train', 'Taxi-v4', *{words!r}]); assert found.exit_code == 2; "
        "print([name for name in ('numpy', 'gymnasium', 'keras') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
