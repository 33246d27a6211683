"""Try the cures of a diagnosis: train with each for real, in memory, and say what it reached.

A cure is the text of options (`diagnosis.cures`). The likeliest two are tried alone, so that the one that helps tells
the cause, and then the settings that are usual for the problem. Trainings begin in turn while the budget of seconds
lasts, and one that exceeds it is stopped there and evaluated by its best weights. The diagnosed run stays as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from deeptaxi.api.environments import EnvLike
from deeptaxi.api.run import Run
from deeptaxi.api.status import status
from deeptaxi.api.train import train
from deeptaxi.config import TrainConfig
from deeptaxi.diagnosis import cures
from deeptaxi.diagnosis.case import GOOD, Case, Finding
from deeptaxi.diagnosis.q_values import moved
from deeptaxi.errors import DeepTaxiError
from deeptaxi.metrics import History
from deeptaxi.schema import to_mapping
from deeptaxi.storage.model_card import in_memory

BUDGET = 60.0  # seconds
MEASURABLE = 2.0  # seconds: a shorter training says little about a longer one
ALONE = 2  # cures that are tried by themselves
USUAL = "usual-settings"  # in place of a finding's name
SYMPTOMS = ("one-action-collapse", "policy-loops", "not-optimal")  # their cure is mostly another finding's


@dataclass(frozen=True)
class Candidate:
    """A cure to try: the finding that it belongs to, the options, and the configuration that they make."""

    finding: str
    cure: str
    config: TrainConfig
    seconds: float | None = None  # that its training will take, if known


@dataclass(frozen=True)
class Trial:
    """What one cure reached.

    Attributes:
        finding: the finding whose cure it is, or ``"usual-settings"``.
        cure: the options, to add to `command`.
        command: what trains with it: a command, or a line of Python.
        updates, planned: updates that were made, and of how many.
        seconds: how long it took.
        optimal: the exact verdict; None if there is none, or it cannot be determined.
        normalized_score: 0 for the random policy, 1 for the optimum; None if unknown.
        value, optimal_value: discounted, over the start states; None if unknown.
        mean_return: of sampled episodes, where there is no exact verdict.
        failed: the error that ended it, or None.
    """

    finding: str
    cure: str
    command: str
    updates: int
    planned: int
    seconds: float
    optimal: bool | None = None
    normalized_score: float | None = None
    value: float | None = None
    optimal_value: float | None = None
    mean_return: float | None = None
    failed: str | None = None

    @property
    def good(self) -> bool:
        """Whether it cured the agent: optimal, or as near as a sound training comes."""
        return self.optimal is True or (self.normalized_score is not None and self.normalized_score >= GOOD)


@dataclass(frozen=True)
class NotTried:
    """A cure that was not tried, and why."""

    finding: str
    cure: str
    why: str


@dataclass(frozen=True)
class Trials:
    """What cures reached, within a budget of seconds.

    Attributes:
        budget: seconds that they had.
        seconds: seconds that they took.
        tried: the trainings, in order.
        not_tried: the others.
        interrupted: whether they were stopped by the user.
        unavailable: why none could be tried, or None.
    """

    budget: float
    seconds: float = 0.0
    tried: tuple[Trial, ...] = ()
    not_tried: tuple[NotTried, ...] = field(default=())
    interrupted: bool = False
    unavailable: str | None = None

    @property
    def best(self) -> Trial | None:
        """The first cure that made the agent optimal, or else good; None if none did."""
        return next((one for one in self.tried if one.optimal), None) or next((o for o in self.tried if o.good), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "budget": self.budget,
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "unavailable": self.unavailable,
            "tried": [asdict(one) | {"cured": one.good, "reached": verdict_of(one)} for one in self.tried],
            "not_tried": [asdict(one) for one in self.not_tried],
            "best": None if self.best is None else self.best.command,
        }


def why_none(case: Case) -> str | None:
    """Return why no cure of a case can be tried; None if they can."""
    if case.config is None:
        return (
            "the model belongs to no training that is known, so there are no settings to change; "
            f"`{cures.training_command(case.environment)}` trains one"
        )
    if case.misfit is not None or moved(case) is not None:
        return "the model is for another problem than the one that it is diagnosed on"
    if case.config.network.in_memory:
        return "its network was built in memory, and nothing here can build it again"
    return None


def candidates(findings: tuple[Finding, ...], case: Case) -> list[Candidate]:
    """Return the likeliest cures: those of the worst findings, then the usual settings; no two make the same config."""
    config = case.config
    if config is None:
        return []
    found: list[Candidate] = []

    def add(name: str, changes: cures.Changes, made: TrainConfig) -> None:
        if made != config and all(made != known.config for known in found):
            text = cures.format_options(changes)
            found.append(Candidate(name, text, made, foreseen_seconds(case.history, made)))

    for finding in findings:
        changes = cures.parse_options(finding.cure)
        if finding.severity != "note" and len(found) < ALONE and changes and cures.applies(config, changes):
            cause = (one.name for one in findings if one.cure == finding.cure and one.name not in SYMPTOMS)
            add(next(cause, finding.name), changes, cures.change(config, changes))
    if case.usual is not None:
        add(USUAL, cures.to_usual(config, case.usual), case.usual)
    return found


def foreseen_seconds(history: History | None, cure: TrainConfig) -> float | None:
    """Return how long a training will take, from how long the logged one took; None if that is unknown or too short."""
    done = history.finished if history else None
    if done is None or not done.updates or done.train_seconds < MEASURABLE:
        return None
    return done.compile_seconds + done.train_seconds / done.updates * cure.updates


def describe_seconds(seconds: float) -> str:
    """Format a duration: ``40 seconds``, ``12 minutes``, ``3.5 hours``."""
    if seconds < 100:
        return f"{math.ceil(seconds)} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6_000 else f"{seconds / 3_600:.1f} hours"


def command_of(case: Case, folder: str, cure: str) -> str:
    """Return what trains with a cure: the command with the run's configuration, or with the user's own file of it."""
    config = case.config
    if config is None or in_memory(config):
        return f"deeptaxi.train(…, config=run.config)  # with {cure}"
    from pathlib import Path

    from deeptaxi.storage.model_card import training_command

    return f"{training_command(Path(folder), config)} {cure}"


def try_cures(
    findings: tuple[Finding, ...],
    case: Case,
    name: str,
    environment: EnvLike | None,
    budget: float = BUDGET,
    stop: Callable[[], bool] = lambda: False,
) -> Trials:
    """Train with the likeliest cures in turn.

    Args:
        findings: of the diagnosis, worst first.
        case: the case.
        name: of the run, a folder if it has one.
        environment: the environment of the training.
        budget: seconds for all of them together.
        stop: called between updates; once it returns True, what was learned so far is returned.
    """
    unavailable = why_none(case)
    if unavailable is not None:
        return Trials(budget, unavailable=unavailable)
    asked = candidates(findings, case) if case.harmful is not False else []
    if not asked:
        return Trials(budget, unavailable="there is nothing to cure" if not asked and case.harmful is False else "no "
                      "finding has a setting as its cure")  # fmt: skip
    begun, tried, not_tried = time.monotonic(), [], []
    for number, candidate in enumerate(asked, 1):
        left = budget - (time.monotonic() - begun)
        if stop():
            not_tried.append(NotTried(candidate.finding, candidate.cure, "interrupted"))
            continue
        if left <= 0:
            not_tried.append(NotTried(candidate.finding, candidate.cure, "the budget was spent"))
            continue
        if candidate.seconds is not None and candidate.seconds > left:
            needed = describe_seconds(candidate.seconds)
            why = f"it takes about {needed}: --budget {math.ceil(1.5 * candidate.seconds)}"
            not_tried.append(NotTried(candidate.finding, candidate.cure, why))
            continue
        with status(f"trying cure {number} of {len(asked)}: {candidate.cure or 'the usual settings'} …"):
            tried.append(try_one(candidate, case, name, environment, begun + budget, stop))
    return Trials(budget, time.monotonic() - begun, tuple(tried), tuple(not_tried), stop())


def try_one(
    candidate: Candidate, case: Case, name: str, environment: EnvLike | None, deadline: float, stop: Callable[[], bool]
) -> Trial:
    """Train with one cure until it ends, `stop` says so, or the deadline has come."""
    begun = time.monotonic()
    command = command_of(case, name, candidate.cure)
    about: dict[str, Any] = {"finding": candidate.finding, "cure": candidate.cure, "command": command}
    planned = candidate.config.updates
    try:
        run = train(
            environment,
            config=without_environment(candidate.config),
            trust_env=True,
            checkpoints=False,
            stop=lambda: stop() or time.monotonic() > deadline,
        )
    except DeepTaxiError as error:
        return Trial(**about, updates=0, planned=planned, seconds=time.monotonic() - begun, failed=str(error))
    return Trial(**about, planned=planned, seconds=time.monotonic() - begun, **reached(run))


def without_environment(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as settings, but for the environment, which is open."""
    return {key: value for key, value in to_mapping(config).items() if key != "environment"}


def reached(run: Run) -> dict[str, Any]:
    """Return what a training reached, under the names of `Trial`."""
    exact, done = run.exact, run.finished
    facts: dict[str, Any] = {"updates": done.updates if done else 0, "failed": run.failure}
    if exact is not None:
        return facts | {key: exact[key] for key in ("optimal", "normalized_score", "value", "optimal_value")}
    episodes = run.episodes
    return facts | {"mean_return": episodes["mean_return"] if episodes else None}


def describe_trials(trials: Trials) -> list[str]:
    """Say what cures reached: a line for all of them, one for each, and the command of the best."""
    if trials.unavailable is not None:
        return [f"Cures: none can be tried: {trials.unavailable}"]
    cut = "; interrupted" if trials.interrupted else ""
    lines = [f"Cures, tried in {trials.seconds:.0f} of {trials.budget:g} seconds{cut}", *each_line(trials)]
    return lines + ([f"best: {trials.best.command}"] if trials.best else [])


def each_line(trials: Trials) -> Iterator[str]:
    """Yield what cures reached, a line each."""
    for one in trials.tried:
        cut = f" after {one.updates:,} of {one.planned:,} updates" if one.updates < one.planned and not one.good else ""
        yield f"{one.cure or 'the usual settings'}: {verdict_of(one)}{cut} ({one.seconds:.1f} s)"
    for other in trials.not_tried:
        yield f"{other.cure or 'the usual settings'}: not tried, {other.why}"


def verdict_of(trial: Trial) -> str:
    """Say what one cure reached."""
    if trial.failed:
        return f"failed, {trial.failed}"
    if trial.optimal:
        return "optimal"
    if trial.normalized_score is not None:
        return f"{'good' if trial.good else 'not good'}, score {trial.normalized_score:.3g}"
    if trial.value is not None:
        return f"value {trial.value:.4g} of {trial.optimal_value:.4g}"
    return "no verdict" if trial.mean_return is None else f"mean return {trial.mean_return:.4g}"
