from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.io.locks import LOCK_FILE, InUseError, in_use, lock, log_in_use

# Holds the lock of the folder that it is started in until its standard input ends.
HOLD = """
import sys; from pathlib import Path; from deeptaxi.io.locks import lock
with lock(Path(), "deeptaxi train"):
    print("held", flush=True); sys.stdin.read()
"""
# Takes and frees the lock of a folder again and again, and makes a file while it holds it that must not be there yet.
CONTEND = """
import os, sys, time; from pathlib import Path; from deeptaxi.io.locks import InUseError, lock
end, taken = time.monotonic() + 1.0, 0
while time.monotonic() < end:
    try:
        with lock(Path(), "contend"):
            os.close(os.open("only one", os.O_CREAT | os.O_EXCL)); os.unlink("only one"); taken += 1
    except InUseError:
        pass
print(taken)
"""


def start(folder: Path, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def holding(folder: Path) -> subprocess.Popen[str]:
    process = start(folder, HOLD)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        holder = json.loads((tmp_path / LOCK_FILE).read_text())
        who = rf"process {process.pid} \(deeptaxi train, since \d\d:\d\d\)"
        for _ in range(2):  # being refused changes nothing
            with pytest.raises(InUseError, match=rf"in use by {who}: wait for it, or choose another --out") as refusal:
                lock(tmp_path, "me")
        assert refusal.value.exit_code == 2
        assert holder["pid"] == process.pid
        process.communicate()
    assert list(tmp_path.iterdir()) == []
    lock(tmp_path, "me").release()


def test_the_lock_of_a_killed_process_is_taken_over_silently(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with holding(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK_FILE).exists()
    with lock(tmp_path, "me"):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_the_holder_of_a_lock_is_reported_without_touching_it(tmp_path: Path) -> None:
    assert in_use(tmp_path) is None
    assert in_use(tmp_path / "nowhere") is None
    with lock(tmp_path, "deeptaxi train", log=tmp_path / "logs" / "a"):
        before = (tmp_path / LOCK_FILE).stat().st_mtime_ns
        assert (in_use(tmp_path) or "").startswith("this process (deeptaxi train, since ")
        assert log_in_use(tmp_path) == tmp_path / "logs" / "a"
        assert (tmp_path / LOCK_FILE).stat().st_mtime_ns == before
        with pytest.raises(InUseError):  # it is held still
            lock(tmp_path, "me")
        with pytest.raises(InUseError, match=r"wait for it$"):
            lock(tmp_path, "me", "--resume")
    assert list(tmp_path.iterdir()) == []


def test_an_unlocked_folder_is_not_in_use(tmp_path: Path) -> None:
    """The file of a killed process, a pipe that would block, and a link of that name."""
    (tmp_path / LOCK_FILE).write_text('{"pid": 1, "host": "h", "since": "2020-01-02T03:04:05+00:00", "what": "w"}')
    before = (tmp_path / LOCK_FILE).stat()
    assert in_use(tmp_path) is None
    assert (tmp_path / LOCK_FILE).stat() == before
    lock(tmp_path, "me").release()  # it was not taken
    os.mkfifo(tmp_path / LOCK_FILE)
    assert in_use(tmp_path) is None
    (tmp_path / LOCK_FILE).unlink()
    (tmp_path / LOCK_FILE).symlink_to(tmp_path)
    assert in_use(tmp_path) is None


def test_locking_twice_in_one_process_is_refused(tmp_path: Path) -> None:
    with lock(tmp_path, "one training"):
        with pytest.raises(InUseError, match=r"in use by this process \(one training, since"):
            lock(tmp_path, "another")
        with ThreadPoolExecutor(1) as pool, pytest.raises(InUseError):
            pool.submit(lock, tmp_path, "another").result()
    lock(tmp_path, "another").release()


def test_releasing_twice_does_not_release_the_lock_of_others(tmp_path: Path) -> None:
    first = lock(tmp_path, "one")
    first.release()
    with lock(tmp_path, "two"):
        first.release()
        with pytest.raises(InUseError, match="two"):
            lock(tmp_path, "three")


def test_a_folder_recreated_meanwhile_keeps_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    first = lock(folder, "one")
    (folder / LOCK_FILE).unlink()
    folder.rmdir()
    folder.mkdir()
    with lock(folder, "two"):
        first.release()
        with pytest.raises(InUseError, match="two"):
            lock(folder, "three")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pid": []}', '{"pid": 1, "host": "a", "since": 0, "what": "b"}', "\x80"]
)
def test_an_unreadable_holder_is_still_a_holder(tmp_path: Path, text: str) -> None:
    with lock(tmp_path, "me"):
        (tmp_path / LOCK_FILE).write_bytes(text.encode("latin-1"))
        with pytest.raises(InUseError, match="in use by another process: wait"):
            lock(tmp_path, "another")


def test_a_holder_on_another_machine_and_day_is_named(tmp_path: Path) -> None:
    about = {"pid": 7, "host": "far\x1b[31m", "since": "2020-01-02T03:04:05+00:00", "what": "deeptaxi train"}
    with lock(tmp_path, "me"):
        (tmp_path / LOCK_FILE).write_text(json.dumps(about))
        with pytest.raises(InUseError, match=r"process 7 on far\[31m \(deeptaxi train, since 2020-01-0\d \d\d:\d\d\)"):
            lock(tmp_path, "another")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        DeepTaxiError, match=rf"cannot lock .*: {os.strerror(number)}; choose an --out on a file system"
    ) as refusal:
        lock(tmp_path, "me")
    assert refusal.value.exit_code == 1


def test_another_file_in_place_of_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeepTaxiError, match="cannot lock"):
        lock(tmp_path, "me")
    assert not (tmp_path / "elsewhere").exists()


def test_only_one_of_many_processes_holds_the_lock_at_a_time(tmp_path: Path) -> None:
    contenders = [start(tmp_path, CONTEND) for _ in range(4)]
    taken = [int(contender.communicate()[0]) for contender in contenders]
    assert [contender.returncode for contender in contenders] == [0] * 4
    assert sum(taken) > 100
    assert list(tmp_path.iterdir()) == []
