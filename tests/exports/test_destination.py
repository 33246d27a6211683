from __future__ import annotations

from pathlib import Path

import pytest

from deeptaxi.errors import UsageError
from deeptaxi.exports.destination import check_place
from deeptaxi.storage.formats import FORMATS


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "taxi"
    folder.mkdir(parents=True)
    for name in ("model.keras", "config.toml"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("inside", [".", "exports", "a/b/q.csv", "../taxi/exports"])
@pytest.mark.parametrize("name", [None, "csv"])
def test_exports_into_a_run_folder_are_refused(run_folder: Path, inside: str, name: str | None) -> None:
    with pytest.raises(UsageError, match=r"is in the run .*taxi, which only training writes to"):
        check_place(name, run_folder / inside, force=True)
    check_place(name, run_folder.parent / "beside", force=False)


@pytest.mark.parametrize("name", ["keras", "plain"])
def test_a_keras_file_has_the_ending_that_keras_asks_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"end in \.keras"):
        check_place(name, tmp_path / "model", force=False)


@pytest.mark.parametrize("name", FORMATS)
def test_an_existing_export_is_replaced_only_by_its_own_kind_and_with_force(name: str, tmp_path: Path) -> None:
    own, folder = tmp_path / FORMATS[name].file, tmp_path / f"thesis{FORMATS[name].ending}"
    folder.mkdir()
    (folder / "chapter.tex").touch()
    if name == "savedmodel":
        own.mkdir()
        (own / "saved_model.pb").touch()
    else:
        own.touch()
    check_place(name, own, force=True)
    with pytest.raises(UsageError, match="overwrite it with --force"):
        check_place(name, own, force=False)
    with pytest.raises(UsageError, match="is something else, so --force does not replace it"):
        check_place(name, folder, force=True)


def test_a_file_with_another_name_is_not_mistaken_for_an_export(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is something else"):
        check_place("onnx", tmp_path / "thesis.tex", force=True)


def test_a_folder_of_exports_is_replaced_if_it_holds_nothing_else(tmp_path: Path) -> None:
    check_place(None, tmp_path, force=False)  # empty
    for form in FORMATS.values():
        (tmp_path / form.file).touch()
    (tmp_path / "card.md").touch()
    check_place(None, tmp_path, force=True)
    with pytest.raises(UsageError, match="overwrite it with --force"):
        check_place(None, tmp_path, force=False)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="is something else"):
        check_place(None, tmp_path, force=True)


@pytest.mark.parametrize("name", [None, "savedmodel"])
@pytest.mark.parametrize("mine", ["notes.txt", "assets/vocabulary.txt", "variables/notes/today.txt"])
def test_foreign_files_in_a_savedmodel_survive_force(name: str | None, mine: str, tmp_path: Path) -> None:
    place = tmp_path / "exports" if name is None else tmp_path / "exports" / "savedmodel"
    saved = tmp_path / "exports" / "savedmodel"
    (saved / "variables").mkdir(parents=True)
    (saved / "assets").mkdir()
    for file in (
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    ):
        (saved / file).touch()
    check_place(name, place, force=True)
    (saved / mine).parent.mkdir(exist_ok=True)
    (saved / mine).touch()
    with pytest.raises(UsageError, match="is something else"):
        check_place(name, place, force=True)


def test_an_empty_folder_can_become_a_folder_of_exports(tmp_path: Path) -> None:
    check_place("savedmodel", tmp_path, force=False)
    check_place(None, tmp_path, force=False)
    with pytest.raises(UsageError, match="is something else"):
        check_place("onnx", tmp_path, force=False)


def test_nothing_is_written_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file"):
        check_place("npz", tmp_path / "file" / "deep" / "q.npz", force=True)
