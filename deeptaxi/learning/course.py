"""The course of a training: how far it has come, what its records are made of, and why it goes no further."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import keras
import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.evaluation.exact import Verdict
from deeptaxi.learning.coverage import Snapshots
from deeptaxi.learning.moment import Moment, UnfitError, amount, count, fact, steps_in
from deeptaxi.learning.ticks import Report, Tick
from deeptaxi.mdp.environment import Environment
from deeptaxi.metrics import Finished, Progress
from deeptaxi.network.build import weights_digest


class Course:
    """Counts what a training does.

    Args:
        config: the training.
        actions: A.

    `stopped` says why it goes no further, `failure` what broke it off, if anything did.
    """

    def __init__(self, config: TrainConfig, actions: int) -> None:
        self.update = 0
        self.steps = 0
        self.stopped = "updates"
        self.failure: str | None = None
        self.compile_seconds = 0.0
        self._config = config
        self.snapshots = Snapshots()
        self._report = Report(config, actions)
        self._seconds = 0.0  # before this process took over
        self._start = time.perf_counter()

    def begin(self) -> None:
        """Let the time count from now on."""
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds that the training has taken so far."""
        return self._seconds + time.perf_counter() - self._start

    def add(self, tick: Tick) -> Generator[Progress]:
        """Take one tick; yield a record if one is due."""
        self.update, self.steps = tick.update, tick.environment_steps
        yield from self._report.add(tick, self.seconds)

    def rest(self) -> Generator[Progress]:
        """Yield a record of the updates that none has told of, if there are such."""
        yield from self._report.rest(self.seconds)

    def moment(self) -> Moment:
        """Return the counters, and what the next records need: the Q values of the last snapshot, `[S, A]`."""
        before = self.snapshots.before
        facts = {
            "update": self.update,
            "environment_steps": self.steps,
            "train_seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "ticks": self._report.moment(),
        }
        return Moment({} if before is None else {"snapshot": before}, facts)

    def restore(self, moment: Moment) -> None:
        """Count on from a moment.

        Raises:
            UnfitError: its facts are not sound.
        """
        self.update = count(moment, "update", self._config.updates)
        self.steps = count(moment, "environment_steps", steps_in(self._config))
        self._seconds = amount(moment, "train_seconds")
        self.compile_seconds = amount(moment, "compile_seconds")
        before: Any = moment.arrays.get("snapshot")
        if before is not None and (before.ndim != 2 or before.dtype != np.float32):
            raise UnfitError("'snapshot' is no table of Q values")
        self.snapshots = Snapshots(before)
        try:
            self._report.restore(fact(moment, "ticks", list))
        except (TypeError, ValueError) as error:
            raise UnfitError(f"'ticks': {error}") from None

    def finished(
        self, network: keras.Model, verdict: Verdict | None, best_update: int, seconds: float, environment: Environment
    ) -> Finished:
        """Return the last record; `seconds` are those of the training."""
        return Finished(
            stopped=self.stopped,
            updates=self.update,
            best_update=best_update,
            environment_steps=self.steps,
            train_seconds=seconds,
            compile_seconds=self.compile_seconds,
            weights_digest=weights_digest(network),
            exact=verdict.to_dict() if verdict else None,
            exact_unavailable=environment.table_missing,
            failure=self.failure,
        )
