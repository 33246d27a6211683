"""A disk that fails at each point of each write in turn: the short form of `tests.reliability.disk_faults`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deeptaxi.errors import DeepTaxiError
from tests.reliability.disk_faults import KINDS, in_memory, outcomes, writes
from tests.reliability.disk_writes import Write, check
from tests.reliability.failing_disk import Disk, failing

QUICK = ["a file", "a folder", "files together", "a lock", "the compile cache"]
SOME = {  # points of each kind of fault: those of a training take half a second each
    "tables": 12, "saving a run": 6, "saving a run over another": 14,
    "training a run": 4, "training a run over another": 6, "resuming a run": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def every() -> Iterator[dict[str, Write]]:
    with in_memory() as folder:
        yield {write.name: write for write in writes(folder, short=True)}


def test_all_writes_are_tried(every: dict[str, Write]) -> None:
    assert set(every) == {*QUICK, *SOME}


@pytest.mark.parametrize("name", [*QUICK, *SOME])
def test_nothing_is_lost_to_a_disk_that_fails(every: dict[str, Write], name: str) -> None:
    found = [one for kind in KINDS for one in outcomes(every[name], kind, SOME.get(name))]
    assert [one for one in found if one.fault] == []
    if name in QUICK:
        errors = [one for one in found if one.kind == "error"]
        assert [one.point for one in errors] == list(range(1, errors[0].points + 1))


def test_the_campaign_notices_lost_files(tmp_path: Path) -> None:
    """A write as they used to be: over the old one, then to be looked at."""

    def act(folder: Path) -> None:
        try:
            (folder / "file").write_text("new")
        except OSError as error:
            raise DeepTaxiError(str(error)) from None

    def look(folder: Path, killed: bool, success: bool) -> str:
        check((folder / "file").read_text() in ("old", "new"), "lost")
        return "old"

    careless = Write(
        "careless", tmp_path, lambda folder: (folder / "file").write_text("old"), act, look, lambda *_: None
    )
    found = list(outcomes(careless, "short"))
    assert [one.operation.split()[:2] for one in found if one.fault] == [["short", "write"]]


def test_the_disk_fails_at_the_given_point_and_works_afterwards(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    outside = tmp_path / "outside"
    with failing(Disk(tmp_path / "disk", 3, errno.EIO)) as disk:
        outside.write_text("does not count")
        with pytest.raises(OSError, match="Input/output") as failure, (tmp_path / "disk" / "a").open("w") as file:
            file.write("text")
    assert (failure.value.errno, disk.done, disk.failed) == (
        errno.EIO, ["open", "write", "close"], f"close {tmp_path / 'disk' / 'a'}",
    )  # fmt: skip
    assert (tmp_path / "disk" / "a").read_text() == "text"
    with failing(Disk(tmp_path / "disk", 2, kind="short")) as disk:
        descriptor = os.open(tmp_path / "disk" / "b", os.O_WRONLY | os.O_CREAT)
        assert os.write(descriptor, b"1234") == 2
        with pytest.raises(OSError, match="No space"):
            os.write(descriptor, b"34")
        os.close(descriptor)
    (tmp_path / "disk" / "b").rename(tmp_path / "disk" / "c")
    assert (tmp_path / "disk" / "c").read_bytes() == b"12"
