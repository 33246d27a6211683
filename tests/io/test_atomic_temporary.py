from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deeptaxi.io import atomic
from deeptaxi.io.atomic import HOST, Scratch, sweep

# Makes a scratch folder with something in it, and waits.
MAKE = """
import sys; from pathlib import Path; from deeptaxi.io.atomic import Scratch
made = Scratch(Path(), ".s-"); (made.path / "file").touch(); print(made.path, flush=True); sys.stdin.read()
"""


def made_by_a_process(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    return process, folder / process.stdout.readline().strip()


def test_a_folder_is_removed_only_once_its_process_is_dead(tmp_path: Path) -> None:
    process, made = made_by_a_process(tmp_path)
    with process:
        sweep(tmp_path, ".s-")
        assert (made / "file").exists()
        process.send_signal(signal.SIGKILL)
    assert made.exists()
    sweep(tmp_path, ".s-")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_this_process_is_safe_until_it_is_closed(tmp_path: Path) -> None:
    with Scratch(tmp_path, ".s-") as made:
        sweep(tmp_path, ".s-")
        assert made.path.is_dir()
    assert list(tmp_path.iterdir()) == []
    sweep(tmp_path / "gone", ".s-")


def test_folders_with_other_names_are_left_alone(tmp_path: Path) -> None:
    for name in (".s", ".similar", "s-a", ".s-my-notes", f".s-{HOST}-mine"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path, ".s-")
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("name", [".s-0000abcd-abc_1234", f".s-{HOST}-abc_1234"])
def test_age_decides_where_locks_are_unavailable(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if HOST in name:
        monkeypatch.setattr(atomic, "locked", lambda _: None)
    (tmp_path / name).mkdir()
    sweep(tmp_path, ".s-")
    assert (tmp_path / name).exists()
    os.utime(tmp_path / name, (time.time(), time.time() - atomic.STALE - 60))
    sweep(tmp_path, ".s-")
    assert not (tmp_path / name).exists()


def test_a_link_is_removed_and_its_target_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    link = tmp_path / f".s-{HOST}-abc_1234"
    link.symlink_to(tmp_path / "mine")
    os.utime(link, (0, 0), follow_symlinks=False)
    sweep(tmp_path, ".s-")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_files_that_cannot_be_rescued_stay(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / f".s-{HOST}-abc_1234").mkdir()
    sweep(tmp_path, ".s-", rescue=fail)
    assert len(list(tmp_path.iterdir())) == 1
    seen: list[Path] = []
    sweep(tmp_path, ".s-", rescue=seen.append)
    assert seen == [tmp_path / f".s-{HOST}-abc_1234"]
    assert list(tmp_path.iterdir()) == []


# Makes scratch folders, which must stay there until they are closed, and sweeps those of the others.
CONTEND = """
import time; from pathlib import Path; from deeptaxi.io.atomic import Scratch, sweep
end = time.monotonic() + 1
while time.monotonic() < end:
    with Scratch(Path(), ".s-") as made:
        (made.path / "file").touch(); sweep(Path(), ".s-"); (made.path / "file").unlink()
"""


def test_concurrent_cleanups_do_not_disturb_each_other(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", CONTEND], cwd=tmp_path) for _ in range(3)]
    assert [process.wait() for process in processes] == [0] * 3
    assert list(tmp_path.iterdir()) == []
