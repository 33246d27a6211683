from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deeptaxi.errors import DeepTaxiError, TakenError, UsageError
from deeptaxi.io import atomic
from deeptaxi.io.atomic import cannot_write, check_free, make_folder, write_atomic, write_atomic_all


def write(path: Path, text: str, interrupted: bool = False) -> None:
    with write_atomic(path) as aside:
        if path.name == "full":
            aside.symlink_to("/dev/full")
        aside.write_text(text)
        if interrupted:
            raise RuntimeError


def test_a_failure_while_writing_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write(path, "half", interrupted=True)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_file_replaces_a_file_and_a_folder_a_folder(tmp_path: Path) -> None:
    with write_atomic(tmp_path / "deep" / "file") as aside:
        aside.write_text("new")
    for text in ("first", "second"):
        with write_atomic(tmp_path / "folder") as aside:
            aside.mkdir()
            (aside / text).write_text(text)
    assert (tmp_path / "deep" / "file").read_text() == "new"
    assert [item.name for item in (tmp_path / "folder").iterdir()] == ["second"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["deep", "folder"]


@pytest.mark.parametrize("name", [".", "link", "real"])
def test_an_existing_folder_is_filled_and_keeps_its_identity(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    (real / "old").write_text("old")
    (real / "both").mkdir()
    monkeypatch.chdir(real if name == "." else tmp_path)
    number = real.stat().st_ino
    with write_atomic(Path(name)) as aside:
        aside.mkdir()
        (aside / "new").write_text("new")
        (aside / "both").write_text("both")
        (real / "meanwhile").write_text("mine")
    assert (tmp_path / "link").is_symlink()
    assert real.stat().st_ino == number
    assert {item.name: item.read_text() for item in real.iterdir()} == {
        "new": "new", "both": "both", "meanwhile": "mine",
    }  # fmt: skip


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    with pytest.raises(DeepTaxiError, match=r"cannot write .*thesis"):
        write(tmp_path / "thesis", "new")
    assert [item.name for item in (tmp_path / "thesis").iterdir()] == ["chapter"]


def test_an_error_of_the_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DeepTaxiError, match=r"cannot write .*file/below"):
        write(tmp_path / "file" / "below", "new")
    with pytest.raises(DeepTaxiError, match=r"cannot write .*No space left"):
        write(tmp_path / "full", "x" * 100_000)
    assert not (tmp_path / "full").exists()


def test_a_target_path_is_free_or_refused(tmp_path: Path) -> None:
    check_free(tmp_path / "nothing", force=False)
    check_free(tmp_path, force=True)
    with pytest.raises(UsageError, match="--force"):
        check_free(tmp_path, force=False)
    for force in (False, True):
        with pytest.raises(UsageError, match="something else, so --force does not replace it"):
            check_free(tmp_path, force, replaceable=False)


def test_created_folders_are_returned_innermost_first(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
    assert make_folder(tmp_path / "a" / "b") == []


def test_files_written_together_appear_together_and_leave_others_alone(tmp_path: Path) -> None:
    for name in ("model", "card", "notes"):
        (tmp_path / name).write_text("old")

    def fail() -> None:
        with write_atomic_all(tmp_path) as aside:
            (aside / "model").write_text("half")
            (aside / "no such folder" / "card").touch()

    with pytest.raises(DeepTaxiError, match="cannot write"):
        fail()
    assert texts(tmp_path) == {"model": "old", "card": "old", "notes": "old"}
    with write_atomic_all(tmp_path) as aside:
        (aside / "model").write_text("new")
        (aside / "card").write_text("new")
        assert texts(tmp_path) == {"model": "old", "card": "old", "notes": "old"}
    assert texts(tmp_path) == {"model": "new", "card": "new", "notes": "old"}


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free some space"), (errno.EDQUOT, "quota"), (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "choose a place where you may write"), (errno.EIO, "the disk"),
    ],
)  # fmt: skip
def test_an_error_of_the_disk_comes_with_a_cure(tmp_path: Path, number: int, cure: str) -> None:
    words = str(cannot_write(tmp_path / "file", OSError(number, os.strerror(number))))
    assert words.startswith(f"cannot write {tmp_path / 'file'}: {os.strerror(number)}; ")
    assert cure in words
    assert "\n" not in words


def test_a_file_that_grows_too_large_is_reported_in_one_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    (tmp_path / "file").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(DeepTaxiError, match=r"cannot write .*file: File too large"):
            write(tmp_path / "file", "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert texts(tmp_path) == {"file": "old"}


# Begins to write a file as deeptaxi does, and never ends.
KILLED = """
import os, signal; from pathlib import Path; from deeptaxi.io.atomic import write_atomic
with write_atomic(Path("file")) as aside:
    aside.write_text("half"); os.kill(os.getpid(), signal.SIGKILL)
"""


def test_leftovers_of_a_killed_process_are_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / ".file-mine").mkdir()
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert len(list(tmp_path.iterdir())) == 3
    write(tmp_path / "file", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file-mine", "file"]
    assert texts(tmp_path) == {"file": "new"}


def late(path: Path, make: Callable[[Path], object]) -> None:
    with write_atomic(path, force=False) as aside:
        make(aside)
        make(path)
        theirs = path / "theirs" if path.is_dir() else path
        theirs.write_text("theirs")


@pytest.mark.parametrize("linking", [True, False])
def test_a_file_created_meanwhile_is_not_overwritten(tmp_path, monkeypatch, linking):
    if not linking:
        monkeypatch.setattr(atomic.os, "link", no_links)
    path = tmp_path / "report.html"
    with pytest.raises(TakenError, match=r"report\.html was written by another process meanwhile"):
        late(path, Path.touch)
    assert path.read_text() == "theirs"
    write(path, "forced")
    assert path.read_text() == "forced"
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def no_links(*_):
    raise PermissionError


def test_a_folder_created_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "savedmodel"
    with pytest.raises(TakenError):
        late(path, Path.mkdir)
    assert [item.name for item in path.iterdir()] == ["theirs"]


def test_a_new_file_or_folder_needs_no_force(tmp_path):
    for name in ("file", "folder"):
        with write_atomic(tmp_path / name, force=False) as aside:
            aside.write_text("ours") if name == "file" else aside.mkdir()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder"]
