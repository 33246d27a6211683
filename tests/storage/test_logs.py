from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.learning.coverage import Coverage
from deeptaxi.metrics import Finished, Progress, Started, read_history, to_line
from deeptaxi.storage import logs
from deeptaxi.storage.logs import Log, find_log, read_visits, save_visits
from tests.reliability.failing_disk import Disk, failing

STARTED = Started("Taxi-v4", 500, 6, "dueling", "gymnasium", 0, 100, 0.1, None, 1.0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Make a run folder that says where its log is, and the log in some other place."""
    monkeypatch.chdir(tmp_path)

    def make(said, there="logs/a"):
        folder, log = Path("models/a"), Path(there)
        folder.mkdir(parents=True)
        log.mkdir(parents=True)
        (folder / "config.toml").write_text(f'[run]\nlog = "{said}/metrics.jsonl"\n')
        (log / "metrics.jsonl").write_text("{}\n")
        return folder

    return make


def test_a_log_is_found_where_the_run_says(run):
    assert find_log(run("other/b", "other/b")) == Path("other/b")


def test_a_log_is_found_from_another_folder(run, monkeypatch, tmp_path):
    folder = run("logs/a").resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_log(folder) == tmp_path / "logs" / "a"


def test_a_log_of_a_run_elsewhere_is_found_from_another_folder(run, monkeypatch, tmp_path):
    folder = run("logs/a").rename("a").resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_log(folder) == tmp_path / "logs" / "a"


@pytest.mark.parametrize("said", ["logs/a", "../../../logs/a"])
def test_a_log_of_a_run_far_below_is_found_from_another_folder(run, monkeypatch, tmp_path, said):
    """As an earlier version recorded it, relative to the folder of the training, and as it is recorded now."""
    folder = run(said)
    deeper = tmp_path / "models" / "sweep" / "b"
    shutil.copytree(folder, deeper)
    shutil.move(folder, tmp_path / "gone")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_log(deeper) == tmp_path / "logs" / "a"
    assert find_log(Path("../models/sweep/b")).resolve() == tmp_path / "logs" / "a"


def test_a_log_moved_with_its_run_is_found_by_its_name(run):
    assert find_log(run("gone/a")).resolve() == Path("logs/a").resolve()


def test_a_log_folder_is_its_own_log(run):
    run("logs/a")
    assert find_log(Path("logs/a")) == Path("logs/a")


def test_a_run_without_its_log_says_where_it_should_be(run):
    with pytest.raises(UsageError, match=r"models/a has no log: its config.toml says gone/metrics.jsonl, which does"):
        find_log(run("gone", "logs/b"))


def test_a_log_of_another_training_of_the_same_name_is_not_used(run):
    folder = run("logs/a")
    with (folder / "config.toml").open("a") as config:
        config.write('weights_digest = "ours"\n')
    assert find_log(folder) == Path("logs/a")  # its training goes on
    ended = Finished("updates", 1, 1, 1, 0.1, 0.1, "theirs", None, None)
    Path("logs/a/metrics.jsonl").write_text(f"{to_line(STARTED)}\n{to_line(ended)}\n")
    with pytest.raises(UsageError, match=r"models/a has no log: .*, which belongs to another training .train it again"):
        find_log(folder)
    ours = dataclasses.replace(ended, weights_digest="ours")
    Path("logs/a/metrics.jsonl").write_text(f"{to_line(STARTED)}\n{to_line(ours)}\n")
    assert find_log(folder) == Path("logs/a")


def test_a_folder_that_is_neither_a_run_nor_a_log_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is neither a run folder nor a log folder"):
        find_log(tmp_path)


def test_visits_are_read_back_as_they_were_written(tmp_path):
    visits, replay = np.arange(6).reshape(3, 2), np.ones((3, 2), np.int64)
    save_visits(tmp_path, Coverage(visits, replay))
    read = read_visits(tmp_path)
    np.testing.assert_array_equal(read.visits, visits)
    np.testing.assert_array_equal(read.replay, replay)


def test_a_log_may_have_no_visits(tmp_path):
    assert read_visits(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_damaged_visits_are_reported(tmp_path, content):
    (tmp_path / "visits.npz").write_bytes(content)
    with pytest.raises(DeepTaxiError, match=re.escape(f"{tmp_path / 'visits.npz'} is damaged")):
        read_visits(tmp_path)


def progress(update):
    return Progress(update, 32 * update, 0.5, 0.25, 0.1, 0.9, 0.003, 0, None)


def updates(path):
    return [record.update for record in read_history(path / "metrics.jsonl").progress]


def train_into(folder, *numbers, failing=False):
    """Write a log as a training does."""
    with Log(folder, folder.parent / "models" / "a") as log:
        log.write(STARTED)
        for number in numbers:
            log.write(progress(number))
        if failing:
            raise KeyboardInterrupt


def contents(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_log_names_its_run(tmp_path):
    train_into(tmp_path, 1)
    assert read_history(tmp_path / "metrics.jsonl").started.run == "../models/a"
    assert contents(tmp_path) == ["metrics.jsonl"]


def test_records_are_on_disk_after_half_a_second_or_at_the_end(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    with Log(tmp_path, tmp_path) as log:
        log.write(STARTED)
        log.write(progress(1))
        assert updates(tmp_path) == []
        now[0] += 0.5
        log.write(progress(2))
        assert updates(tmp_path) == [1, 2]
        log.write(progress(3))
    assert updates(tmp_path) == [1, 2, 3]


def test_a_new_log_replaces_all_files_of_the_old_one(tmp_path):
    train_into(tmp_path, 1)
    save_visits(tmp_path, Coverage(np.ones((1, 1), np.int64), np.ones((1, 1), np.int64)))
    (tmp_path / "events.out.tfevents.5.deeptaxi").touch()
    (tmp_path / "notes.txt").write_text("mine")
    train_into(tmp_path, 2)
    assert updates(tmp_path) == [2]
    assert contents(tmp_path) == ["metrics.jsonl", "notes.txt"]


def test_a_failed_training_restores_the_old_log(tmp_path):
    train_into(tmp_path, 1)
    (tmp_path / "events.out.tfevents.5.deeptaxi").touch()
    with pytest.raises(KeyboardInterrupt):
        train_into(tmp_path, 2, failing=True)
    assert updates(tmp_path) == [1]
    assert contents(tmp_path) == ["events.out.tfevents.5.deeptaxi", "metrics.failed.jsonl", "metrics.jsonl"]
    assert '"update": 2' in (tmp_path / "metrics.failed.jsonl").read_text()


def test_a_killed_training_does_not_lose_the_log_of_the_saved_run(tmp_path):
    train_into(tmp_path, 1)
    logs.back_up(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(to_line(progress(2)))  # and no more: its end never came
    with pytest.raises(KeyboardInterrupt):
        train_into(tmp_path, 3, failing=True)
    assert updates(tmp_path) == [1]


def test_a_log_that_cannot_be_written_is_reported_once_and_completed_later(tmp_path):
    folder = tmp_path / "gone"
    with Log(folder, tmp_path / "models" / "a") as log:
        log.write(STARTED)
        assert log.lost is not None
        assert log.lost.startswith(f"cannot write {folder / 'metrics.jsonl'}: No such file")
        log.write(progress(1))
        assert [remark.text for remark in log.warnings] == [f"no-log: {log.lost}; training continues without it"]
        position = log.position()  # which makes the folder
        assert log.lost is None
        assert position is not None
        assert position.lines == 2
        log.write(progress(2))
    assert updates(folder) == [1, 2]


def test_old_events_that_cannot_be_removed_do_not_stop_a_training(tmp_path):
    (tmp_path / "events.out.tfevents.1.deeptaxi").mkdir()  # which `unlink` refuses, as a disk that is full may
    line = f"{to_line(STARTED)}\n".encode()
    (tmp_path / "metrics.jsonl").write_bytes(line)
    kept = logs.LogPrefix(logs.Position(logs.head_of(line), 1), (STARTED,), line)
    with Log(tmp_path, tmp_path / "models" / "a", kept=kept) as log:
        log.write(progress(1))
    assert updates(tmp_path) == [1]


def test_a_log_removed_meanwhile_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "WRITE_SECONDS", 0.0)
    folder = tmp_path / "a"
    folder.mkdir()
    events = {"events.out.tfevents.*.deeptaxi": lambda place: logs.Lines(place / "more")}
    (folder / "more").mkdir()
    with Log(folder, tmp_path, events) as log:
        for record in (STARTED, progress(1)):
            log.write(record)
        shutil.rmtree(folder)
        log.write(progress(2))
        assert "it was removed or replaced meanwhile" in str(log.lost)
        (tmp_path / "a" / "more").mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("of another training")
        assert log.position() is not None
        assert (folder / "metrics.jsonl").read_text() == "of another training"
        (folder / "metrics.jsonl").unlink()
        log.position()
        assert log.lost is None
    assert updates(folder) == updates(folder / "more") == [1, 2]


def test_no_partial_line_is_left_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "WRITE_SECONDS", 0.0)
    disk = Disk(tmp_path, point=3, kind="short")  # open, and the first record
    with Log(tmp_path, tmp_path) as log, failing(disk):
        for record in (STARTED, progress(1), progress(2)):
            log.write(record)
        position = log.position()
        assert disk.failed is not None
        assert position is not None
        assert position.lines == 1
        assert "No space left" in str(log.lost)
        assert [record.kind for record in read_history(tmp_path / "metrics.jsonl").records] == ["started"]
        assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"}\n")
