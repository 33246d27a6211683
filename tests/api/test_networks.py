from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.networks import GivenNetwork, name_network
from deeptaxi.config import OBJECT, NetworkConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp import remembered
from deeptaxi.network.tabulate import tabulate
from tests.network import own_models as own

MODULE = "tests.network.own_models"
QUICK = {"updates": 12, "eval_every": 6, "environments": 2, "batch_size": 8, "replay_start": 16, "early_stop": False}
LAKE = {"env_args": {"is_slippery": False}, **QUICK}
CODE = """
import keras
from keras import layers

@keras.saving.register_keras_serializable("strangers")
class {name}(keras.Model):
    def __init__(self, states, actions, **kwargs):
        super().__init__(**kwargs)
        self.sizes = states, actions
        self.rows = layers.Embedding(states, actions)
    def call(self, states):
        return self.rows(states)
    def get_config(self):
        return {{**super().get_config(), **dict(zip(("states", "actions"), self.sizes))}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a model with dropout and batch normalization, stopped halfway and saved."""
    folder = tmp_path_factory.mktemp("own")
    return deeptaxi.train(
        "FrozenLake-v1", network=own.regularized, out=folder / "run", logs=folder / "logs", stop_after=6, **LAKE
    )


def test_a_function_that_can_be_imported_is_as_good_as_its_name(trained):
    assert trained.config.network == NetworkConfig(builder=f"{MODULE}:regularized")
    assert name_network(own.Subclassed) == (f"{MODULE}:Subclassed", own.Subclassed)
    assert name_network(lambda states, actions: None)[0] == f"{OBJECT}network"
    assert name_network(own.model) == (f"{OBJECT}Sequential", own.model)
    with pytest.raises(UsageError, match="or its name module:function, received an object of type int"):
        name_network(5)


def test_a_run_resumes_bit_for_bit(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    resumed = deeptaxi.train(resume=tmp_path / "run", logs=tmp_path, network=own.regularized)
    whole = deeptaxi.train("FrozenLake-v1", network=f"{MODULE}:regularized", **LAKE)
    assert resumed.weights_digest == whole.weights_digest


def test_another_seed_makes_other_weights(trained):
    other = deeptaxi.train("FrozenLake-v1", network=own.regularized, seed=1, stop_after=6, **LAKE)
    assert other.weights_digest != trained.weights_digest


def test_a_saved_run_opens_and_answers_alike(trained):
    loaded = deeptaxi.load(trained.folder)
    np.testing.assert_array_equal(loaded.q_values, trained.q_values)
    assert loaded.exact == trained.exact
    assert loaded.act([0, 1]).tolist() == trained.policy[:2].tolist()
    assert trained.to_dict()["network"] == {"kind": "own", "builder": f"{MODULE}:regularized"}
    assert trained.to_dict()["encoding"] is None
    text = (trained.folder / "config.toml").read_text()
    assert f'[network]\nbuilder = "{MODULE}:regularized"\n\n' in text


def test_everything_else_takes_it(trained, tmp_path):
    run = deeptaxi.load(trained.folder)
    assert deeptaxi.diagnose(run).to_dict()["model"] == run.name
    run.report(tmp_path / "page.html")
    assert f"own, of {MODULE}:regularized" in (tmp_path / "page.html").read_text()
    assert next(run.play()).action in range(4)
    done = deeptaxi.export(run, "npz", tmp_path / "table.npz")
    assert done.max_difference == 0
    with np.load(tmp_path / "table.npz") as file:
        np.testing.assert_array_equal(file["q_values"][:16], run.q_values)


def test_a_card_says_what_built_the_network(trained):
    card = json.loads((trained.folder / "card.json").read_text())
    assert card["network"] == {"kind": "own", "description": f"own, of {MODULE}:regularized", "module": MODULE}
    assert card["commands"]["train"].endswith(" --trust-env --stop-after 6")
    assert f"import {MODULE}  # where its classes are registered" in (trained.folder / "card.md").read_text()


def test_a_model_in_memory_is_trained_as_it_is_and_left_so(tmp_path):
    model = own.build(16, 4)
    before = model.get_weights()
    run = deeptaxi.train(
        "FrozenLake-v1", network=model, out=tmp_path / "run", logs=tmp_path / "logs", stop_after=6, **LAKE
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert run.config.network.builder == f"{OBJECT}Functional"
    card = (run.folder / "card.md").read_text()
    assert f"deeptaxi.train(network=network, config='{run.folder / 'config.toml'}', stop_after=6)" in card
    assert "only with the same model or function, as `network` in the command, it is trained again or resumed" in card
    with pytest.raises(UsageError, match="the network Functional was an object in memory, which no file holds"):
        deeptaxi.train(resume=run.folder)
    resumed = deeptaxi.train(resume=run.folder, network=model)
    assert resumed.weights_digest == deeptaxi.train("FrozenLake-v1", network=model, **LAKE).weights_digest
    assert deeptaxi.load(run.folder).act(0) in range(4)


def test_an_interrupted_run_says_how_it_is_resumed(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "named")
    out = {"out": tmp_path / "memory", "logs": tmp_path / "logs"}
    deeptaxi.train("FrozenLake-v1", network=own.model, stop_after=6, **out, **LAKE)
    for name, resume in (
        ("named", f"deeptaxi train --resume {tmp_path / 'named'} --trust-env"),
        ("memory", f"deeptaxi.train(network=network, resume='{tmp_path / 'memory'}')"),
    ):
        (tmp_path / name / "model.keras").unlink()
        with pytest.raises(UsageError) as caught:
            deeptaxi.load(tmp_path / name)
        assert f"its training was interrupted; `{resume}` resumes it" in str(caught.value)


def test_training_begins_at_the_weights_of_the_model():
    model = own.build(16, 4)
    found = deeptaxi.explain.update(env="FrozenLake-v1", network=model, transitions=[(14, 2, 1.0, 15, True)])
    np.testing.assert_allclose(found["q_online"], tabulate(model, 16)[14], rtol=1e-5)


def test_a_resumed_network_must_be_of_the_same_shape(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    config = trained.config.network
    assert GivenNetwork.of({"network": {"builder": config.builder}}, None, False).trust
    with pytest.raises(UsageError, match=r"cannot change --network on resume: .* uses .*:regularized, not .*:build"):
        deeptaxi.train(resume=tmp_path / "run", network=own.build)


@pytest.mark.parametrize("loop", ["compiled", "gymnasium", "fit"])
def test_a_resumed_builder_may_not_build_another_network(loop, tmp_path):
    widths = iter((8, 9))

    def build(states, actions):
        return own.build(states, actions, next(widths))

    out = {"out": tmp_path / "run", "logs": tmp_path / "logs"}
    few = {**LAKE, "loop": loop, "updates": 3}
    run = deeptaxi.train("FrozenLake-v1", network=build, stop_after=1, **out, **few)
    with pytest.raises(UsageError, match="does not fit the network that in-memory/build gives now"):
        deeptaxi.train(resume=run.folder, network=build)


def test_classes_of_its_own_are_imported_only_where_they_are_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strange_net.py").write_text(CODE.format(name="Strange"))
    run = deeptaxi.train("FrozenLake-v1", network="strange_net:Strange", out="run", logs="logs", stop_after=6, **LAKE)
    forget()
    assert deeptaxi.load("run").weights_digest == run.weights_digest  # this user has trained with the code
    forget()
    monkeypatch.setenv(remembered.VARIABLE, "off")
    with pytest.raises(UsageError, match="the run names the network module 'strange_net', which is code: pass"):
        deeptaxi.load("run")
    assert "strange_net" not in sys.modules
    with pytest.raises(UsageError, match="names the network module 'strange_net'"):
        deeptaxi.train("FrozenLake-v1", config="run/config.toml")
    with pytest.raises(DeepTaxiError, match=r"asks for code .*strange_net\.Strange.*import the module whose classes"):
        deeptaxi.load("run/model.keras", "FrozenLake-v1")
    assert deeptaxi.load("run", trust_env=True).weights_digest == run.weights_digest


def test_code_that_has_changed_is_not_trusted_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "changing_net.py").write_text(CODE.format(name="Changing"))
    deeptaxi.train("FrozenLake-v1", network="changing_net.py:Changing", out="run", logs="logs", **LAKE)
    forget()
    (tmp_path / "changing_net.py").write_text(CODE.format(name="Changing") + "\n")
    with pytest.raises(UsageError, match=r"whose file .*changing_net\.py has changed since you trained with it"):
        deeptaxi.load("run")


def forget():
    """Be a new process, which has not imported the code."""
    for name in ("strange_net", "changing_net"):
        sys.modules.pop(name, None)
    for known in list(keras.saving.get_custom_objects()):
        if known.startswith("strangers>"):
            del keras.saving.get_custom_objects()[known]


def test_a_layer_that_no_file_may_hold_is_refused_before_any_work(tmp_path):
    def build(states, actions):
        return keras.Sequential([keras.Input((1, states)), keras.layers.LSTM(4), keras.layers.Dense(actions)])

    with pytest.raises(UsageError, match=r"the model of build: its file could not be opened again: .*LSTM"):
        deeptaxi.train("FrozenLake-v1", network=build, out=tmp_path / "run", **LAKE)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("build", ["build", "regularized"])
def test_the_compiled_loop_trains_it_and_resumes_bit_for_bit(build, tmp_path):
    where = {"logs": tmp_path / "logs", "env_args": {"is_slippery": False}, "loop": "compiled", "updates": 400}
    network = {"build": own.build, "regularized": regularized}[build]
    whole = deeptaxi.train("FrozenLake-v1", network=network, out=tmp_path / "whole", early_stop=False, **where)
    assert whole.finished.updates == 400
    assert whole.config.loop == "compiled"
    deeptaxi.train("FrozenLake-v1", network=network, out=tmp_path / "part", early_stop=False, stop_after=150, **where)
    resumed = deeptaxi.train(resume=tmp_path / "part", network=network)
    assert resumed.weights_digest == whole.weights_digest
    assert deeptaxi.load(tmp_path / "part").weights_digest == whole.weights_digest


def regularized(states, actions):
    """Build a model with all that a training does and an answer does not."""
    return keras.Sequential(
        [
            keras.Input((), dtype="int32"),
            keras.layers.Embedding(states, 8, embeddings_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1, seed=1),
            keras.layers.Dense(actions),
        ]
    )


def test_a_fitted_layer_is_not_explained(trained):
    with pytest.raises(UsageError, match="this network computes otherwise while it is fitted"):
        deeptaxi.explain.update(trained, state=0)


def test_an_update_of_two_streams_is_explained():
    found = deeptaxi.explain.update(
        env="FrozenLake-v1", network=own.two_streams, env_args={"is_slippery": False}, state=14, action=2, compare=True
    )
    assert found["network"] == {"kind": "own", "builder": f"{MODULE}:two_streams"}
    assert found["gradient"]["aggregation"] == "mean"
    assert sum(found["gradient"]["dE_dQ"]) == pytest.approx(found["gradient"]["dE_dV"])
    assert found["comparison"]["gradient_difference"] < 1e-6
    assert f"own, of {MODULE}:two_streams; fresh" in str(found)


def test_a_scaled_and_masked_run_is_saved_and_explained(tmp_path):
    settings = {**QUICK, "reward_scale": 4.0, "action_mask": True}
    run = deeptaxi.train("Taxi-v4", network=own.two_streams, **settings)
    assert np.isneginf(run.q_values).any()
    found = deeptaxi.explain.update(run, state=26, action=0)
    online = np.array(found["q_online"]) * 4
    np.testing.assert_allclose(online[0], run.q_values[26, 0], rtol=1e-5)
    assert replace(run.config.network, kwargs={"a": 1}).kind == "own"
