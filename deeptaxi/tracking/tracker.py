"""What a tracker is: a run of MLflow or of Weights & Biases that takes the curves, facts and files of a training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol


@dataclass(frozen=True)
class Begun:
    """What a tracker is told of a training at its start.

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


PASSWORD = re.compile(r"(?<=:)//[^/@\s]*@")  # of an address, with its user
LONGEST = 300  # characters of a tracker's own message


def in_a_line(error: Exception) -> str:
    """Return an error's message in one line, without passwords of addresses, cut where it is long."""
    text = " ".join(PASSWORD.sub("//", str(error)).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
