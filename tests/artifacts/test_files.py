from __future__ import annotations

from pathlib import Path

import pytest

from deeptaxi.artifacts.files import check_free, make_folder, written_aside
from deeptaxi.errors import DeepTaxiError, UsageError


def write(path: Path, text: str, interrupted: bool = False) -> None:
    with written_aside(path) as aside:
        if path.name == "full":
            aside.symlink_to("/dev/full")
        aside.write_text(text)
        if interrupted:
            raise RuntimeError


def test_a_failure_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write(path, "half", interrupted=True)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_file_and_a_folder_take_the_place_of_their_like(tmp_path: Path) -> None:
    with written_aside(tmp_path / "deep" / "file") as aside:
        aside.write_text("new")
    for text in ("first", "second"):
        with written_aside(tmp_path / "folder") as aside:
            aside.mkdir()
            (aside / text).write_text(text)
    assert (tmp_path / "deep" / "file").read_text() == "new"
    assert [item.name for item in (tmp_path / "folder").iterdir()] == ["second"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["deep", "folder"]


@pytest.mark.parametrize("name", [".", "link", "real"])
def test_a_folder_that_is_there_is_filled_and_stays_what_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    (real / "old").write_text("old")
    (real / "both").mkdir()
    monkeypatch.chdir(real if name == "." else tmp_path)
    number = real.stat().st_ino
    with written_aside(Path(name)) as aside:
        aside.mkdir()
        (aside / "new").write_text("new")
        (aside / "both").write_text("both")
        (real / "meanwhile").write_text("mine")
    assert (tmp_path / "link").is_symlink()
    assert real.stat().st_ino == number
    assert {item.name: item.read_text() for item in real.iterdir()} == {
        "new": "new", "both": "both", "meanwhile": "mine",
    }  # fmt: skip


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    with pytest.raises(DeepTaxiError, match=r"cannot write .*thesis"):
        write(tmp_path / "thesis", "new")
    assert [item.name for item in (tmp_path / "thesis").iterdir()] == ["chapter"]


def test_what_the_disk_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DeepTaxiError, match=r"cannot write .*file/below"):
        write(tmp_path / "file" / "below", "new")
    with pytest.raises(DeepTaxiError, match=r"cannot write .*No space left"):
        write(tmp_path / "full", "x" * 100_000)
    assert not (tmp_path / "full").exists()


def test_a_place_is_free_or_refused(tmp_path: Path) -> None:
    check_free(tmp_path / "nothing", force=False)
    check_free(tmp_path, force=True)
    with pytest.raises(UsageError, match="--force"):
        check_free(tmp_path, force=False)
    for force in (False, True):
        with pytest.raises(UsageError, match="something else, so --force does not replace it"):
            check_free(tmp_path, force, replaceable=False)


def test_the_folders_that_were_made_are_told_innermost_first(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
    assert make_folder(tmp_path / "a" / "b") == []
