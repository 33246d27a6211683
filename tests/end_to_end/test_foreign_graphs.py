"""Models whose graphs hold more than a network of ours: refused in one line, or evaluated by what they answer."""

from __future__ import annotations

import json
import shutil

import keras
import pytest
from keras import ops

import deeptaxi
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.layers import OneHotDense
from deeptaxi.network.build import build_q_network
from deeptaxi.network.policy_model import agent
from deeptaxi.storage.models import load_network
from tests.cli.conftest import LAKE, refused, run

ENV = ["--env", *LAKE]
ENDINGS = {"npz": ".npz", "csv": ".csv", "plain": ".keras", "onnx": ".onnx", "litert": ".tflite"}
COMMANDS = {
    "evaluate": ["evaluate", "odd.keras", *ENV],
    "watch": ["watch", "odd.keras", *ENV, "--max-steps", "2"],
    "explain": ["explain", "update", "odd.keras", *ENV],
    "diagnose": ["diagnose", "odd.keras", *ENV],
    **{name: ["export", "odd.keras", "--format", name, "--out", f"x{end}"] for name, end in ENDINGS.items()},
}


@pytest.fixture
def network(lake_run, tmp_path, monkeypatch):
    """The network of an optimal run."""
    monkeypatch.chdir(tmp_path)
    return load_network(lake_run / "model.keras")


def around(network, function):
    return keras.Model(network.input, function(network.output))


@pytest.fixture
def negative(network):
    """A model with a computation after its table, which makes the worst action the greedy one."""
    model = around(network, ops.negative)
    model.save("odd.keras")
    return model


def test_a_computation_after_the_table_is_judged_by_its_outputs(negative):
    assert json.loads(run(*COMMANDS["evaluate"], "--episodes", "0", "--json").stdout)["exact"]["optimal"] is False
    assert run(*COMMANDS["watch"]).exit_code == 0


def test_a_computation_after_the_table_is_not_explained(negative):
    refused(run(*COMMANDS["explain"]), 2, "odd.keras is not a deeptaxi network")


@pytest.mark.parametrize("name", ENDINGS)
def test_a_computation_after_the_table_is_exported_for_a_named_environment_only(negative, name):
    refused(run(*COMMANDS[name]), 2, "odd.keras does not record what states it is for", "--env")


def test_a_computation_after_the_table_is_exported_with_its_outputs(negative):
    assert run(*COMMANDS["npz"], *ENV).exit_code == 0
    assert json.loads(run("evaluate", "x.npz", *ENV, "--episodes", "0", "--json").stdout)["exact"]["optimal"] is False


@pytest.mark.parametrize("name", COMMANDS)
def test_a_computation_after_an_exported_agent_is_refused(network, name):
    whole = agent(network, 16)
    outputs = {"q_values": ops.negative(whole.output["q_values"]), "action": whole.output["action"]}
    keras.Model(whole.input, outputs).save("odd.keras")
    refused(run(*COMMANDS[name]), 1, "its answers are not those of the network in it", "export it again")


def test_diagnose_and_python_evaluate_a_foreign_graph_by_its_outputs(network):
    place = {"env": "FrozenLake-v1", "env_args": {"is_slippery": False}}
    negative = around(network, ops.negative)
    negative.save("odd.keras")
    assert deeptaxi.diagnose("odd.keras", **place).optimal is False
    assert deeptaxi.evaluate(negative, episodes=0, **place).optimal is False
    assert deeptaxi.evaluate(around(network, lambda x: 2 * x), episodes=0, **place).optimal is True
    with pytest.raises(UsageError, match="pass its environment as env="):
        deeptaxi.export(negative, "npz", "x.npz")
    with pytest.raises(DeepTaxiError, match="not a function of the state"):
        deeptaxi.evaluate(around(network, lambda x: ops.flip(x, axis=0)), **place)


def test_a_small_file_does_not_take_all_memory(network):
    q_values = network.output
    for _ in range(8):
        q_values = ops.max(keras.layers.RepeatVector(4_000_000)(q_values), axis=1)
    keras.Model(network.input, q_values).save("odd.keras")
    refused(run(*COMMANDS["diagnose"]), 1, "MiB of numbers for a single state, more than the limit of 512 MiB")


@pytest.mark.parametrize("activation", ["glu", "deserialize"])
@pytest.mark.parametrize("name", COMMANDS)
def test_an_activation_that_does_not_fit_is_refused(tmp_path, monkeypatch, name, activation):
    monkeypatch.chdir(tmp_path)
    state = keras.Input((), dtype="int32")
    layer = OneHotDense(4, 16)
    model = keras.Model(state, layer(state))
    layer.activation = getattr(keras.activations, activation)
    model.save("odd.keras")
    refused(run(*COMMANDS[name]), 2 if activation == "glu" and name in ENDINGS else 1)


@pytest.mark.parametrize("dtype", ["bfloat16", "int32", "float64"])
def test_other_types_of_numbers_are_refused_or_evaluated(network, dtype):
    state = keras.Input((), dtype="int32")
    layer = OneHotDense(4, 16, use_bias=False, dtype=dtype, kernel_initializer="zeros")
    model = keras.Model(state, layer(state))
    layer.set_weights([(1000 * weight).astype(dtype) for weight in network.get_weights()])
    model.save("odd.keras")
    if dtype == "bfloat16":
        refused(run(*COMMANDS["diagnose"]), 1, "holds something other than numbers", "save it as float32")
        return
    assert json.loads(run(*COMMANDS["evaluate"], "--episodes", "0", "--json").stdout)["exact"]["optimal"] is True
    result = run(*COMMANDS["diagnose"], "--json")
    assert result.exit_code == 0, result.output
    assert not any(finding["severity"] == "severe" for finding in json.loads(result.stdout)["findings"])


def test_a_run_whose_model_contradicts_its_configuration_is_not_explained(lake_run, tmp_path):
    shutil.copytree(lake_run, tmp_path / "run")
    build_q_network(16, 4, (8,)).save(tmp_path / "run" / "model.keras")
    line = refused(
        run("explain", "update", tmp_path / "run"), 2, "its config.toml describes a network with hidden = []"
    )
    assert "its model has [8]" in line
