"""The progress of a training: what a loop yields, counted and averaged into progress records."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.io.safe_load import LARGEST_COUNT, is_a
from deeptaxi.learning.coverage import Counts, Coverage, Snapshots
from deeptaxi.learning.schedules import learning_rate
from deeptaxi.learning.state import StateMismatchError, TrainingState, amount, brief, count, fact, steps_in
from deeptaxi.metrics import Progress, Warned

if TYPE_CHECKING:
    import keras

SUMS = ("loss", "td_error", "returns")  # may be any number, and NaN if training diverges
RECORDS = 500  # progress records over the whole training


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one or more updates, summed since the previous ones."""

    update: int  # the last update, from 1
    environment_steps: int  # in total
    epsilon: float  # at the last step
    count: int  # number of updates
    loss: float  # sum
    td_error: float  # sum of the minibatches' mean |td_error|
    episodes: int  # episodes that ended
    returns: float  # sum
    settled: bool = True  # whether the weights are those right after this update, not later ones


class Loop(Protocol):
    """Makes the updates of a training: it drives the environment, the replay buffer and the agent."""

    @property
    def network(self) -> keras.Model:
        """The network with the weights learned so far; always the same object."""

    @property
    def visits(self) -> Counts:
        """Visits of each pair so far, int64 `[S, A]`."""

    def compile(self) -> float:
        """Compile everything without changing the state; return the seconds taken."""

    def run(self, last: int) -> Generator[StepMetrics | Warned]:
        """Run the remaining updates up to `last`; yield their metrics, and warnings for the user."""

    def coverage(self) -> Coverage:
        """Return the visit counts of the training and of the replay buffer."""

    def state_dict(self) -> TrainingState:
        """Return the state between two updates."""

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state."""


def updates_per_record(config: TrainConfig) -> int:
    """Return the number of updates per progress record."""
    return max(1, config.updates // RECORDS)


class ProgressTracker:
    """Counts updates, steps and seconds, and averages step metrics into progress records.

    Args:
        config: the training.
        actions: A.

    `stopped` is the reason why training stopped; `failure` is the error message if it failed, else None.
    """

    def __init__(self, config: TrainConfig, actions: int) -> None:
        self.update = 0
        self.steps = 0
        self.stopped = "updates"
        self.failure: str | None = None
        self.compile_seconds = 0.0
        self.snapshots = Snapshots()
        self._config = config
        self._actions = actions
        self._pending: list[StepMetrics] = []  # not in a record yet
        self._seconds = 0.0  # in earlier processes
        self._start = time.perf_counter()

    def begin(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training time so far, in seconds."""
        return self._seconds + time.perf_counter() - self._start

    def add(self, metrics: StepMetrics) -> Generator[Progress]:
        """Add step metrics; yield a progress record if one is due."""
        self.update, self.steps = metrics.update, metrics.environment_steps
        self._pending.append(metrics)
        if metrics.update % updates_per_record(self._config) == 0:
            yield from self.rest()

    def rest(self) -> Generator[Progress]:
        """Yield a progress record of the updates that are in none yet, if there are any."""
        pending, self._pending = self._pending, []
        updates = sum(item.count for item in pending)
        if updates == 0:
            return
        last, episodes = pending[-1], sum(item.episodes for item in pending)
        yield Progress(
            last.update,
            last.environment_steps,
            self.seconds,
            sum(item.loss for item in pending) / updates,
            sum(item.td_error for item in pending) / updates,
            last.epsilon,
            learning_rate(self._config, self._actions, (last.update - 1) / self._config.schedule_length),
            episodes,
            sum(item.returns for item in pending) / episodes if episodes else None,
        )

    def state_dict(self) -> TrainingState:
        """Return the counters, pending step metrics and the Q values of the last snapshot, `[S, A]`."""
        before = self.snapshots.before
        facts = {
            "update": self.update,
            "environment_steps": self.steps,
            "train_seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "step_metrics": [asdict(metrics) for metrics in self._pending],
        }
        return TrainingState({} if before is None else {"snapshot": before}, facts)

    def load_state_dict(self, saved: TrainingState) -> None:
        """Restore the counters, step metrics and last snapshot.

        Raises:
            StateMismatchError: a fact is invalid.
        """
        self.update = count(saved, "update", self._config.updates)
        self.steps = count(saved, "environment_steps", steps_in(self._config))
        self._seconds = amount(saved, "train_seconds")
        self.compile_seconds = amount(saved, "compile_seconds")
        before: Any = saved.arrays.get("snapshot")
        if before is not None and (before.ndim != 2 or before.dtype != np.float32):
            raise StateMismatchError("'snapshot' is no table of Q values")
        self.snapshots = Snapshots(before)
        try:
            self._pending = [StepMetrics(**item) for item in fact(saved, "step_metrics", list)]
            self._check_pending()
        except (TypeError, ValueError) as error:
            raise StateMismatchError(f"'step_metrics': {error}") from None

    def _check_pending(self) -> None:
        """Check the fields of restored step metrics.

        Raises:
            TypeError: a field is of the wrong type.
            ValueError: a number is out of range.
        """
        most = {"update": self._config.updates, "count": self._config.updates, "epsilon": 1.0}
        for metrics in self._pending:
            for item in fields(StepMetrics):
                value, high = getattr(metrics, item.name), most.get(item.name, LARGEST_COUNT)
                kind: Any = {"int": int, "bool": bool}.get(str(item.type), int | float)
                if not is_a(value, kind):
                    raise TypeError(f"'{item.name}' is {str(value)[:40]!r}")
                if item.name not in SUMS and not 0 <= value <= high:
                    raise ValueError(f"'{item.name}' is {brief(value)}, expected 0 … {high}")
