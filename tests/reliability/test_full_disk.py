"""A disk that fills up while a training runs: the short form of `tests.reliability.full_disk`."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import deeptaxi
from deeptaxi.errors import DiskError
from deeptaxi.metrics import Evaluated
from deeptaxi.storage import checkpoints
from deeptaxi.storage.run_folder import MODEL_FILE
from tests.cli.conftest import LAKE, run
from tests.reliability.failing_disk import Disk, failing

SETTINGS = {"q_table": True, "updates": 60, "eval_every": 20, "environments": 8, "batch_size": 32, "early_stop": False}


@pytest.fixture(scope="module")
def digest() -> str:
    return train().weights_digest


def train(**more: object) -> deeptaxi.Run:
    return deeptaxi.train("FrozenLake-v1", env_args={"is_slippery": False}, **SETTINGS, **more)  # type: ignore[arg-type]


def at(update: int, act: Callable[[], object]) -> Callable[[object], None]:
    """Return what does something once, at the evaluation of an update."""
    waiting = [act]

    def watch(record: object) -> None:
        if isinstance(record, Evaluated) and record.update >= update and waiting:
            waiting.pop()()

    return watch


@pytest.mark.parametrize("where", ["logs", "models/a/checkpoints", ""])
def test_a_training_outlives_a_quota_that_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str, where: str
) -> None:
    """Of the log, of the checkpoints, and of all."""
    monkeypatch.chdir(tmp_path)
    disk = Disk(tmp_path / where, 0, errno.EDQUOT, "short")
    findings: list[str] = []

    def watch(record: object) -> None:
        reached(record)
        findings.extend([record.finding] if isinstance(record, deeptaxi.metrics.Warned) else [])

    reached = at(20, lambda: setattr(disk, "failed", "from now on"))
    with failing(disk):
        if where:
            found = train(out="models/a", callbacks=[watch], checkpoint_every=1e-9)
            assert found.weights_digest == digest
            assert (tmp_path / "models/a" / MODEL_FILE).exists()
        else:
            with pytest.raises(DiskError, match=r"cannot write models/a: .*quota.*--resume models/a. resumes from"):
                train(out="models/a", callbacks=[watch])
            assert len(checkpoints.files_in(Path("models/a"))) == 1
    if where == "logs":
        assert findings.count("no-log") == 1
        assert "quota" in str(found.to_dict()["log_unavailable"])
    elif where:
        assert found.to_dict()["log_unavailable"] is None
    else:
        assert deeptaxi.train(resume="models/a").weights_digest == digest


def test_a_removed_log_folder_is_restored_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = train(out="models/a", callbacks=[at(20, lambda: shutil.rmtree("logs"))])
    assert found.weights_digest == digest
    assert found.to_dict()["log_unavailable"] is None
    again = deeptaxi.load("models/a")
    assert again.finished is not None
    assert again.coverage is not None
    assert [one.update for one in again.history.evaluations] == [20, 40, 60]  # type: ignore[union-attr]


def test_a_log_that_cannot_be_restored_is_reported_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def replace() -> None:
        shutil.rmtree("logs")
        Path("logs").write_text("a file stands in the way")

    found = train(out="models/a", callbacks=[at(20, replace)])
    assert found.to_dict()["log"] is None
    assert "cannot write logs/a" in found.to_dict()["log_unavailable"]
    from deeptaxi.display.console import out
    from deeptaxi.display.tables import training_table

    screen = out()
    with screen.capture() as shown:
        screen.print(training_table("title", found.to_dict()))
    assert "models/a\n" in shown.get().replace(" ", "")
    assert "incomplete: cannot write logs/a" in shown.get()


def test_a_disk_without_room_for_a_model_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    disk = Disk(tmp_path, 0, errno.ENOSPC, "short", only=("mkdir", "write", "link", "symlink"))
    with failing(disk):
        disk.failed = "models"
        result = run("train", *LAKE, "--out", "models/a")
    assert result.exit_code == 1
    assert "No space left on device; free some space" in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert result.stdout == ""
