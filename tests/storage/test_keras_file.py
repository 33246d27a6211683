from __future__ import annotations

import io
import json
import re
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.network.build import build_q_network, with_mask
from deeptaxi.network.plain import plain_network
from deeptaxi.network.policy_model import agent
from deeptaxi.network.tabulate import tabulate
from deeptaxi.storage.keras_file import check_weights
from deeptaxi.storage.models import load_network

STATES, ACTIONS = 16, 4


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The members of a saved network of ours."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    build_q_network(STATES, ACTIONS, (8,), dueling=True).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def refused(saved, tmp_path):
    """Write a model with other members; return the one line that loading it is refused with."""

    def load(foreign=True, **members):
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in {**saved, **{key.replace("__", "."): value for key, value in members.items()}}.items():
                if content is not None:
                    archive.writestr(name, content)
        with pytest.raises(DeepTaxiError) as caught:
            load_network(path, foreign=foreign)
        message = str(caught.value)
        assert message.startswith(str(path))
        assert "\n" not in message
        return message.removeprefix(str(path)).removeprefix(": ")

    return load


def changed(saved, layer, **values):
    """Return a config.json in which a layer (by number) has other values."""
    config = json.loads(saved["config.json"])
    config["config"]["layers"][layer].update(values)
    return json.dumps(config)


def asking(module, name, registered=None, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": registered}


@pytest.mark.parametrize(
    "network",
    [
        build_q_network(STATES, ACTIONS),
        build_q_network(STATES, ACTIONS, (8, 8), dueling=True, aggregation="max", activation="swish", factors=(4, 4)),
        with_mask(build_q_network(STATES, ACTIONS, dueling=True), np.eye(STATES, ACTIONS, dtype=bool) | True),
    ],
)
def test_files_written_by_deeptaxi_are_loaded(tmp_path, network):
    made = {"ours": network, "agent": agent(network, STATES), "plain": agent(plain_network(network), STATES)}
    for name, model in made.items():
        model.save(tmp_path / f"{name}.keras")
        loaded = load_network(tmp_path / f"{name}.keras", foreign=True, states=STATES)
        q_values = keras.ops.convert_to_numpy(loaded(np.arange(STATES, dtype="int32")))
        np.testing.assert_allclose(q_values, tabulate(network), atol=1e-5)


def elsewhere():
    """Models of Keras' own layers, as somebody else may have made them."""
    layers = keras.layers
    number, vector = keras.Input((), dtype="int32"), keras.Input((STATES,))
    noisy = layers.Dropout(0.5, seed=1)(layers.BatchNormalization()(layers.Dense(8, keras.activations.gelu)(vector)))
    grid = layers.Conv2D(4, 2, kernel_regularizer="l2")(layers.Reshape((4, 4, 1))(vector))
    shared = layers.Dense(4, kernel_constraint="max_norm")
    compiled = keras.Sequential([vector, layers.Dense(ACTIONS)])
    compiled.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)), "huber", ["mae"])
    return {
        "embedding": keras.Model(number, layers.Dense(ACTIONS)(layers.Embedding(STATES, 3)(number))),
        "encoding": keras.Sequential([keras.Input((1,)), layers.CategoryEncoding(STATES), layers.Dense(ACTIONS)]),
        "noisy": keras.Model(vector, layers.Dense(ACTIONS)(noisy)),
        "grid": keras.Model(vector, layers.Dense(ACTIONS)(layers.Flatten()(grid))),
        "shared": keras.Model(vector, layers.Subtract()([shared(vector), shared(vector * 2.0)])),
        "operations": keras.Model(
            vector, layers.Dense(ACTIONS)(keras.ops.one_hot(keras.ops.argmax(vector, -1), STATES))
        ),
        "compiled": compiled,
        "nested": keras.Model(vector, keras.ops.tanh(compiled(vector))),
    }


@pytest.mark.parametrize("name", elsewhere())
def test_models_of_built_in_layers_are_loaded(tmp_path, name):
    model = elsewhere()[name]
    model.save(tmp_path / "model.keras")
    loaded = load_network(tmp_path / "model.keras", foreign=True)
    x = np.zeros((1, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
    np.testing.assert_array_equal(loaded(x, training=False), model(x, training=False))


@pytest.mark.parametrize(
    ("layer", "asked"),
    [
        (asking("os", "system", command="touch /tmp/x"), "code that is not Keras' or deeptaxi's: os.system"),
        (asking("subprocess", "Popen", "subprocess>Popen"), "code that is not Keras' or deeptaxi's: subprocess.Popen"),
        (asking("builtins", "eval"), "code that is not Keras' or deeptaxi's: builtins.eval"),
        (asking(None, "MyLayer", "my>MyLayer"), "code that is not Keras' or deeptaxi's: my>MyLayer"),
        (asking("os", "system", "deeptaxi>OneHotDense"), "code that is not Keras' or deeptaxi's: os.system"),
        (asking("deeptaxi.backend.xla", "run"), "code that is not Keras' or deeptaxi's: deeptaxi.backend.xla.run"),
        (asking("keras.layers", "Lambda"), "keras.layers.Lambda, which no network on state numbers needs"),
        (asking("keras.layers", "TFSMLayer", filepath="/etc"), "keras.layers.TFSMLayer, which"),
        (asking("keras.layers", "TorchModuleWrapper"), "keras.layers.TorchModuleWrapper, which"),
        (asking("keras.layers", "StringLookup", vocabulary="/etc/passwd"), "keras.layers.StringLookup, which"),
        (asking("keras.utils", "get_file", origin="http://127.0.0.1"), "keras.utils.get_file, which"),
        (asking("keras.src.utils.file_utils", "get_file"), "keras.src.utils.file_utils.get_file, which"),
        (asking("keras.src.ops.core", "Map"), "keras.src.ops.core.Map, which"),
        (asking("keras.src.ops.numpy", "np"), "keras.src.ops.numpy.np, which"),
        (asking("keras.initializers", "deserialize"), "keras.initializers.deserialize, which"),
        (asking("keras.layers", "LSTM", units=2), "keras.layers.LSTM, which"),
        (asking(None, "__lambda__"), "not Keras' or deeptaxi's: __lambda__"),
        (asking(None, "__typespec__"), "not Keras' or deeptaxi's: __typespec__"),
        ({"class_name": "function", "module": "os", "config": "system"}, "deeptaxi's: os.system"),
        ({"class_name": "function", "module": "builtins", "config": "exec"}, "deeptaxi's: builtins.exec"),
        ({"class_name": "function", "module": "keras.utils", "config": "get_file"}, "keras.utils.get_file, which"),
        (asking(None, "Dense"), "code that is not Keras' or deeptaxi's: Dense"),
    ],
)  # fmt: skip
def test_a_file_that_needs_code_is_refused_with_the_name_of_the_code(saved, refused, layer, asked):
    inside = {"config": {"units": 3, "kernel_initializer": [{"deep": layer}]}}
    for number, change in ((1, layer), (2, inside)):
        message = refused(config__json=changed(saved, number, **change))
        assert message.startswith("it asks for ")
        assert asked in message


def test_layers_registered_by_the_process_are_loaded(tmp_path):
    @keras.saving.register_keras_serializable(package="mine")
    class Halved(keras.layers.Layer):
        def call(self, inputs):
            return inputs / 2

    keras.Sequential([keras.Input((STATES,)), Halved()]).save(tmp_path / "model.keras")
    try:
        assert load_network(tmp_path / "model.keras", foreign=True)(np.ones((1, STATES)))[0, 0] == 0.5
    finally:
        del keras.saving.get_custom_objects()["mine>Halved"]
    with pytest.raises(DeepTaxiError, match=r"it asks for code that is not Keras' or deeptaxi's: .*Halved: refused"):
        load_network(tmp_path / "model.keras", foreign=True)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../../x": b""}, "leads out of the folder"),
        ({"assets/vocabulary.txt": b"x"}, "it holds 'assets/vocabulary.txt', which is not a part of a network"),
        ({"config__json": None}, "it is not a .keras file: it holds no config.json"),
        ({"config__json": b"{" * 10}, "its config.json is damaged"),
        ({"config__json": b"[]"}, "its config.json is damaged (it is not a JSON object)"),
        ({"config__json": b"[" * 100_000}, "its config.json is damaged"),
        ({"config__json": b'{"a":' * 500 + b"1" + b"}" * 500}, "which is not a model of Keras' own layers"),
        ({"config__json": b" " * 2**21}, "its config.json takes 2.0 MiB, where at most 1.0 MiB are read"),
        ({"config__json": json.dumps(asking("os", "system"))}, "it holds os.system, which is not a model"),
        ({"metadata__json": b"nothing"}, "its metadata.json is damaged"),
        ({"model__weights__h5": b"nothing"}, "its model.weights.h5 is damaged"),
    ],
)
def test_a_file_that_is_no_model_is_refused(refused, members, message):
    assert message in refused(**members)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(refused):
    message = refused(model__weights__h5=bytes(2**28 + 1))
    assert re.fullmatch(r"its model\.weights\.h5 unpacks from \d+\.\d KiB to 256\.0 MiB", message)


def test_a_layer_larger_than_its_weights_is_refused_before_it_is_built(saved, refused):
    config = json.loads(saved["config.json"])["config"]["layers"][1]["config"]
    tracemalloc.start()
    message = refused(config__json=changed(saved, 1, config={**config, "units": 10**9, "states": 10**6}))
    assert "the layer 'hidden_0' is larger than the weights in the file" in message
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()


def saved_elsewhere(tmp_path, make):
    inputs = keras.Input((STATES,))
    keras.Model(inputs, make(inputs)).save(tmp_path / "made.keras")
    with pytest.raises(DeepTaxiError) as caught:
        load_network(tmp_path / "made.keras", foreign=True)
    return str(caught.value)


def test_a_layer_that_inflates_its_input_is_refused(tmp_path):
    message = saved_elsewhere(tmp_path, keras.layers.RepeatVector(10**9))
    assert "it computes [None, 1000000000, 16] numbers in between; at most 16,777,216 are allowed" in message


def test_nested_models_that_multiply_are_refused(tmp_path):
    def twice(inputs, depth=0):
        inner = keras.Sequential([keras.Input((STATES,)), keras.layers.Dense(STATES)])
        return inner(inner(inputs))

    def within(inputs):
        model = keras.Sequential([keras.Input((STATES,)), keras.layers.Dense(STATES)])
        for _ in range(5):
            model = keras.Sequential([keras.Input((STATES,)), model])
        return model(inputs)

    for make in (twice, within):
        assert "it nests models within models: refused" in saved_elsewhere(tmp_path, make)


def test_a_file_with_too_many_objects_is_refused(saved, refused):
    many = changed(saved, 1, config=[{}] * 10_001)
    assert "its config.json holds more than 10,000 objects, or deeper than 64" in refused(config__json=many)
    deep = json.loads("[" * 300 + "{}" + "]" * 300)
    assert "or deeper than 64" in refused(config__json=changed(saved, 1, config=deep))


@pytest.fixture
def weights(saved):
    """Return the weights of the network as HDF5, changed by a function."""

    def change(act):
        buffer = io.BytesIO(saved["model.weights.h5"])
        with h5py.File(buffer, "r+") as file:
            act(file)
        return buffer.getvalue()

    return change


def replaced(name, **how):
    def act(file):
        del file[name]
        file.create_dataset(name, **how)

    return act


def external(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"]["0"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft(file):
    file["layers/dense/vars/7"] = h5py.SoftLink("/layers")


def virtual(file):
    del file["layers/dense/vars/0"]
    layout = h5py.VirtualLayout((8, 1), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (8, 1))
    file["layers/dense/vars"].create_virtual_dataset("0", layout)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (external, "links to something else at '/layers/dense/vars/0'"),
        (soft, "links to something else at '/layers/dense/vars/7'"),
        (virtual, "takes '/layers/dense/vars/0' from another file"),
        (
            replaced("layers/dense/vars/0", shape=(8, 1), dtype="f4", external=[("/etc/passwd", 0, 32)]),
            "takes '/layers/dense/vars/0' from another file",
        ),
        (
            replaced("layers/dense/vars/0", shape=(8, 1), dtype=h5py.string_dtype()),
            "holds something other than numbers at '/layers/dense/vars/0'",
        ),
        (
            replaced("layers/dense/vars/0", shape=(2**20, 2**10), dtype="f4", chunks=(2**10, 2**10), compression=9),
            "unpacks from",
        ),
        (replaced("layers/dense/vars/0", shape=(3, 1), dtype="f4"), "cannot be loaded as a Q-network"),
    ],
)
def test_external_weights_are_refused(refused, weights, act, message):
    assert message in refused(model__weights__h5=weights(act))


def test_groups_that_contain_themselves_are_visited_once(weights):
    def around(file):
        file["layers/dense/again"] = file["layers"]

    assert check_weights(weights(around)) == STATES * 8 + 8 + (8 + 1) * (ACTIONS + 1)


def test_a_version_of_thousands_of_digits_is_no_version(saved, refused):
    message = refused(config__json=b"[]", metadata__json=json.dumps({"keras_version": "9" * 5_000}))
    assert re.search(r"damaged \(it is not a JSON object\)", message)


def test_missing_weights_are_refused_and_not_initialized(tmp_path):
    network = with_mask(build_q_network(STATES, ACTIONS, (8,), factors=(4, 4)), np.ones((STATES, ACTIONS), bool))
    agent(plain_network(network), STATES).save(tmp_path / "whole.keras")
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(tmp_path / "whole.keras") as whole, zipfile.ZipFile(path, "w") as archive:
        for name in whole.namelist():
            content = io.BytesIO(whole.read(name))
            if name.endswith(".h5"):
                with h5py.File(content, "r+") as file:
                    del file["layers/functional"]
            archive.writestr(name, content.getvalue())
    with pytest.raises(DeepTaxiError, match="cannot be loaded as a Q-network of deeptaxi"):
        load_network(path, foreign=True)
