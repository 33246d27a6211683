from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.exports import exporter, q_tables
from deeptaxi.exports.exporter import Export, export, export_all
from deeptaxi.exports.writers import WRITERS, Source
from deeptaxi.storage.formats import FORMATS
from tests.exports.networks import S, shaken


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the formats that are read back at once."""
    quick = {name: FORMATS[name] for name in ("onnx", "csv", "npz", "json")}
    monkeypatch.setattr(exporter, "FORMATS", quick)


def wrong(source: Source, path: Path) -> None:
    """Write a table that is off by the smallest step."""
    off = np.nextafter(source.q_values, np.float32(np.inf))
    q_tables.write_csv(path, off, source.labels)


def test_an_export_reports_its_largest_difference(tmp_path: Path) -> None:
    done = export(shaken("dueling"), "onnx", tmp_path / "deep" / "model.onnx")
    assert done.max_difference is not None
    assert done == Export("onnx", str(tmp_path / "deep" / "model.onnx"), S, done.max_difference, 0, "NaN and action −1")
    assert done.max_difference < 1e-4


def test_an_export_that_reads_back_differently_is_discarded_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "q.csv"
    path.write_text("mine")
    monkeypatch.setitem(WRITERS, "csv", wrong)
    with pytest.raises(DeepTaxiError, match=r"the csv export differs from the model by .*, so it was not kept"):
        export(shaken("dueling", masked=False), "csv", path, force=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def unable(source: Source, path: Path) -> None:
    path.mkdir()
    raise ImportError("libwhatever.so:\n  wrong version")


@pytest.mark.usefixtures("few")
def test_a_failing_format_is_reported_and_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WRITERS, "onnx", unable)
    monkeypatch.setitem(WRITERS, "json", lambda source, path: path.write_text("{}"))
    found = {one.format: one for one in export_all(shaken("dueling"), tmp_path / "all")}
    assert found["onnx"].failed == "cannot write the onnx export: ImportError: libwhatever.so: wrong version"
    assert found["json"].failed == "the json export cannot be read back, so it was not kept: KeyError: 'policy'"
    assert found["json"].path is None
    assert found["csv"].failed is None
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"q_table.csv", "q_table.npz"}


@pytest.mark.usefixtures("few")
def test_where_every_format_fails_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "csv", "npz", "json"):
        monkeypatch.setitem(WRITERS, name, unable)
    with pytest.raises(DeepTaxiError, match="cannot write the onnx export"):
        export_all(shaken("dueling"), tmp_path / "all")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few")
def test_formats_that_cannot_be_written_here_are_skipped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(q_tables, "CSV_STATES", S - 1)
    found = {one.format: one for one in export_all(shaken("q-table"), tmp_path / "all")}
    assert list(found) == ["onnx", "csv", "npz", "json"]
    assert found["onnx"].path is None
    assert found["onnx"].skipped == "it needs onnxruntime: pip install 'deeptaxi[onnx]'"
    assert f"this one has {S} " in str(found["csv"].skipped)
    assert found["json"] == Export("json", str(tmp_path / "all" / "q_table.json"), S, 0.0, 0, "error")
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"q_table.npz", "q_table.json"}


@pytest.mark.usefixtures("few")
def test_a_folder_of_exports_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "all"
    export_all(shaken("q-table"), folder)
    with pytest.raises(UsageError, match="exists"):
        export_all(shaken("q-table"), folder)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (folder / "model.keras").touch()  # of a day when more could be written
    export_all(shaken("q-table"), folder, force=True)
    assert {path.name for path in folder.iterdir()} == {"q_table.csv", "q_table.npz", "q_table.json"}


def test_nan_weights_are_refused_by_name_before_anything_is_written(tmp_path: Path) -> None:
    network = shaken("dueling")
    layer = network.get_layer("hidden_0")
    kernel, bias = layer.get_weights()
    kernel[3, :2] = np.nan
    kernel[4, 0] = np.inf
    layer.set_weights([kernel, bias])
    with pytest.raises(DeepTaxiError, match="3 of 192 weights in hidden_0/kernel are NaN or infinite"):
        export(network, "npz", tmp_path / "q.npz")
    assert list(tmp_path.iterdir()) == []


def test_finite_weights_whose_q_values_overflow_are_refused(tmp_path: Path) -> None:
    network = shaken("dueling")
    network.set_weights([np.full_like(weight, 1e38) for weight in network.get_weights()])
    with pytest.raises(DeepTaxiError, match="NaN or infinite Q values"):
        export(network, "npz", tmp_path / "q.npz")


def test_a_table_too_large_for_its_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(q_tables, "JSON_STATES", S - 1)
    with pytest.raises(UsageError, match=f"at most {S - 1} states, but this one has {S}"):
        export(shaken("dueling"), "json", tmp_path / "q.json")
