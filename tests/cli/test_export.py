from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from deeptaxi.network.build import tabulate
from tests.cli.conftest import refused, run


@pytest.fixture
def q_values(lake_run: Path) -> np.ndarray:
    return tabulate(keras.saving.load_model(lake_run / "model.keras"))


@pytest.mark.parametrize("form", ["keras", "csv", "npz", "json", "savedmodel"])
def test_every_format_is_read_back_and_never_overwrites_unasked(lake_run: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / "deep" / f"model.{form}"
    done = json.loads(run("export", lake_run, "--format", form, "--out", path, "--json").stdout)
    assert done == {"format": form, "path": str(path), "states": 16, "max_difference": 0.0}
    refused(run("export", lake_run, "--format", form, "--out", path), 2, "exists", "--force")
    assert run("export", lake_run, "--format", form, "--out", path, "--force").exit_code == 0


def test_the_tables_hold_the_q_values_and_the_greedy_policy(
    lake_run: Path, tmp_path: Path, q_values: np.ndarray
) -> None:
    for form in ("csv", "npz", "json"):
        assert run("export", lake_run, "--format", form, "--out", tmp_path / f"q.{form}").exit_code == 0
    with (tmp_path / "q.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    document = json.loads((tmp_path / "q.json").read_text())
    states = list(document["policy"].values())
    with np.load(tmp_path / "q.npz") as archive:
        tables = [
            np.array([row[2:-2] for row in rows], float),
            [s["q_values"] for s in states],
            archive["q_values"][:-1],
        ]
        policies = [[int(row[-2]) for row in rows], [state["action"] for state in states], archive["policy"][:-1]]
    for table, policy in zip(tables, policies, strict=True):
        assert np.array_equal(np.asarray(table, np.float32), q_values)
        assert np.array_equal(policy, q_values.argmax(axis=1))
    assert document["environment"]["id"] == "FrozenLake-v1"
    assert document["environment"]["kwargs"] == {"is_slippery": False}
    assert states[5]["name"] == rows[5][1] == "row 1, column 1"


@pytest.mark.slow
def test_a_savedmodel_answers_where_deeptaxi_is_not_imported(
    lake_run: Path, tmp_path: Path, q_values: np.ndarray
) -> None:
    run("export", lake_run, "--format", "savedmodel", "--out", tmp_path / "sm")
    np.save(tmp_path / "q.npy", q_values)
    code = """
import sys
import numpy as np, tensorflow as tf
serve = tf.saved_model.load("sm").signatures["serving_default"]
reply = serve(state=tf.range(-1, 17))
q, action = reply["q_values"].numpy(), reply["action"].numpy()
expected = np.load("q.npy")
assert np.array_equal(q[1:-1], expected) and np.array_equal(action[1:-1], expected.argmax(1))
assert np.isnan(q[[0, -1]]).all() and (action[[0, -1]] == -1).all()
assert "deeptaxi" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_folder_that_is_no_export_survives_force(lake_run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    words = ["export", lake_run, "--format", "savedmodel", "--out", tmp_path / "thesis", "--force"]
    refused(run(*words), 2, "something else")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_the_model_is_not_written_onto_itself(lake_run: Path) -> None:
    file = lake_run / "model.keras"
    before = file.read_bytes()
    refused(run("export", file, "--format", "keras", "--out", file, "--force"), 2, "the model itself")
    assert file.read_bytes() == before


def test_a_model_that_gives_nan_is_not_exported(lake_run: Path, tmp_path: Path) -> None:
    network = keras.saving.load_model(lake_run / "model.keras")
    network.set_weights([np.full_like(weight, np.nan) for weight in network.get_weights()])
    network.save(tmp_path / "nan.keras")
    refused(run("export", tmp_path / "nan.keras", "--format", "csv", "--out", tmp_path / "q.csv"), 1, "NaN")
    assert not (tmp_path / "q.csv").exists()


def test_an_unknown_format_names_the_known_ones(lake_run: Path) -> None:
    refused(run("export", lake_run, "--format", "excel"), 2, "savedmodel", "csv")
