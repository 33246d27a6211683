from __future__ import annotations

import json
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.storage.models import check_deeptaxi, newer_keras, release


def config(folder: Path, text: str) -> Path:
    (folder / "config.toml").write_text(text)
    return folder / "config.toml"


def keras_file(folder: Path, saved: object) -> Path:
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": saved}))
    return folder / "model.keras"


def test_the_run_of_a_newer_deeptaxi_says_to_update(tmp_path: Path) -> None:
    ours = metadata.version("deeptaxi")
    with pytest.raises(DeepTaxiError, match=rf"was made by deeptaxi 99\.1, and this is {ours}: update it"):
        check_deeptaxi(config(tmp_path, 'unheard_of = 1\n[run]\ndeeptaxi = "99.1"\n'))


@pytest.mark.parametrize("text", ['[run]\ndeeptaxi = "0.0.9"\n', "[run]\ndeeptaxi = []\n", "run = 3\n", "", "]["])
def test_runs_of_other_versions_pass_the_check(text: str, tmp_path: Path) -> None:
    check_deeptaxi(config(tmp_path, text))


def test_this_version_is_not_newer(tmp_path: Path) -> None:
    check_deeptaxi(config(tmp_path, f'[run]\ndeeptaxi = "{metadata.version("deeptaxi")}"\n'))


@pytest.mark.parametrize(("saved", "said"), [("99.0.1", "saved by Keras 99.0.1"), ("3.0.0", ""), (None, ""), ("x", "")])
def test_a_file_of_a_newer_keras_is_reported(saved: object, said: str, tmp_path: Path) -> None:
    remark = newer_keras(keras_file(tmp_path, saved))
    assert said in remark
    assert bool(remark) == bool(said)


def test_a_file_that_is_not_a_keras_file_has_no_version(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    assert newer_keras(tmp_path / "text") == ""


def test_versions_are_compared_as_numbers() -> None:
    assert release("1.10.0") > release("1.9") > release("1.9rc1")[:1] > release("unknown")
