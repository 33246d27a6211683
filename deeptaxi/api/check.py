"""Check an environment, and list all its faults at once: `check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from deeptaxi.api.environments import EnvLike, EnvSpec
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.status import status
from deeptaxi.diagnosis import environment_checks
from deeptaxi.diagnosis.case import Case, Finding, Unchecked, play_random_sample
from deeptaxi.diagnosis.run_checks import without_weaker
from deeptaxi.errors import DeepTaxiError
from deeptaxi.mdp.compliance import NO_TABLE, Compliance, Fault, check_compliance
from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.environment import DEFAULT_DISCOUNT, Environment, known_mask
from deeptaxi.mdp.verify import CHECK_SEED

if TYPE_CHECKING:
    from rich.console import RenderableType

ANSWERS = "whether answers depend on the state and the action alone"


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

    It is played for 20,000 random steps, or 60 seconds, in spite of its faults. If it has no `P` and no fault, it is
    played for as many again, or 3 seconds, to see whether what it returns depends on the state and the action alone. A
    table is only opened.

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
    spec = EnvSpec(env, env_args or {}, time_limit, discover=False)
    made = spec.unopened()
    if isinstance(made, Environment):
        return Checked(made.config.id, table_opened(made))
    with status("checking the environment …"):
        found = check_compliance(*made)
        if not found.faults and NO_TABLE in found.notes:
            check_answers(spec.open(), found)
    return Checked(made[0].id, found)


def check_answers(environment: Environment, found: Compliance) -> None:
    """Check by random play what `diagnose` looks for in an environment without a table; what is severe is a fault."""
    if shows_mask(environment):
        found.notes.append(f"{ANSWERS} was not checked: random play would ignore the action masks that it shows")
        return
    try:
        sample = play_random_sample(environment, known_mask(environment), CHECK_SEED)
    except DeepTaxiError as error:  # it fails too rarely for the steps before
        found.faults.append(Fault("step", str(error)))
        return
    case = Case(
        environment.config, environment.states, environment.actions, environment.horizon, DEFAULT_DISCOUNT,
        random_play=sample, binned=environment.binned,
    )  # fmt: skip
    results = [(check.name, check(case)) for check in environment_checks.CHECKS]
    limited = environment_checks.terminating_limit(case, sample)
    results.append(("truncation-as-terminal", Unchecked(environment_checks.BINNED) if case.binned else limited))
    findings = without_weaker([result for _, result in results if isinstance(result, Finding)])
    for finding in findings:
        message = f"{finding.name}: {finding.summary}; {finding.cure}"
        if finding.severity == "severe":
            found.faults.append(Fault(finding.name, message))
        else:
            found.notes.append(message)
    unchecked = [name for name, result in results if isinstance(result, Unchecked)]
    steps = f"{len(sample.state):,} more random steps"
    if unchecked:
        found.notes.append(f"{', '.join(unchecked)} were not checked: {environment_checks.BINNED}")
    elif len(sample.state) < environment_checks.ENOUGH:
        found.notes.append(f"{ANSWERS} was not checked: {steps} are too few")
    elif not sample.reward.any():  # as where that of a goal is late, and so never comes
        found.notes.append(f"{steps} paid nothing but 0: look at the reward of the step that reaches the goal")
    elif not findings:
        found.passed.append(f"answers: {steps} show none that depend on more than the state and the action")


def shows_mask(environment: Environment) -> bool:
    """Whether an environment shows an action mask for its current state alone."""
    with blaming(environment.config.id), closing(environment.make_numbered()) as env:
        return "action_mask" in env.reset(seed=CHECK_SEED)[1]


def table_opened(environment: Environment) -> Compliance:
    """Return what is known of a table once it is open: it was checked as it was read."""
    size = f"{environment.states:,} states, {environment.actions:,} actions"
    return Compliance(passed=[f"table: {size}; its probabilities sum to 1"], notes=list(environment.read_as))
