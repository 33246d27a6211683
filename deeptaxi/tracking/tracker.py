"""What a tracker is, and which there are: a run of MLflow or of W&B that takes the curves and files of a training.

Imports none of their packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from deeptaxi.errors import UsageError

TRACKERS = {"mlflow": "MLflow", "wandb": "Weights & Biases"}  # package and extra: title


def check_trackers(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of trackers without repetitions.

    Raises:
        UsageError: one does not exist, or its package is not installed.
    """
    found = tuple(dict.fromkeys([names] if isinstance(names, str) else names or ()))
    for name in found:
        if name not in TRACKERS:
            raise UsageError(f"unknown tracker '{name}': expected {' or '.join(TRACKERS)}")
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name, such as W&B's own of runs, is no package
            raise UsageError(f"--track {name} needs the package {name}: pip install 'deeptaxi[{name}]'")
    return found


@dataclass(frozen=True)
class RunDescription:
    """A training at its start, as a tracker records it.

    Attributes:
        name: of the run.
        settings: by their TOML keys; unset ones are left out.
        tags: further facts, by name.
        previous: the tracker's id of the run that is resumed; None to start a new one.
    """

    name: str
    settings: Mapping[str, Any]
    tags: Mapping[str, str]
    previous: str | None = None


class Point(NamedTuple):
    """Numbers of an update."""

    update: int
    time: float  # seconds since the epoch
    values: Mapping[str, float]


class Tracker(Protocol):
    """A run of a tracker."""

    run: str  # the tracker's id of it
    place: str  # where it is: an address or a folder
    resumed: bool  # whether it was there before
    logged: int  # the last update that has points; −1 if there are none
    note: str | None  # what the user should know of its start

    def log(self, points: Sequence[Point]) -> None:
        """Add points to the curves."""

    def add(self, tags: Mapping[str, str], files: Sequence[Path]) -> None:
        """Add facts and files."""

    def end(self, failed: bool) -> None:
        """End the run."""
