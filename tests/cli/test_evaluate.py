from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import keras
import pytest

from tests.cli.conftest import LAKE, refused, run


def test_the_json_has_the_promised_shape(lake_run: Path) -> None:
    summary = json.loads(run("evaluate", lake_run, "--json").stdout)
    assert list(summary) == ["model", "environment", "exact", "exact_unavailable", "episodes"]
    assert summary["environment"] == {
        "id": "FrozenLake-v1", "kwargs": {"is_slippery": False}, "states": 16, "actions": 4, "time_limit": 100,
    }  # fmt: skip
    assert summary["exact"]["optimal"] is True
    assert summary["exact"]["mean_episode_length"] == 6  # the shortest way over the ice
    assert summary["episodes"]["count"] == 1000
    assert summary["episodes"]["ci95"] == [1.0, 1.0]


def test_a_bare_model_file_needs_its_environment(lake_run: Path) -> None:
    file = lake_run / "model.keras"
    refused(run("evaluate", file), 2, "--env")
    summary = json.loads(run("evaluate", file, "--env", *LAKE, "--episodes", 0, "--json").stdout)
    assert summary["exact"]["optimal"] is True
    assert summary["exact"]["q_error"] is None  # its training discount is not known
    assert summary["episodes"] is None


def test_a_run_can_be_evaluated_on_another_variant(lake_run: Path) -> None:
    exact = json.loads(
        run("evaluate", lake_run, "--env-arg", "is_slippery=true", "--time-limit", 7, "--episodes", 0, "--json").stdout
    )["exact"]
    assert exact["horizon"] == 7
    assert not exact["optimal"]


def test_evaluate_prints_a_table(lake_run: Path) -> None:
    text = run("evaluate", lake_run, "--episodes", 10).stdout
    assert "yes: 1 of 1 start states are played optimally" in text
    assert "Episodes: 10" in text


def test_a_narrow_terminal_loses_no_number(lake_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as on a terminal
    text = run("evaluate", lake_run, "--episodes", 2).stdout
    assert "0.951" in text
    assert "yes: 1 of 1" in text


def test_a_model_of_other_sizes_is_refused(lake_run: Path) -> None:
    refused(run("evaluate", lake_run, "--env", "Taxi-v4"), 2, "16 states and 4 actions", "500 and 6")


def test_a_file_that_is_not_a_model_is_refused(lake_run: Path, tmp_path: Path) -> None:
    refused(run("evaluate", tmp_path / "none"), 2, "no model at")
    refused(run("evaluate", tmp_path), 2, "not a run folder")
    refused(run("evaluate", lake_run / "config.toml"), 2, "neither a run folder nor a model file")


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_truncated_model_is_refused(lake_run: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "half.keras"
    path.write_bytes((lake_run / "model.keras").read_bytes()[:keep])
    refused(run("evaluate", path, "--env", *LAKE), 1, "half.keras")


def test_a_foreign_keras_model_with_other_inputs_is_refused(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "foreign.keras")
    refused(
        run("evaluate", tmp_path / "foreign.keras", "--env", *LAKE),
        2,
        "an input of shape [None, 4]: expected a state number",
    )


def test_an_archive_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    refused(run("evaluate", tmp_path / "zip.keras", "--env", *LAKE), 1, "zip.keras")


def test_a_model_with_code_inside_is_never_run(tmp_path: Path) -> None:
    state = keras.Input((), dtype="int32")
    path = tmp_path / "lambda.keras"
    keras.Model(state, keras.layers.Lambda(lambda x: x)(state)).save(path)
    refused(run("evaluate", path, "--env", *LAKE), 1, "lambda.keras")


def test_a_run_without_its_configuration_says_so(lake_run: Path, tmp_path: Path) -> None:
    shutil.copy(lake_run / "model.keras", tmp_path / "model.keras")
    refused(run("evaluate", tmp_path), 1, "config.toml", "--env")
