"""Check an environment, and list all its faults at once: `check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from deeptaxi.api.environments import EnvLike, EnvSpec
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.status import status
from deeptaxi.mdp.compliance import Compliance, check_compliance
from deeptaxi.mdp.environment import Environment

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, eq=False, repr=False)
class Checked(RichRepr):
    """What was found about an environment.

    Attributes:
        id: its id.
        found: the faults, the checks that passed, and notes.
    """

    id: str
    found: Compliance

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.found.faults

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi check --json` prints."""
        found = self.found
        return {
            "environment": self.id,
            "ok": self.ok,
            "faults": [asdict(fault) for fault in found.faults],
            "passed": list(found.passed),
            "notes": list(found.notes),
            "steps": found.steps,
            "episodes": found.episodes,
        }

    def __repr__(self) -> str:
        count = len(self.found.faults)
        return f"Checked({self.id}: {count or 'no'} fault{'s' * (count != 1)})"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display.tables import compliance_page

        return compliance_page(self.to_dict())


def check(env: EnvLike, *, env_args: Mapping[str, Any] | None = None, time_limit: int | None = None) -> Checked:
    """Check an environment against Gymnasium's API, its seed and its table `P`, and list all faults at once.

    It is played for 20,000 random steps, or 60 seconds, in spite of its faults. A table is only opened.

    Args:
        env: an environment, as `train` takes it.
        env_args: arguments for `gymnasium.make`.
        time_limit: steps after which an episode is truncated, instead of the environment's own limit.

    Returns:
        The faults, `.found.faults`, what passed and what could not be checked; `.ok` if there is no fault.

    Raises:
        UsageError: the environment does not exist or cannot be made, so that there is nothing to check.
        DeepTaxiError: it is a table that is damaged.
    """
    found = EnvSpec(env, env_args or {}, time_limit, discover=False).unopened()
    if isinstance(found, Environment):
        return Checked(found.config.id, table_opened(found))
    with status("checking the environment …"):
        return Checked(found[0].id, check_compliance(*found))


def table_opened(environment: Environment) -> Compliance:
    """Return what is known of a table once it is open: it was checked as it was read."""
    size = f"{environment.states:,} states, {environment.actions:,} actions"
    return Compliance(passed=[f"table: {size}; its probabilities sum to 1"], notes=list(environment.read_as))
