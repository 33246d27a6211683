"""The records a training reports, one per event and line of JSON, and reading the log back.

A record holds only numbers and short texts. Non-finite numbers become null in JSON.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_type_hints

from deeptaxi.errors import CONTROLS, DeepTaxiError, UsageError
from deeptaxi.io.safe_load import MAX_LINE, Seed, check_of, lines_of, open_plain, parse_json
from deeptaxi.renamed import RECORDS

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Started:
    """The training is about to make its first update; everything is compiled."""

    kind: ClassVar[str] = "started"
    environment: str
    states: int
    actions: int
    network: str
    loop: str
    seed: Seed
    updates: int
    learning_rate: float  # at the first update
    tabular_step: float | None  # α = 2·lr/(A·B) if one sample moves its Q value by that fraction
    compile_seconds: float
    run: str | None = None  # the run folder this log belongs to, relative to the log folder


@dataclass(frozen=True)
class Resumed:
    """The training resumed from a checkpoint; a `Started` record precedes this one."""

    kind: ClassVar[str] = "resumed"
    update: int  # the last update before resuming


@dataclass(frozen=True)
class Progress:
    """Training progress. Means are over the updates since the previous record."""

    kind: ClassVar[str] = "progress"
    update: int
    environment_steps: int
    seconds: float
    loss: float
    td_error: float  # mean |td_error| of the minibatches
    epsilon: float  # at the last update
    learning_rate: float  # at the last update
    episodes: int  # episodes ended since the previous record
    mean_return: float | None  # their mean return; None if none ended


@dataclass(frozen=True)
class Evaluated:
    """Evaluation of the greedy policy against the exact optimum."""

    kind: ClassVar[str] = "evaluation"
    update: int
    optimal: bool | None  # None if it cannot be determined at this discount
    value: float | None  # None if, at a discount of 1, the policy loses reward forever
    value_gap: float | None
    gap: float  # of the return over the horizon
    start_states: int
    optimal_start_states: int
    q_error_max: float | None


@dataclass(frozen=True)
class Snapshot:
    """The Q values at an evaluation, with or without a table, and the coverage so far.

    Q covers the states in which an action was tried, and their allowed actions, in unscaled rewards.
    """

    kind: ClassVar[str] = "snapshot"
    update: int
    q_min: float
    q_max: float
    q_mean: float
    q_change: float | None  # mean |Q − Q of the previous snapshot|; None at the first
    policy_change: float | None  # fraction of states whose greedy action changed since the previous snapshot
    greedy_action: int  # the greedy action in the most states
    greedy_share: float  # the fraction of states where it is greedy
    states_covered: int  # states where an action was tried
    pairs_covered: int  # (state, action) pairs that were tried
    states_reachable: int | None = None  # reachable states where the agent acts; None without a table
    pairs_reachable: int | None = None  # and their allowed actions
    policy: str | None = None  # the greedy action of each state, a base-36 digit each; None for large problems


@dataclass(frozen=True)
class Warned:
    """A finding that became certain during the training."""

    kind: ClassVar[str] = "warning"
    update: int
    finding: str
    text: str


NOT_EXACT = "not-exact"  # the finding that a resumed training could not continue bit for bit


@dataclass(frozen=True)
class Tracked:
    """A tracker, such as MLflow, follows the training in a run of its own."""

    kind: ClassVar[str] = "tracked"
    update: int  # the last update before it began to
    tracker: str
    run: str  # the id that the tracker gave its run
    place: str  # where that run is: an address or a folder
    resumed: bool  # whether the run was there before and is continued


@dataclass(frozen=True)
class Finished:
    """The end. `exact` is the verdict on the saved weights; `exact_unavailable` says why it is missing."""

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
    failure: str | None = None  # the error that ended the training, if any


@dataclass(frozen=True)
class Failed:
    """The training failed and left nothing to save: the last record of its log."""

    kind: ClassVar[str] = "failed"
    update: int  # of the previous record
    failure: str  # the error, in one line
    cause: str  # "environment", "diverged" or "other"


Record = Started | Resumed | Progress | Evaluated | Snapshot | Warned | Tracked | Finished | Failed
KINDS: dict[str, type[Record]] = {
    cls.kind: cls for cls in (Started, Resumed, Progress, Evaluated, Snapshot, Warned, Tracked, Finished, Failed)
}


LONG = 1_000  # entries of a list from which it is formatted as a whole
MAX_TEXT = MAX_LINE // 16  # characters per text: an environment's error message may be of any length
LARGEST_IN_FULL = 1e15  # further digits are not of the number but of its float
SURROGATE = re.compile("[\ud800-\udfff]")  # file name bytes that are not text

# Numbers that remain known whatever becomes of the weights; others are null if they are not finite.
CERTAIN = {"tabular_step", "seconds", "compile_seconds", "train_seconds", "epsilon", "learning_rate"}


def finite(value: Any) -> Any:
    """Replace NaN and infinities by None, also in nested mappings and lists, so that the JSON is standard."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def to_json(value: Any, indent: int | None = None) -> str:
    """Format as standard JSON, without NaN or Infinity; escape unencodable and control characters in text."""
    if indent and isinstance(value, dict):
        long = {name: item for name, item in value.items() if isinstance(item, list) and len(item) > LONG}
        texts = {name: numbers_to_json(item, indent) for name, item in long.items()}
        marks = {name: os.urandom(16).hex() for name, text in texts.items() if text is not None}
        if marks:
            whole = to_json({name: marks.get(name, item) for name, item in value.items()}, indent)
            for name, mark in marks.items():
                whole = whole.replace(f'"{mark}"', texts[name] or "", 1)
            return whole
    encode = encoder(indent).encode
    try:
        found = encode(value)
    except (TypeError, ValueError):  # mappings other than dictionaries; NaN and infinities: rare in a line of a log
        found = encode(finite(value))
    if found.isprintable():  # as most lines are, and almost free to check
        return found
    return CONTROLS.sub(lambda match: json.dumps(match[0])[1:-1], found)


@cache
def encoder(indent: int | None) -> json.JSONEncoder:
    """Return what formats standard JSON: `json.dumps` builds one for each call that has options."""
    return json.JSONEncoder(indent=indent, allow_nan=False, ensure_ascii=False, default=dated)


def numbers_to_json(values: list[Any], indent: int) -> str | None:
    """Format a long list of numbers, or of short lists of integers, one level deep, as `json.dumps` would.

    With an indent, `json.dumps` takes seconds for a million of them. Return None if the list holds anything else.
    """
    pad = " " * indent
    kinds = set(map(type, values))
    if kinds <= {int, float}:
        known = values if kinds <= {int} or all(map(math.isfinite, values)) else finite(values)
        inner = json.dumps(known, allow_nan=False, separators=(f",\n{pad * 2}", ": "))
        return f"[\n{pad * 2}{inner[1:-1]}\n{pad}]"
    if kinds != {list}:
        return None
    texts: dict[tuple[Any, ...], str] = {}
    for row in set(map(tuple, values)):
        if not set(map(type, row)) <= {int}:
            return None
        texts[row] = json.dumps(row, indent=indent).replace("\n", f"\n{pad * 2}")
    return f"[\n{pad * 2}" + f",\n{pad * 2}".join([texts[tuple(row)] for row in values]) + f"\n{pad}]"


def decimals(value: float, digits: int = 4, separator: str = "") -> str:
    """Format a number with `digits` decimals.

    One that would round to zero has two significant digits, ``1.2e-12``, and one with more digits than a float holds
    is in powers of ten too: ``4e+30``.
    """
    if abs(value) >= LARGEST_IN_FULL:
        return f"{value:.6g}"
    rounded = f"{value:.{digits}f}"
    return f"{value:.2g}" if value and not float(rounded) else f"{value:{separator}.{digits}f}"


def dated(value: Any) -> str:
    """Format a date or time as text: TOML has them, so an environment argument may be one."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")


def to_line(record: Record) -> str:
    """Format the record as one line of JSON for `from_line`, its kind first; long texts are truncated."""
    values: dict[str, Any] = {"kind": record.kind}
    for name in field_names(record.kind):
        value = getattr(record, name)
        values[name] = readable(value) if isinstance(value, str) else value
    return to_json(values)


@cache
def field_names(kind: str) -> tuple[str, ...]:
    """Return the names of the fields of a record, in their order."""
    return tuple(item.name for item in dataclasses.fields(KINDS[kind]))


def readable(text: str) -> str:
    """Make a text fit for a log: limit its length and replace bytes that are not text."""
    return SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text[:MAX_TEXT])


@cache
def field_checks(kind: str) -> Mapping[str, Callable[[Any], bool]]:
    """Return the check of each field of a record; null stands for a number that is not finite, unless it is certain."""
    cls = KINDS[kind]
    hints, names = get_type_hints(cls, include_extras=True), field_names(kind)
    uncertain = {name for name in names if hints[name] is float} - CERTAIN
    return {name: check_of(float | None if name in uncertain else hints[name]) for name in names}


def from_line(line: bytes) -> Record | None:
    """Parse one line; return None for a kind from a newer version. Unknown keys are ignored.

    Raises:
        ValueError: the line is not JSON, or lacks a required key.
    """
    values = parse_json(line.decode("utf-8"))
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise ValueError("it is not an object with a kind")  # noqa: TRY004  # of a text
    cls = KINDS.get(values["kind"])
    if cls is None:
        return None
    fields, checks = {item.name: item for item in dataclasses.fields(cls)}, field_checks(cls.kind)
    known = {key: value for key, value in values.items() if key in fields}
    for name, value in known.items():
        if not checks[name](value):
            raise ValueError(f"invalid value for '{name}'")
        if isinstance(value, int) and str(fields[name].type).startswith("float"):
            known[name] = float(value)  # NumPy does not accept integers of more than 64 bits
    try:
        return cls(**known)
    except TypeError as error:
        raise ValueError(str(error)) from None


Kind = TypeVar("Kind", bound=Record)

MAX_BYTES = 2**27  # size limit of a log: some 400,000 records; a training writes a few hundred


@dataclass(frozen=True, repr=False)
class History:
    """The log of a training.

    Attributes:
        path: the file; None if the log exists only in memory.
        records: in order.
        skipped: the numbers, from 1, of the lines that are not records.
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
        """The first record, if it was written; for a resumed training, the first after resuming."""
        return next(reversed(self.of_kind(Started)), None)

    @cached_property
    def finished(self) -> Finished | None:
        """The last record, if the training finished."""
        return next(iter(self.of_kind(Finished)), None)

    @cached_property
    def failed(self) -> Failed | None:
        """The last record, if the training failed and left nothing to save."""
        return next(reversed(self.of_kind(Failed)), None)

    @property
    def failure(self) -> str | None:
        """The error that ended the training, whether or not anything was saved."""
        if self.finished is not None:
            return self.finished.failure
        return self.failed.failure if self.failed else None

    @cached_property
    def resumed(self) -> Resumed | None:
        """The latest resumption, if any."""
        return next(reversed(self.of_kind(Resumed)), None)

    @property
    def disturbed(self) -> bool:
        """Whether it was resumed in a way its settings do not record, so that they may lead to other weights."""
        return any(warned.finding == NOT_EXACT for warned in self.warnings)

    @cached_property
    def progress(self) -> tuple[Progress, ...]:
        """The progress records."""
        return self.of_kind(Progress)

    @cached_property
    def evaluations(self) -> tuple[Evaluated, ...]:
        """The exact evaluations during the training."""
        return self.of_kind(Evaluated)

    @cached_property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """The snapshots of the Q values during the training."""
        return self.of_kind(Snapshot)

    @cached_property
    def warnings(self) -> tuple[Warned, ...]:
        """The findings that became certain during the training."""
        return self.of_kind(Warned)

    @cached_property
    def tracked(self) -> tuple[Tracked, ...]:
        """Where trackers follow the training: the latest run of each."""
        return tuple({record.tracker: record for record in self.of_kind(Tracked)}.values())

    def to_pandas(self) -> DataFrame:
        """Return the curves as a pandas DataFrame, with a row for each update that has a record, in order.

        The index is the update; the columns are the fields of `Progress`, `Evaluated` and `Snapshot`, but its policy.
        All are float64, NaN where an update has no such record, but `optimal`, which is a nullable boolean.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("history.to_pandas() needs the package pandas: pip install 'deeptaxi[pandas]'") from None
        kinds = (Progress, Evaluated, Snapshot)
        left_out = ("update", "policy")  # the index, and no number
        names = [item.name for cls in kinds for item in dataclasses.fields(cls) if item.name not in left_out]
        rows: dict[int, dict[str, Any]] = {}
        for record in self.records:
            if isinstance(record, kinds):
                rows.setdefault(record.update, {}).update(vars(record))
        updates = sorted(rows)
        columns: dict[str, Any] = {}
        for name in names:
            values = [rows[update].get(name) for update in updates]
            if name == "optimal":
                columns[name] = pandas.array(values, "boolean")
            else:
                columns[name] = [math.nan if value is None else float(value) for value in values]
        return pandas.DataFrame(columns, index=pandas.Index(updates, name="update", dtype="int64"))


def read_history(path: Path, earlier: bool = False) -> History:
    """Read a `metrics.jsonl`; lines that are not records are skipped, and their numbers recorded.

    Args:
        path: the file.
        earlier: accept a log from an earlier deeptaxi, ignoring kinds of records that no longer exist.

    Raises:
        UsageError: the file does not exist.
        DeepTaxiError: no line is a record, or the log is from an earlier deeptaxi.
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
        raise DeepTaxiError(f"{path} contains no deeptaxi records")
    return History(path, tuple(records), tuple(skipped))


def check_kind(path: Path, line: bytes) -> None:
    """Reject a log whose record kinds have been renamed; kinds from a newer version are ignored.

    Raises:
        DeepTaxiError: the kind has been renamed.
    """
    kind = parse_json(line.decode("utf-8"))["kind"]
    if kind in RECORDS:
        raise DeepTaxiError(
            f"{path} is the log of an earlier deeptaxi: '{kind}' is now '{RECORDS[kind]}'; train it again"
        )


def describe_estimate(estimated: Any) -> str:
    """Say what a verdict is estimated from: ``estimated from 1,200 transitions in 100 episodes``."""
    counts = [
        f"{estimated[key]:,} {key if estimated[key] != 1 else key.removesuffix('s')}"
        for key in ("transitions", "episodes")
    ]
    prior = f" with a prior of {estimated['prior']:g}" if estimated["prior"] else ""
    return f"estimated from {' in '.join(counts)}{prior}"
