r"""A search of Optuna: what a trial is worth, when it is given up, and where all of that is kept.

**The score.** Of two settings, the one that solves more of the n seeds is better; then the one that needs fewer updates
to the optimum; then the one that takes less CPU time. Optuna maximizes one number:

$$ \frac{k}{n} + \frac{1}{2 n} \Bigl(1 - \frac{\bar u}{2}\Bigr) + \frac{e}{16 n^2 U} \cdot \frac{1}{1 + t}, \quad
   \bar u = \frac{1}{n} \sum_i u_i $$

where k seeds are proven optimal; $u_i \in [0, 1]$ are the updates of seed i to the optimum as a share of all U, or, if
it is not solved, 1 and its shortfall of the optimal value; e is the number of updates between two evaluations, and t
the CPU time in minutes. Each part is too small to outweigh a step of the one before, k by one, or $u_i$ by e / U; only
of shortfalls, which are no multiples of anything, a tiny one may weigh less than time.

**Pruning.** The seeds are trained one after the other. At `LOOKS` evaluations of each, the mean closeness to the
optimum so far is reported, and the trial is given up if it is below the median of others at the same point.

Imports Optuna only when it is used.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from deeptaxi.errors import PASSWORD, DeepTaxiError, UsageError, describe_fault, one_line
from deeptaxi.learning.callbacks import Event, StopTraining
from deeptaxi.metrics import Evaluated, Started

LOOKS = 8  # evaluations of a seed at which a trial may be given up
ATTRIBUTE = "deeptaxi"  # of a study: what is searched; of a trial: what became of it
INTERRUPTED = "interrupted"
STARTUP = 5  # trials before the first that may be given up


def check_installed() -> None:
    """Check that Optuna is installed.

    Raises:
        UsageError: it is not.
    """
    if find_spec("optuna") is None:
        raise UsageError("a search needs the package optuna: pip install 'deeptaxi[tune]'")


@dataclass(frozen=True)
class Outcome:
    """What became of a seed.

    Attributes:
        solved: whether its policy is proven optimal.
        updates: updates to the optimum, or all that it was trained for.
        shortfall: of the optimal value, from 0 to 1.
        cpu_seconds: of its training, without compilation.
    """

    solved: bool
    updates: int
    shortfall: float
    cpu_seconds: float


def shortfall_of(value_gap: float | None, optimal_value: float) -> float:
    """Return how far a value is below the optimum, from 0 to 1, which stands for infinitely far too."""
    return 1.0 if value_gap is None else min(1.0, max(0.0, value_gap) / (1 + abs(optimal_value)))


def score(outcomes: Sequence[Outcome], updates: int, every: int) -> float:
    """Return what Optuna maximizes; see the module.

    Args:
        outcomes: of all seeds.
        updates: of a training, U.
        every: updates between two evaluations, e.
    """
    n = len(outcomes)
    shares = [min(1.0, one.updates / updates) if one.solved else 1 + one.shortfall for one in outcomes]
    minutes = sum(one.cpu_seconds for one in outcomes) / 60
    solved = sum(one.solved for one in outcomes) / n
    quick = (1 - sum(shares) / n / 2) / (2 * n)
    return solved + quick + min(1.0, every / updates) / (16 * n**2) / (1 + minutes)


@dataclass
class PruningCallback:
    """A callback that reports how near a trial is to the optimum, and ends the training of a trial that is given up.

    Args:
        trial: of Optuna.
        updates: of a training.

    Attributes:
        pruned: whether the trial was given up.
        optimal_since: the first of the last evaluations of a seed if all of these find its policy optimal, else None.
    """

    trial: Any
    updates: int
    pruned: bool = False
    optimal_since: int | None = None
    _finished: list[float] = field(default_factory=list)
    _looked: int = 0  # at the seed under way

    def __call__(self, event: Event) -> None:
        """Report an evaluation.

        Raises:
            StopTraining: the trial is given up.
        """
        if isinstance(event, Started):
            self.optimal_since = None
        if isinstance(event, Evaluated):
            self.optimal_since = (self.optimal_since or event.update) if event.optimal else None
        if isinstance(event, Evaluated) and event.update * LOOKS >= (self._looked + 1) * self.updates:
            gap = event.value_gap
            optimum = 0.0 if event.value is None or gap is None else event.value + gap
            self._report(int(event.update * LOOKS / self.updates), 1 - shortfall_of(gap, optimum))
            if self.pruned:
                raise StopTraining

    def end_seed(self, outcome: Outcome) -> None:
        """Report what is left of a seed that has ended, perhaps early."""
        closeness = 1.0 if outcome.solved else 1 - outcome.shortfall
        self._report(LOOKS, closeness)
        self._finished.append(closeness)
        self._looked = 0

    def _report(self, looks: int, closeness: float) -> None:
        """Report the mean over the seeds so far, up to a number of looks at this one."""
        mean = (sum(self._finished) + closeness) / (len(self._finished) + 1)
        for look in range(self._looked, min(looks, LOOKS)):
            self.trial.report(mean, len(self._finished) * LOOKS + look)
        self._looked = max(self._looked, looks)
        self.pruned = self.pruned or bool(self.trial.should_prune())


@contextmanager
def open_study(
    storage: str | None, name: str, definition: Mapping[str, Any] | None
) -> Iterator[tuple[Any, dict[str, Any], bool]]:
    """Open a study, or begin it; yield it, what it searches, and whether it is new.

    Args:
        storage: the URL of a database, or None for memory.
        name: of the study.
        definition: what is searched; None if the study is to be there.

    Raises:
        UsageError: there is no such study, or it searches something else.
        DeepTaxiError: the database cannot be used.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings(), contextlib.ExitStack() as closing:
        warnings.filterwarnings("ignore", module="optuna")
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        try:
            opened = None if storage is None else optuna.storages.get_storage(storage)
            if opened is not None:
                closing.callback(close_storage, opened)
            pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
            if definition is None:
                study = optuna.load_study(study_name=name, storage=opened or "sqlite://", pruner=pruner)
            else:
                study = optuna.create_study(
                    study_name=name, storage=opened, pruner=pruner, direction="maximize", load_if_exists=True
                )
            found = study.user_attrs.get(ATTRIBUTE)
        except KeyError:
            where = describe_storage(storage)
            raise UsageError(f"--study {name}: there is none of this name in {where}: name ENV to begin it") from None
        except Exception as error:  # of a database and its driver
            raise DeepTaxiError(f"--storage {describe_storage(storage)}: {describe_fault(error)}") from None
        is_new = found is None and definition is not None
        if is_new:
            study.set_user_attr(ATTRIBUTE, json.dumps(definition, sort_keys=True))
        elif found is None:
            raise UsageError(f"--study {name} is not one of deeptaxi's: choose another name")
        elif definition is not None and json.loads(found) != json.loads(json.dumps(definition)):
            raise UsageError(f"--study {name} searches something else, or with other seeds: choose another name")
        yield study, json.loads(study.user_attrs[ATTRIBUTE]), is_new


def describe_storage(storage: str | None) -> str:
    """Return the address of a database without its password."""
    return "memory" if storage is None else one_line(PASSWORD.sub("//", storage))


def close_storage(storage: Any) -> None:
    """Close the connections of a storage."""
    storage.remove_session()
    for holder in (storage, getattr(storage, "_backend", None)):
        if engine := getattr(holder, "engine", None):
            engine.dispose()


def ask(study: Any, seed: int) -> Any:
    """Return a new trial. What it proposes depends on the seed and the trials before it alone."""
    import optuna

    number = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=(seed * 1_000_003 + number) % 2**32)
    return study.ask()


def tell(study: Any, trial: Any, value: float | None, state: str, about: Mapping[str, Any]) -> None:
    """Keep what became of a trial: ``complete`` with its score, ``pruned``, ``failed`` or `INTERRUPTED`."""
    import optuna

    states = optuna.trial.TrialState
    if state != INTERRUPTED:  # else it counts as none
        trial.set_user_attr(ATTRIBUTE, json.dumps(dict(about)))
    study.tell(trial, value, {"complete": None, "pruned": states.PRUNED}.get(state, states.FAIL))


def ended(study: Any) -> list[dict[str, Any]]:
    """Return what became of each trial that has ended, in their order: ``trial``, ``state`` and more."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        about = trial.user_attrs.get(ATTRIBUTE)
        if trial.state.is_finished() and about is not None:
            state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed")
            value = trial.value if state == "complete" else None
            found.append({"trial": trial.number, "state": state, "score": value, **json.loads(about)})
    return found
