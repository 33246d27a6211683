"""What a training reports: plain records, one JSON line each, and reading them back.

A record holds numbers and short texts only. Numbers that are not finite become null in JSON.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from deeptaxi.errors import DeepTaxiError, UsageError


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


@dataclass(frozen=True)
class Progress:
    """Where the training stands. Means are taken over the updates since the record before."""

    kind: ClassVar[str] = "progress"
    update: int
    environment_steps: int
    seconds: float
    loss: float
    td_error: float  # mean |td_error| of the minibatches
    epsilon: float
    learning_rate: float
    episodes: int  # episodes ended since the record before
    mean_return: float | None  # their mean return; None where none ended


@dataclass(frozen=True)
class Judgement:
    """The greedy policy against the exact optimum."""

    kind: ClassVar[str] = "judgement"
    update: int
    optimal: bool
    value: float
    value_gap: float
    gap: float  # of the return over the horizon
    start_states: int
    optimal_start_states: int
    q_error_max: float | None


@dataclass(frozen=True)
class Finished:
    """The end. `exact` is the verdict of the weights that are kept, `exact_unavailable` why there is none."""

    kind: ClassVar[str] = "finished"
    stopped: str  # "optimal", "updates" or "interrupted"
    updates: int
    best_update: int
    environment_steps: int
    train_seconds: float
    compile_seconds: float
    weights_digest: str
    exact: Mapping[str, Any] | None
    exact_unavailable: str | None
    failure: str | None = None  # what broke the training off, if anything did


Record = Started | Progress | Judgement | Finished
KINDS: dict[str, type[Record]] = {cls.kind: cls for cls in (Started, Progress, Judgement, Finished)}


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
    """Return standard JSON: never NaN or Infinity."""
    return json.dumps(finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def to_line(record: Record) -> str:
    """Return the record as one line of JSON, its kind first."""
    values = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    return to_json({"kind": record.kind, **values})


def read_records(path: Path) -> Iterator[Record]:
    """Read a `metrics.jsonl` back; unknown keys and kinds of newer versions are passed over.

    Raises:
        UsageError: there is no such file.
        DeepTaxiError: a line is not JSON, or lacks a key of its kind.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read the log {path}: {error.strerror}") from None
    with file as lines:  # a line may end inside of a letter
        for number, line in enumerate(lines, start=1):
            try:
                values = json.loads(line)
                cls = KINDS.get(values.pop("kind"))
                if cls is not None:
                    names = {item.name for item in dataclasses.fields(cls)}
                    yield cls(**{key: value for key, value in values.items() if key in names})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DeepTaxiError(f"{path}, line {number}: not a record of deeptaxi ({error})") from None
