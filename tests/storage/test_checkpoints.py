from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError, DivergedError, UsageError
from deeptaxi.learning.state import CheckpointEvent, TrainingState
from deeptaxi.metrics import Resumed, Started, read_history
from deeptaxi.storage import checkpoints
from deeptaxi.storage.checkpoints import Checkpointer, files_in, newest, read, write
from deeptaxi.storage.logs import Log, Position, read_log_until

ABOUT = {"config": "seed = 1", "backend": "tensorflow"}
STATE = TrainingState(
    {"program.ring.entries": np.arange(5, dtype=np.int32), "best.0": np.array([[0.1, -np.inf]], np.float32)},
    {"update": 7, "generator": {"state": 2**127 + 1}, "loss": 0.1, "none": None},
)
STARTED = Started("Chain", 3, 2, "q-table", "compiled", 0, 100, 0.1, None, 0.5)


def test_a_checkpoint_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    write(tmp_path / "000003.npz", ABOUT, STATE)
    found = read(tmp_path / "000003.npz")
    assert found.state is not None
    assert found.state.facts == STATE.facts
    assert found.state.arrays.keys() == STATE.arrays.keys()
    for name, values in STATE.arrays.items():
        assert found.state.arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(found.state.arrays[name], values)
    assert (found.update, found.about, found.passed_over) == (7, ABOUT, ())


def test_anyone_can_read_a_checkpoint_without_pickle(tmp_path: Path) -> None:
    write(tmp_path / "1.npz", ABOUT, STATE)
    with np.load(tmp_path / "1.npz", allow_pickle=False) as arrays:
        assert json.loads(str(arrays["about"]))["facts"]["update"] == 7
        assert arrays["program.ring.entries"].tolist() == [0, 1, 2, 3, 4]


def test_every_flipped_byte_is_detected_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "1.npz"
    write(path, ABOUT, STATE)
    sound = path.read_bytes()
    found = harmless = 0
    for place in range(0, len(sound), 7):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0x41]) + sound[place + 1 :])
        try:
            again = read(path)
        except DeepTaxiError as error:
            found += "damaged" in str(error) and "\n" not in str(error)
            continue
        assert again.state is not None
        assert (again.about, again.state.facts) == (ABOUT, STATE.facts)
        for name, values in STATE.arrays.items():
            np.testing.assert_array_equal(again.state.arrays[name], values)
        harmless += 1
    assert found + harmless == len(range(0, len(sound), 7))
    assert found > harmless


def test_a_damaged_checkpoint_falls_back_to_the_previous_one(tmp_path: Path) -> None:
    folder = tmp_path / checkpoints.CHECKPOINTS
    write(folder / "000008.npz", ABOUT, STATE)
    write(folder / "000009.npz", ABOUT, STATE._replace(facts={"update": 9}))
    write(folder / "000010.npz", ABOUT, STATE._replace(facts={"update": 10}))
    assert newest(tmp_path).update == 10
    whole = (folder / "000010.npz").read_bytes()
    (folder / "000010.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.npz").write_bytes(b"not ours")
    found = newest(tmp_path)
    assert (found.update, found.path.name) == (9, "000009.npz")
    (line,) = found.passed_over
    assert "000010.npz is damaged" in line
    for path in files_in(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(DeepTaxiError, match="no other checkpoint"):
        newest(tmp_path)


def test_a_checkpoint_of_a_newer_deeptaxi_is_refused_and_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / checkpoints.CHECKPOINTS
    write(folder / "000001.npz", ABOUT, STATE)
    monkeypatch.setattr(checkpoints, "VERSION", checkpoints.VERSION + 1)
    write(folder / "000002.npz", ABOUT, STATE)
    monkeypatch.undo()
    with pytest.raises(DeepTaxiError, match=r"000002\.npz was written by a newer deeptaxi .*: upgrade"):
        newest(tmp_path)


def test_one_of_an_earlier_deeptaxi_is_refused_unless_it_has_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / checkpoints.CHECKPOINTS
    monkeypatch.setattr(checkpoints, "VERSION", checkpoints.VERSION - 1)
    write(folder / "000001.npz", ABOUT, None)
    write(folder / "000002.npz", ABOUT, STATE)
    monkeypatch.undo()
    assert read(folder / "000001.npz").state is None
    with pytest.raises(
        DeepTaxiError, match=r"000002\.npz was written by an earlier deeptaxi: train it again, without --resume"
    ):
        newest(tmp_path)


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        newest(tmp_path)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    write(tmp_path / "1.npz", ABOUT, STATE)
    np.save(tmp_path / "bad.npy", np.array([object()]), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "1.npz", "a") as archive:
        archive.write(tmp_path / "bad.npy", "bad.npy")
    with pytest.raises(DeepTaxiError, match="pickled objects"):
        read(tmp_path / "1.npz")


def checkpointer(run: Path, every: float = 0.0) -> tuple[Checkpointer, Log]:
    log = Log(run / "log", run)
    (run / "log").mkdir(parents=True)
    return Checkpointer(run, ABOUT, log, every), log


def test_the_last_two_checkpoints_are_kept_and_numbering_continues(tmp_path: Path) -> None:
    checkpoints.begin(tmp_path, ABOUT, None)
    assert newest(tmp_path).state is None
    checkpoint, log = checkpointer(tmp_path)
    with log:
        log.write(STARTED)
        for update in range(4):
            assert list(checkpoint(CheckpointEvent(update, False, lambda: STATE))) == []
    assert [path.name for path in files_in(tmp_path)] == ["000005.npz", "000004.npz"]
    again = Checkpointer(tmp_path, ABOUT, log, 0.0)
    again.save(None, STATE)
    assert [path.name for path in files_in(tmp_path)] == ["000006.npz", "000005.npz"]


def test_checkpoints_are_written_by_time_and_at_the_end(tmp_path: Path) -> None:
    checkpoint, log = checkpointer(tmp_path, every=1_000.0)
    with log:
        list(checkpoint(CheckpointEvent(1, False, lambda: STATE)))
        assert files_in(tmp_path) == []
        list(checkpoint(CheckpointEvent(2, True, lambda: STATE)))
    assert len(files_in(tmp_path)) == 1


def test_a_checkpoint_that_cannot_be_written_is_reported_once_and_training_continues(tmp_path: Path) -> None:
    checkpoint, log = checkpointer(tmp_path)
    (tmp_path / checkpoints.CHECKPOINTS).write_text("a file stands in the way")
    with log:
        (warned,) = checkpoint(CheckpointEvent(3, False, lambda: STATE))
        assert "training continues without it" in warned.text
        assert list(checkpoint(CheckpointEvent(4, False, lambda: STATE))) == []
        (tmp_path / checkpoints.CHECKPOINTS).unlink()
        assert list(checkpoint(CheckpointEvent(5, False, lambda: STATE))) == []
    assert len(files_in(tmp_path)) == 1


def test_a_failed_training_leaves_the_useful_checkpoints(tmp_path: Path) -> None:
    first = checkpoints.begin(tmp_path, ABOUT, None)
    checkpoints.roll_back(tmp_path, first, DeepTaxiError())
    assert not (tmp_path / checkpoints.CHECKPOINTS).exists()
    first = checkpoints.begin(tmp_path, ABOUT, None)
    checkpoint, _ = checkpointer(tmp_path)
    checkpoint.save(None, STATE)
    checkpoints.roll_back(tmp_path, first, DeepTaxiError())
    assert len(files_in(tmp_path)) == 2
    checkpoints.roll_back(tmp_path, first, DivergedError())
    assert not (tmp_path / checkpoints.CHECKPOINTS).exists()


def begun(folder: Path, count: int) -> Position:
    """Write a log of `count` records and half of another; return the position before the last whole one."""
    log = Log(folder, folder)
    with log:
        log.write(STARTED)
        for update in range(1, count - 1):
            log.write(Resumed(update))
        position = log.position()
        log.write(Resumed(count))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "resum')
    assert position is not None
    return position


def test_a_log_is_truncated_to_its_checkpoint_and_continued(tmp_path: Path) -> None:
    position = begun(tmp_path, 4)
    kept = read_log_until(tmp_path, position)
    assert kept is not None
    assert [record.kind for record in kept.records] == ["started", "resumed", "resumed"]
    with Log(tmp_path, tmp_path, kept=kept) as log:
        log.write(Resumed(9))
        assert log.position() == position._replace(lines=4)
    assert [getattr(r, "update", 0) for r in read_history(tmp_path / "metrics.jsonl").records] == [0, 1, 2, 9]


def test_a_log_is_found_where_a_failure_left_it(tmp_path: Path) -> None:
    position = begun(tmp_path, 4)
    (tmp_path / "metrics.jsonl").rename(tmp_path / "metrics.failed.jsonl")
    assert read_log_until(tmp_path, position) is not None
    assert not (tmp_path / "metrics.failed.jsonl").exists()
    # Another training began in its place, and was killed.
    (tmp_path / ".previous").mkdir()
    (tmp_path / "metrics.jsonl").rename(tmp_path / ".previous" / "metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_text('{"kind": "started", "of": "another"}\n')
    assert read_log_until(tmp_path, position) is not None
    assert "another" in (tmp_path / "metrics.failed.jsonl").read_text()


def test_a_missing_or_foreign_log_is_not_continued(tmp_path: Path) -> None:
    position = begun(tmp_path, 4)
    assert read_log_until(tmp_path, position._replace(lines=9)) is None
    with pytest.raises(UsageError, match="another training"):
        read_log_until(tmp_path, position._replace(head="0"))
    (tmp_path / "metrics.jsonl").unlink()
    assert read_log_until(tmp_path, position) is None
