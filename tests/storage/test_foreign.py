"""Models of every kind for FrozenLake without ice, all with the same optimal Q values, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.environment import Environment, open_environment
from deeptaxi.mdp.planning import value_iteration
from deeptaxi.network.encodings import parts_of
from deeptaxi.network.tabulate import tabulate
from deeptaxi.storage.foreign import read_model
from deeptaxi.storage.models import find_model

S, A = 16, 4


@pytest.fixture(scope="module")
def lake() -> Environment:
    return open_environment(EnvironmentConfig("FrozenLake-v1", {"is_slippery": False}))


@pytest.fixture(scope="module")
def q_star(lake: Environment) -> Any:
    assert lake.table is not None
    return value_iteration(lake.table, 0.99).q.astype(np.float32)


@pytest.fixture(scope="module")
def embedding(q_star: Any) -> keras.Model:
    """The one Keras model that most tests save."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Embedding(S, A), keras.layers.Reshape((A,))])
    model.set_weights([q_star])
    return model


@pytest.fixture(scope="module")
def saved(embedding: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of it, made by `model.export`."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    embedding.export(str(folder), verbose=False)
    return folder


def q_of(path: Path, lake: Environment) -> Any:
    network, array = read_model(find_model(path), lake)
    return array if network is None else tabulate(network, S, parts_of(lake))


def dense(shape: tuple[int, ...], kernel: Any) -> keras.Model:
    layers = [keras.layers.Flatten()] if len(shape) > 1 else []
    model = keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(A, use_bias=False)])
    model.set_weights([np.asarray(kernel, np.float32)])
    return model


@pytest.mark.filterwarnings("ignore:.*HDF5")
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_whole_keras_files(ending: str, embedding: keras.Model, lake: Environment, q_star: Any, tmp_path: Path) -> None:
    embedding.save(tmp_path / f"model.{ending}")
    np.testing.assert_allclose(q_of(tmp_path / f"model.{ending}", lake), q_star, rtol=1e-6)


def test_inputs_of_all_kinds(lake: Environment, q_star: Any, tmp_path: Path) -> None:
    rows, columns = np.unravel_index(np.arange(S), (4, 4))
    parts, hot = np.arange(8.0).reshape(2, 4), np.arange(32.0).reshape(8, 4)
    cases = [
        (dense((S,), q_star), q_star),
        (dense((1, S), q_star), q_star),  # keras-rl's window of one observation
        (dense((2,), parts), np.stack([rows, columns], 1) @ parts),
        (dense((8,), hot), hot[rows] + hot[4 + columns]),
    ]
    for number, (model, expected) in enumerate(cases):
        model.save(tmp_path / f"{number}.keras")
        np.testing.assert_allclose(q_of(tmp_path / f"{number}.keras", lake), expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*HDF5")
def test_the_h5_of_keras_2_names_no_modules(embedding: keras.Model, lake: Environment, tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    embedding.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            layer.pop("module", None)
            layer.pop("registered_name", None)
            layer["config"]["dtype"] = "float32"
            if "embeddings_initializer" in layer["config"]:
                layer["config"]["embeddings_initializer"] = {"class_name": "RandomUniform", "config": {}}
        file.attrs["model_config"] = json.dumps(config)
    np.testing.assert_allclose(q_of(path, lake), tabulate(embedding, S), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*HDF5")
def test_code_in_an_h5_is_refused(embedding: keras.Model, lake: Environment, tmp_path: Path) -> None:
    for kind, said in (("Lambda", "Lambda: refused"), ("Thing", "asks for code")):
        path = tmp_path / f"{kind}.h5"
        embedding.save(path)
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            config["config"]["layers"][-1]["class_name"] = kind
            config["config"]["layers"][-1].pop("module", None)
            file.attrs["model_config"] = json.dumps(config)
        with pytest.raises(DeepTaxiError, match=said):
            q_of(path, lake)


def test_a_lambda_is_refused_with_the_way_to_judge_it(lake: Environment, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((S,)), keras.layers.Dense(A), keras.layers.Lambda(lambda x: x, (A,))])
    model.save(tmp_path / "model.keras")
    with pytest.raises(DeepTaxiError, match=r"Lambda, which no network.*deeptaxi\.export.*safe_mode=False"):
        q_of(tmp_path / "model.keras", lake)


def test_weights_alone_are_no_model(embedding: keras.Model, lake: Environment, tmp_path: Path) -> None:
    embedding.save_weights(tmp_path / "some.weights.h5")
    with pytest.raises(DeepTaxiError, match="weights without their network: save the whole model"):
        q_of(tmp_path / "some.weights.h5", lake)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [(lambda x: [keras.layers.Dense(1)(x), keras.layers.Dense(A)(x)], "1 inputs and 2 outputs"),
     (lambda x: keras.layers.Dense(A + 1)(x), r"an output of shape \[None, 5\]")],
)  # fmt: skip
def test_other_outputs_are_refused(outputs: Any, said: str, lake: Environment, tmp_path: Path) -> None:
    taken = keras.Input((S,))
    keras.Model(taken, outputs(taken)).save(tmp_path / "model.keras")
    with pytest.raises(UsageError, match=said):
        q_of(tmp_path / "model.keras", lake)


def test_savedmodels_are_computed_by_tensorflow(saved: Path, lake: Environment, q_star: Any) -> None:
    np.testing.assert_allclose(q_of(saved, lake), q_star, rtol=1e-6)


@pytest.mark.parametrize(
    ("operation", "called"), [("WriteFile", ""), ("StatefulPartitionedCall", "__inference__traced_save_7")]
)
def test_a_savedmodel_that_does_more_than_compute_is_refused(
    operation: str, called: str, saved: Path, lake: Environment, tmp_path: Path
) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    evil = shutil.copytree(saved, tmp_path / "evil")
    found = saved_model_pb2.SavedModel.FromString((saved / "saved_model.pb").read_bytes())
    functions = found.meta_graphs[0].graph_def.library.function
    node = next(one for one in functions if "traced" not in one.signature.name).node_def.add()
    node.name, node.op = "evil", operation
    if called:  # savers are not looked into, so nothing may call them
        node.attr["f"].func.name = called
    (evil / "saved_model.pb").write_bytes(found.SerializeToString())
    with pytest.raises(DeepTaxiError, match=f"asks for {called or operation}, which does more than compute"):
        q_of(evil, lake)


def test_onnx_is_computed_by_its_runtime(lake: Environment, q_star: Any, tmp_path: Path) -> None:
    import onnx

    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "kernel"], ["q"])],
        "net",
        [value("x", onnx.TensorProto.FLOAT, ["B", S])],
        [value("q", onnx.TensorProto.FLOAT, ["B", A])],
        [onnx.numpy_helper.from_array(q_star, "kernel")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    np.testing.assert_allclose(q_of(tmp_path / "net.onnx", lake), q_star, rtol=1e-6)


def test_damaged_files_are_refused_by_name(saved: Path, lake: Environment, tmp_path: Path) -> None:
    broken = shutil.copytree(saved, tmp_path / "broken")
    (broken / "saved_model.pb").write_bytes(b"nothing of the kind")
    (tmp_path / "net.onnx").write_bytes(b"nothing of the kind")
    (tmp_path / "net.h5").write_bytes(b"nothing of the kind")
    for name in ("broken", "net.onnx", "net.h5: it is damaged"):
        with pytest.raises(DeepTaxiError, match=name):
            q_of(tmp_path / name.partition(":")[0], lake)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("q.pkl", r"is a pickle, which runs code .* python -c .*numpy\.save\('q\.npy'"),
        ("net.pt", r"torch\.onnx\.export"),
        ("notes.txt", "neither a run folder nor a model file"),
    ],
)
def test_files_that_are_no_models(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(UsageError, match=said):
        find_model(tmp_path / name)
