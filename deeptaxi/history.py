"""The log of a training, read back: its records in their order, and what they come to."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.reading import lines_of, open_plain, parse_json
from deeptaxi.records import (
    NOT_EXACT,
    Evaluated,
    Failed,
    Finished,
    Progress,
    Record,
    Resumed,
    Snapshot,
    Started,
    Warned,
    from_line,
)
from deeptaxi.renamed import RECORDS

Kind = TypeVar("Kind", bound=Record)

MAX_BYTES = 2**27  # of a log: some 400,000 records, where a training leaves some hundred


@dataclass(frozen=True, repr=False)
class History:
    """The log of a training.

    Attributes:
        path: the file; None where it was kept in memory.
        records: in their order.
        skipped: the numbers of the lines that are no records, from 1.
    """

    path: Path | None
    records: tuple[Record, ...]
    skipped: tuple[int, ...] = ()

    def __repr__(self) -> str:
        counts = Counter(record.kind for record in self.records)
        return f"History({', '.join(f'{count:,} {kind}' for kind, count in counts.items())})"

    def of_kind(self, cls: type[Kind]) -> tuple[Kind, ...]:
        """Return the records of one kind."""
        return tuple(record for record in self.records if isinstance(record, cls))

    @cached_property
    def started(self) -> Started | None:
        """The first record, if it was written; of a training that was resumed, the first since."""
        return next(reversed(self.of_kind(Started)), None)

    @cached_property
    def finished(self) -> Finished | None:
        """The last record, if the training came to its end."""
        return next(iter(self.of_kind(Finished)), None)

    @cached_property
    def failed(self) -> Failed | None:
        """The last record, if the training failed and left nothing to keep."""
        return next(reversed(self.of_kind(Failed)), None)

    @property
    def failure(self) -> str | None:
        """The error that broke the training off, whether or not there was something to keep."""
        if self.finished is not None:
            return self.finished.failure
        return self.failed.failure if self.failed else None

    @cached_property
    def resumed(self) -> Resumed | None:
        """Where the training was resumed last, if it was."""
        return next(reversed(self.of_kind(Resumed)), None)

    @property
    def disturbed(self) -> bool:
        """Whether it was resumed in a way that its settings do not tell, so that they may lead to other weights."""
        return any(warned.finding == NOT_EXACT for warned in self.warnings)

    @cached_property
    def progress(self) -> tuple[Progress, ...]:
        """Where the training stood, time after time."""
        return self.of_kind(Progress)

    @cached_property
    def evaluations(self) -> tuple[Evaluated, ...]:
        """The exact verdicts on the way."""
        return self.of_kind(Evaluated)

    @cached_property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """The Q values on the way."""
        return self.of_kind(Snapshot)

    @cached_property
    def warnings(self) -> tuple[Warned, ...]:
        """The findings that became certain on the way."""
        return self.of_kind(Warned)


def read_history(path: Path, earlier: bool = False) -> History:
    """Read a `metrics.jsonl` back; lines that are no records are skipped, and their numbers kept.

    Args:
        path: the file.
        earlier: whether one of an earlier deeptaxi will do, whose records of kinds of then are passed over.

    Raises:
        UsageError: there is no such file.
        DeepTaxiError: not one line is a record, or it is of an earlier deeptaxi.
    """
    try:
        file = open_plain(path)
    except OSError as error:
        raise UsageError(f"cannot read the log {path}: {error.strerror}") from None
    records: list[Record] = []
    skipped: list[int] = []
    with file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise DeepTaxiError(f"{path} is larger than the {MAX_BYTES // 2**20} MiB of a log that are read")
        for number, line in enumerate(lines_of(file), start=1):
            try:
                record = from_line(line)
            except ValueError:
                skipped.append(number)
                continue
            if record is not None:
                records.append(record)
            elif not earlier:
                check_kind(path, line)
    if not records:
        raise DeepTaxiError(f"{path} holds no record of deeptaxi")
    return History(path, tuple(records), tuple(skipped))


def check_kind(path: Path, line: bytes) -> None:
    """Refuse a log by a record of a kind that has another name today; one of a newer version is passed over.

    Raises:
        DeepTaxiError: it has.
    """
    kind = parse_json(line.decode("utf-8"))["kind"]
    if kind in RECORDS:
        raise DeepTaxiError(
            f"{path} is the log of an earlier deeptaxi: '{kind}' is now '{RECORDS[kind]}'; train it again"
        )
