from __future__ import annotations

from pathlib import Path

import keras
import pytest

import deeptaxi
from deeptaxi.api.run import Run
from deeptaxi.errors import UsageError
from deeptaxi.exports import exporter
from deeptaxi.storage.formats import FORMATS
from tests.cli.conftest import run


def test_export_writes_the_same_files_as_the_command(lake: Run, lake_run: Path, empty: Path) -> None:
    done = deeptaxi.export(lake, "json", "lake.json")
    assert (done.states, done.max_difference) == (16, 0.0)
    assert run("export", lake_run, "--format", "json", "--out", "there.json").exit_code == 0
    assert Path("lake.json").read_bytes() == Path("there.json").read_bytes()
    deeptaxi.export(lake.network, "keras", "lake.keras")
    assert deeptaxi.load("lake.keras", lake.environment).weights_digest == lake.weights_digest
    agent = keras.saving.load_model("lake.keras")
    assert deeptaxi.evaluate(agent, lake.environment, episodes=0).exact is not None
    deeptaxi.export(agent, "json", "again.json", env=lake.environment)
    assert Path("again.json").read_bytes() == Path("lake.json").read_bytes()
    with pytest.raises(UsageError, match="another number of states"):
        deeptaxi.evaluate(agent, "CliffWalking-v1", episodes=0)
    for form, out, message in (("jsn", "x", "unknown format 'jsn'"), ("json", "lake.json", "exists")):
        with pytest.raises(UsageError, match=message):
            deeptaxi.export(lake, form, out)


def test_foreign_models_are_not_exported(empty: Path) -> None:
    foreign = keras.Sequential([keras.Input((), dtype="int32"), keras.layers.Embedding(16, 4)], name="theirs")
    for model, message in (
        (None, "received an object of type NoneType"),
        (foreign, "theirs cannot be exported: expected"),
    ):
        with pytest.raises(UsageError, match=message):
            deeptaxi.export(model, "json", "x.json")
    assert list(empty.iterdir()) == []


def test_the_exports_of_a_saved_run_include_its_card(
    lake_run: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "FORMATS", {name: FORMATS[name] for name in ("npz", "json")})
    deeptaxi.export(deeptaxi.load(lake_run), "all", "exports")
    assert {path.name for path in (empty / "exports").iterdir()} == {
        "q_table.npz", "q_table.json", "card.md", "card.json",
    }  # fmt: skip
