"""What is wrong with a model, by name: `diagnose`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deeptaxi.api.cases import Asked, open_case
from deeptaxi.api.models import Model
from deeptaxi.api.places import Place
from deeptaxi.api.shown import Shown
from deeptaxi.arguments import title
from deeptaxi.diagnosis import diagnose as findings_of
from deeptaxi.diagnosis.case import Diagnosis
from deeptaxi.errors import UsageError
from deeptaxi.metrics import History

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, repr=False)
class Diagnosed(Shown, Diagnosis):
    """All findings about a model, the worst first, and what could not be checked.

    Attributes:
        model: what it is called.
        environment: its id, arguments and sizes.
        optimal: what the exact verdict says; None where there is none.
        history: the log that was looked at, or None.
    """

    model: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    optimal: bool | None = None
    history: History | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what `deeptaxi diagnose --json` says."""
        return {"model": self.model, "environment": dict(self.environment), **super().to_dict()}

    def __repr__(self) -> str:
        names = ", ".join(f"{finding.name} ({finding.severity})" for finding in self.findings)
        return f"Diagnosed({self.model} on {title(self.environment)}: {names or 'nothing was found'})"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display.tables import findings_page

        return findings_page(f"{self.model} on {title(self.environment)}", self.to_dict(), self.optimal)


def diagnose(
    model: Model,
    env: Place | None = None,
    *,
    env_args: Mapping[str, Any] | None = None,
    time_limit: int | None = None,
    trust_env: bool = False,
    objective_discount: float | None = None,
    discount: float | None = None,
    episodes: int = 100,
    seed: int = 0,
) -> Diagnosed:
    """Say by name what is wrong with a model, with evidence, the likely cause and the cure.

    Args:
        model: a run folder, a `.keras` file, a log folder or the file of a log, a `Run`, or a Keras model, from state
            numbers to Q values.
        env: the environment to look at it on, instead of its own.
        env_args: arguments of `gymnasium.make`, over those of its own.
        time_limit: steps before an episode is cut, instead of its own.
        trust_env: whether to import the environment module that the run names; it is code.
        objective_discount: of the value that decides what is optimal; None for the run's own, else the
            table's, else 0.99.
        discount: that the model was trained with, where no configuration tells.
        episodes: played where no table exists.
        seed: of the episodes.

    Returns:
        `findings`, each with `name`, `severity`, `summary`, `evidence`, `cause` and `cure`; `not_checked`; `severe`.

    Raises:
        UsageError: there is no such model, its environment is not known, or the model cannot be tabulated.
        DeepTaxiError: the model, the run folder or the log is damaged.
    """
    if episodes < 0 or seed < 0:
        raise UsageError(f"episodes = {episodes}, seed = {seed}: expected 0 or more")
    asked = Asked(env, env_args or {}, time_limit, trust_env, objective_discount, discount, episodes, seed)
    case, name = open_case(model, asked)
    found, place = findings_of(case), case.environment
    return Diagnosed(
        found.findings,
        found.not_checked,
        name,
        {"id": place.id, "kwargs": dict(place.kwargs), "states": case.states, "actions": case.actions},
        case.verdict.optimal if case.verdict else None,
        case.history,
    )
