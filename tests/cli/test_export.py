from __future__ import annotations

import csv
import json
import shutil
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from deeptaxi.exports import exporter
from deeptaxi.exports.writers import WRITERS
from deeptaxi.network.build import build_q_network
from deeptaxi.network.tabulate import tabulate
from deeptaxi.storage.formats import FORMATS
from tests.cli.conftest import refused, run


@pytest.fixture(scope="module")
def q_values(lake_run: Path) -> np.ndarray:
    return tabulate(keras.saving.load_model(lake_run / "model.keras"))


@pytest.fixture(scope="module")
def everything(lake_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What `--all` prints, and its folder."""
    folder = tmp_path_factory.mktemp("deep") / "out" / "exports"
    result = run("export", lake_run, "--all", "--out", folder)
    assert result.exit_code == 0, result.output
    return result.stdout, folder


@pytest.mark.slow
def test_all_formats_are_written_with_a_line_each(everything: tuple[str, Path]) -> None:
    printed, folder = everything
    assert {path.name for path in folder.iterdir()} == {
        *(form.file for form in FORMATS.values()), "card.md", "card.json",
    }  # fmt: skip
    for form in FORMATS.values():
        (line,) = (line for line in printed.splitlines() if line.split()[:1] == [form.name])
        assert line.split()[1:3] == [form.file, "0"]
        assert "the same actions" in line
    assert "Wrote 8 formats" in printed
    assert "all 16 states" in printed


@pytest.mark.slow
def test_the_card_of_a_folder_of_exports_lists_each(everything: tuple[str, Path], lake_run: Path) -> None:
    _, folder = everything
    card, of_run = (json.loads((place / "card.json").read_text()) for place in (folder, lake_run))
    assert {one["format"]: one["outside"] for one in card.pop("exports")} == of_run["outside"]
    assert card == of_run
    assert "| `q_table.npz` | npz | 0 | NaN and action −1 |" in (folder / "card.md").read_text()


@pytest.mark.slow
def test_an_exported_keras_file_is_evaluated_like_the_run(everything: tuple[str, Path], lake_run: Path) -> None:
    lake = ["--env", "FrozenLake-v1", "--env-arg", "is_slippery=false", "--episodes", "0", "--json"]
    exported = json.loads(run("evaluate", everything[1] / "model.keras", *lake).stdout)
    assert exported["exact"]["optimal"]
    plain = everything[1] / "plain.keras"
    assert json.loads(run("evaluate", plain, *lake).stdout)["exact"] == exported["exact"]
    assert run("diagnose", plain, *lake[:4]).exit_code == 0
    refused(run("diagnose", plain, "--env", "FrozenLake8x8-v1"), 1, "another number of states than 64")


@pytest.mark.parametrize("name", ["onnx", "litert", "csv", "npz", "json"])
def test_a_format_is_read_back_and_never_overwrites_without_force(lake_run: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "deep" / f"model{FORMATS[name].ending}"
    done = json.loads(run("export", lake_run, "--format", name, "--out", path, "--json").stdout)
    expected = {"format": name, "path": str(path), "states": 16, "max_difference": 0.0, "differing_actions": 0}
    assert done == {**expected, "outside": FORMATS[name].outside, "skipped": None, "failed": None}
    refused(run("export", lake_run, "--format", name, "--out", path), 2, "exists", "--force")
    printed = run("export", lake_run, "--format", name, "--out", path, "--force").stdout
    assert f"({name}); max difference 0 over all 16 states, the same actions; out-of-range states: " in printed


def test_a_failing_format_exits_with_1_and_leaves_the_others(
    lake_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {name: FORMATS[name] for name in ("npz", "json")}
    monkeypatch.setattr(exporter, "FORMATS", quick)
    monkeypatch.setitem(WRITERS, "json", lambda source, path: path.write_text("{}"))
    result = run("export", lake_run, "--all", "--out", tmp_path / "all")
    assert result.exit_code == 1
    assert "Failed json: the json export cannot be read back, so it was not kept: KeyError" in result.stdout
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"q_table.npz", "card.md", "card.json"}


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


def test_a_model_file_gets_the_names_of_the_given_environment(lake_run: Path, tmp_path: Path) -> None:
    model, path = lake_run / "model.keras", tmp_path / "q.json"
    assert run("export", model, "--format", "json", "--out", path).exit_code == 0
    assert json.loads(path.read_text())["actions"][0] == "action 0"
    named = run("export", model, "--format", "json", "--env", "FrozenLake-v1", "--out", path, "--force")
    assert named.exit_code == 0
    assert json.loads(path.read_text())["actions"] == ["left", "down", "right", "up"]
    refused(run("export", model, "--format", "json", "--env", "Taxi-v4", "--out", path, "--force"), 2, "16 states")


def test_exactly_one_of_format_and_all_is_required() -> None:
    for words in ([], ["--all", "--format", "csv"]):
        refused(run("export", "anything", *words), 2, "--format with one of keras, plain", "or --all")


def test_an_unknown_format_is_answered_with_the_known_ones(lake_run: Path) -> None:
    refused(run("export", lake_run, "--format", "excel"), 2, "savedmodel", "csv")


def test_a_missing_runtime_is_reported_with_how_to_install_it(lake_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    refused(run("export", lake_run, "--format", "litert"), 2, "ai_edge_litert", "pip install 'deeptaxi[litert]'")


@pytest.mark.parametrize("words", [["--format", "npz"], ["--all", "--force"]])
def test_exports_into_the_run_are_refused(lake_run: Path, words: list[str]) -> None:
    before = sorted(path.name for path in lake_run.iterdir())
    for inside in ("exports", ".", "q.npz"):
        refused(run("export", lake_run, *words, "--out", lake_run / inside), 2, "is in the run")
    assert sorted(path.name for path in lake_run.iterdir()) == before


@pytest.mark.parametrize("words", [["--format", "savedmodel"], ["--format", "onnx"], ["--all"]])
def test_a_folder_that_is_not_an_export_survives_force(lake_run: Path, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    refused(run("export", lake_run, *words, "--out", tmp_path / "thesis", "--force"), 2, "something else")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_the_model_is_not_written_onto_itself(lake_run: Path) -> None:
    file = lake_run / "model.keras"
    before = file.read_bytes()
    refused(run("export", file, "--format", "keras", "--out", file, "--force"), 2, "the model itself")
    assert file.read_bytes() == before


def test_the_folder_of_the_model_is_not_mistaken_for_exports(lake_run: Path, tmp_path: Path) -> None:
    file = shutil.copy(lake_run / "model.keras", tmp_path)
    refused(run("export", file, "--all", "--out", tmp_path, "--force"), 2, "holds the model itself")
    assert list(tmp_path.iterdir()) == [Path(file)]


def test_a_model_whose_weights_are_nan_is_not_exported(tmp_path: Path) -> None:
    network = build_q_network(16, 4, (8,), dueling=True)
    network.get_layer("advantage").set_weights([np.full((8, 4), np.nan), np.zeros(4)])
    network.save(tmp_path / "nan.keras")
    where = ["--out", tmp_path / "q.csv"]
    refused(run("export", tmp_path / "nan.keras", "--format", "csv", *where), 1, "32 of 32", "advantage/kernel are NaN")
    assert not (tmp_path / "q.csv").exists()


def test_a_run_of_a_newer_version_says_to_update(lake_run: Path, tmp_path: Path) -> None:
    newer = shutil.copytree(lake_run, tmp_path / "newer")
    config = (newer / "config.toml").read_text().replace('deeptaxi = "', 'deeptaxi = "99.')
    (newer / "config.toml").write_text(f"unheard_of = 1\n{config}")
    for command in (["export", newer, "--format", "csv"], ["evaluate", newer]):
        refused(run(*command), 1, "made by deeptaxi 99.", "update it")


def test_a_model_file_of_a_newer_keras_that_fails_to_load_says_so(lake_run: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(lake_run / "model.keras") as old, zipfile.ZipFile(tmp_path / "new.keras", "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name == "config.json":
                text = text.replace(b'"OneHotDense"', b'"LayerOfTomorrow"').replace(
                    b">OneHotDense", b">LayerOfTomorrow"
                )
            new.writestr(name, b'{"keras_version": "99.1.0"}' if name == "metadata.json" else text)
    refused(run("export", tmp_path / "new.keras", "--format", "csv"), 1, "saved by Keras 99.1.0", "update it")
