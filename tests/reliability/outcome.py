"""What a part of the proof found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """The figures of one part, and what failed in it.

    Attributes:
        part: its name on the command line.
        done: how many trials there were, and `sound`: how many of them were as they must be.
        figures: what else was measured, by what it is called on the page.
        failures: a line each, with all that is needed to see it again.
    """

    part: str
    done: int = 0
    sound: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, failures: list[str]) -> None:
        """Count one trial, and what failed in it."""
        self.done += 1
        self.sound += not failures
        self.failures += failures
