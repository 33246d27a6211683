"""What a check is: a name, what it needs to know of the case, and a pure function of the case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deeptaxi.evaluation.diagnosis.case import Case
from deeptaxi.evaluation.diagnosis.findings import Finding


@dataclass(frozen=True)
class Unchecked:
    """What a check returns that could not be made: why."""

    why: str


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: of its finding.
        needs: names of what must be known: attributes of `Case`, ``"discount"`` for a Q* to compare with.
        look: returns the finding, None where there is none, or why it could not be checked.
    """

    name: str
    needs: tuple[str, ...]
    look: Callable[[Case], Finding | Unchecked | None]

    def __call__(self, case: Case) -> Finding | Unchecked | None:
        """Check the case, if what is needed is known."""
        for need in self.needs:
            if not known(case, need):
                return Unchecked(case.missing(need))
        return self.look(case)


def known(case: Case, need: str) -> bool:
    """Whether the case has what a check needs; broken Q values are none."""
    if need == "q":
        return case.q is not None and not case.broken
    if need == "discount":
        return case.reference is not None and case.reference.q_star is not None
    return getattr(case, need) is not None
