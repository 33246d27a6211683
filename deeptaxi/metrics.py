"""What a training reports, one record an event and one line of JSON a record; and the log of a training read back.

A record holds numbers and short texts only. Numbers that are not finite become null in JSON.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from deeptaxi.errors import CONTROLS, DeepTaxiError, UsageError
from deeptaxi.io.safe_load import MAX_LINE, is_of, lines_of, open_plain, parse_json
from deeptaxi.renamed import RECORDS


@dataclass(frozen=True)
class Started:
    """The training is about to make its first update; everything is compiled."""

    kind: ClassVar[str] = "started"
    environment: str
    states: int
    actions: int
    network: str
    loop: str
    seed: int
    updates: int
    learning_rate: float  # at the first update
    tabular_step: float | None  # α = 2·lr/(A·B), where that is what one sample moves its Q value by
    compile_seconds: float
    run: str | None = None  # whose log this is: the run folder, as seen from the log folder


@dataclass(frozen=True)
class Resumed:
    """The training goes on from a checkpoint, of which another `Started` has told just before."""

    kind: ClassVar[str] = "resumed"
    update: int  # the last one that was made before


@dataclass(frozen=True)
class Progress:
    """Where the training stands. Means are taken over the updates since the record before."""

    kind: ClassVar[str] = "progress"
    update: int
    environment_steps: int
    seconds: float
    loss: float
    td_error: float  # mean |td_error| of the minibatches
    epsilon: float  # of the last of them,
    learning_rate: float  # and its learning rate
    episodes: int  # episodes ended since the record before
    mean_return: float | None  # their mean return; None where none ended


@dataclass(frozen=True)
class Evaluated:
    """The greedy policy against the exact optimum."""

    kind: ClassVar[str] = "evaluation"
    update: int
    optimal: bool | None  # None where it cannot be told at this discount
    value: float | None  # None where, at a discount of 1, the policy loses without end
    value_gap: float | None
    gap: float  # of the return over the horizon
    start_states: int
    optimal_start_states: int
    q_error_max: float | None


@dataclass(frozen=True)
class Snapshot:
    """The Q values at an evaluation, with a table or without one, and what was tried until then.

    Q is taken over the states where an action was tried, and their allowed actions, in full units of the reward.
    """

    kind: ClassVar[str] = "snapshot"
    update: int
    q_min: float
    q_max: float
    q_mean: float
    q_change: float | None  # mean |Q − Q of the snapshot before|; None at the first
    policy_change: float | None  # share of the states whose greedy action is another one than at the snapshot before
    greedy_action: int  # the action that is greedy in most of the states,
    greedy_share: float  # and in what share of them
    states_covered: int  # states where an action was tried
    pairs_covered: int  # (state, action) pairs that were tried
    states_reachable: int | None = None  # states that an episode can come to act in; None where no table tells
    pairs_reachable: int | None = None  # and their allowed actions


@dataclass(frozen=True)
class Warned:
    """A finding that became certain while the training ran."""

    kind: ClassVar[str] = "warning"
    update: int
    finding: str
    text: str


NOT_EXACT = "not-exact"  # the finding that a training was resumed, and could not go on to the bit


@dataclass(frozen=True)
class Finished:
    """The end. `exact` is the verdict of the weights that are kept, `exact_unavailable` why there is none."""

    kind: ClassVar[str] = "finished"
    stopped: str  # "optimal", "updates", "stop-after" or "interrupted"
    updates: int
    best_update: int
    environment_steps: int
    train_seconds: float
    compile_seconds: float
    weights_digest: str
    exact: Mapping[str, Any] | None
    exact_unavailable: str | None
    failure: str | None = None  # what broke the training off, if anything did


@dataclass(frozen=True)
class Failed:
    """The training failed, and there is nothing of it to keep: the last record of its log."""

    kind: ClassVar[str] = "failed"
    update: int  # of the record before
    failure: str  # the error, in one line
    cause: str  # "environment", "diverged" or "other"


Record = Started | Resumed | Progress | Evaluated | Snapshot | Warned | Finished | Failed
KINDS: dict[str, type[Record]] = {
    cls.kind: cls for cls in (Started, Resumed, Progress, Evaluated, Snapshot, Warned, Finished, Failed)
}


MAX_TEXT = MAX_LINE // 16  # letters of a text: what an environment says of its failure may be of any length
SURROGATE = re.compile("[\ud800-\udfff]")  # bytes of file names that are no text

# Numbers that a training knows, whatever becomes of its weights; others are null where they are not finite.
CERTAIN = {"tabular_step", "seconds", "compile_seconds", "train_seconds", "epsilon", "learning_rate"}


def finite(value: Any) -> Any:
    """Replace NaN and infinities by None, in nested mappings and lists too, so that the JSON is standard."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def to_json(value: Any, indent: int | None = None) -> str:
    """Return standard JSON: never NaN or Infinity; what no file can hold, or a terminal obeys, of a text is escaped."""
    found = json.dumps(finite(value), indent=indent, allow_nan=False, ensure_ascii=False, default=dated)
    return CONTROLS.sub(lambda match: json.dumps(match[0])[1:-1], found)


def decimals(value: float, digits: int = 4, separator: str = "") -> str:
    """Return a number with that many decimals; one that they would round to zero with two digits: ``1.2e-12``."""
    rounded = f"{value:.{digits}f}"
    return f"{value:.2g}" if value and not float(rounded) else f"{value:{separator}.{digits}f}"


def dated(value: Any) -> str:
    """Return a date or a time as text: TOML has them, so an argument of an environment may be one."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")


def to_line(record: Record) -> str:
    """Return the record as one line of JSON that `from_line` reads, its kind first; long texts are cut."""
    values = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    known = {name: readable(value) if isinstance(value, str) else value for name, value in values.items()}
    return to_json({"kind": record.kind, **known})


def readable(text: str) -> str:
    """Return a text as a log can hold it: of limited length, and without bytes that are no text."""
    return SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text[:MAX_TEXT])


def from_line(line: bytes) -> Record | None:
    """Read one line back; None for a kind of a newer version. Unknown keys are passed over.

    Raises:
        ValueError: the line is not JSON, or lacks a key of its kind.
    """
    values = parse_json(line.decode("utf-8"))
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise ValueError("it is no object with a kind")  # noqa: TRY004  # of a text
    cls = KINDS.get(values["kind"])
    if cls is None:
        return None
    fields = {item.name: item for item in dataclasses.fields(cls)}
    known = {key: value for key, value in values.items() if key in fields}
    for name, item in fields.items():
        if name in known and not is_of(known[name], str(item.type), name in CERTAIN):
            raise ValueError(f"its {name} is none")
        if isinstance(known.get(name), int) and str(item.type).startswith("float"):
            known[name] = float(known[name])  # NumPy takes no whole number of more than 64 bits
    try:
        return cls(**known)
    except TypeError as error:
        raise ValueError(str(error)) from None


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
