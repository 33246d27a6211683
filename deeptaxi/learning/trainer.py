"""One training, from configuration to the best network, as a generator of records.

It prints and writes nothing: the caller decides what to show and what to save. If the environment has a transition
table, the greedy policy is evaluated exactly every `evaluation.every` updates; training stops early after three
consecutive optimal evaluations, and the weights with the highest value are kept, the later ones on ties. Otherwise the
last weights are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import keras
import numpy as np

from deeptaxi.config import PATIENCE, TrainConfig
from deeptaxi.errors import DeepTaxiError, DivergedError, EnvironmentFailedError, UsageError
from deeptaxi.evaluation.exact import Verdict
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.agent import DQNAgent, FitAgent
from deeptaxi.learning.compiled.loop import CompiledAgent
from deeptaxi.learning.coverage import Coverage, Snapshots
from deeptaxi.learning.evaluator import Evaluator
from deeptaxi.learning.gymnasium_loop import GymnasiumLoop
from deeptaxi.learning.resolve import why_not_compiled
from deeptaxi.learning.schedules import initial_learning_rate, initial_tabular_step
from deeptaxi.learning.state import (
    CheckpointEvent,
    OnCheckpoint,
    StateMismatchError,
    TrainingState,
    amount,
    count,
    fact,
    merge_states,
    steps_in,
)
from deeptaxi.learning.step_metrics import Report, StepMetrics
from deeptaxi.mdp.describe import encoded_factors
from deeptaxi.mdp.environment import Environment
from deeptaxi.metrics import NOT_EXACT, Finished, Progress, Record, Resumed, Started, Warned
from deeptaxi.network.build import build_q_network, weights_digest


class ProgressTracker:
    """Tracks counters, elapsed time and the stop reason.

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
        self._config = config
        self.snapshots = Snapshots()
        self._report = Report(config, actions)
        self._seconds = 0.0  # in earlier processes
        self._start = time.perf_counter()

    def begin(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training time so far, in seconds."""
        return self._seconds + time.perf_counter() - self._start

    def add(self, tick: StepMetrics) -> Generator[Progress]:
        """Add step metrics; yield a progress record if one is due."""
        self.update, self.steps = tick.update, tick.environment_steps
        yield from self._report.add(tick, self.seconds)

    def rest(self) -> Generator[Progress]:
        """Yield a progress record of the unreported updates, if any."""
        yield from self._report.rest(self.seconds)

    def state_dict(self) -> TrainingState:
        """Return the counters, unreported step metrics and the Q values of the last snapshot, `[S, A]`."""
        before = self.snapshots.before
        facts = {
            "update": self.update,
            "environment_steps": self.steps,
            "train_seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "ticks": self._report.state_dict(),
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
            self._report.load_state_dict(fact(saved, "ticks", list))
        except (TypeError, ValueError) as error:
            raise StateMismatchError(f"'ticks': {error}") from None

    def finished(
        self, network: keras.Model, verdict: Verdict | None, best_update: int, seconds: float, environment: Environment
    ) -> Finished:
        """Return the final record; `seconds` is the training time."""
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


LEARNERS: dict[str, type[DQNAgent]] = {"gymnasium": DQNAgent, "fit": FitAgent}
AnyLearner = DQNAgent | CompiledAgent
AnyLoop = GymnasiumLoop | CompiledAgent


def train(
    config: TrainConfig,
    environment: Environment,
    stop: Callable[[], bool] = lambda: False,
    since: TrainingState | None = None,
    stop_after: int | None = None,
    keep: OnCheckpoint = lambda _: (),
) -> Generator[Record, None, Trained]:
    """Train, yielding records; the generator returns a `Trained`.

    Args:
        config: everything that determines the result.
        environment: the environment of ``config.environment``.
        stop: called between updates; training stops, keeping its result so far, once it returns True.
        since: a saved state of this training to resume from, as passed to `keep`; None to start from scratch.
        stop_after: the update to stop after, keeping the result so far; None for the last.
        keep: called between updates, whenever a checkpoint can be taken.

    Raises:
        UsageError: the configuration cannot be applied to this environment.
        StateMismatchError: `since` is a state of another training.
        DeepTaxiError: training diverged, or the environment failed, before there was anything to save. After that,
            training ends with its result so far, and the final record names the failure.
    """
    training = Training(config, environment)
    course, evaluator = training.course, training.evaluator
    if since is not None:
        training.load_state_dict(since)  # before compiling, to reject another training's state at once
    yield started_record(config, environment, training.compile(filling=since is None))
    if since is not None:
        yield Resumed(course.update)
    course.begin()
    try:
        yield from training.updates(min(stop_after or config.updates, config.updates), stop, keep)
    except StateMismatchError:
        raise
    except DeepTaxiError as error:
        if not evaluator.has_something_to_keep():
            raise as_failure(error) from error.__cause__
        course.stopped, course.failure = "interrupted", str(error)
    seconds = course.seconds

    network, verdict = evaluator.best()
    yield course.finished(network, verdict, evaluator.best_update, seconds, environment)
    return Trained(network, training.learner.coverage())


def as_failure(error: DeepTaxiError) -> DeepTaxiError:
    """Attribute an error during the updates: to divergence, wrong usage, or otherwise the environment."""
    told = isinstance(error, DivergedError | EnvironmentFailedError | UsageError)
    return error if told else EnvironmentFailedError(str(error))


class Trained(NamedTuple):
    """The result of a training."""

    network: keras.Model  # with the best weights
    coverage: Coverage  # visit counts, and those of the replay buffer at the end


class Training:
    """The parts of a training: the loop and its agent, evaluator, action masks and progress tracker.

    Args:
        config: everything that determines the result.
        environment: the environment of ``config.environment``.
    """

    def __init__(self, config: TrainConfig, environment: Environment) -> None:
        for_network, for_loop = seeds(config)
        self.config = config
        masks = ActionMaskTable(environment, config.exploration.action_mask)
        self.learner, self.loop = build_loop(
            config, environment, masks, int(for_network.generate_state(1)[0]), for_loop
        )
        self.course = ProgressTracker(config, environment.actions)
        self.evaluator = Evaluator(config, environment, self.learner.online, masks)
        self._parts = (self.course, self.evaluator, masks, self.loop)

    def compile(self, filling: bool) -> float:
        """Compile the updates, and the prefill if `filling`; return the seconds taken."""
        seconds = self.learner.warm_up(filling)
        self.course.compile_seconds += seconds
        return seconds

    def state_dict(self) -> TrainingState:
        """Return everything needed to resume."""
        return merge_states(*(part.state_dict() for part in self._parts))

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state.

        Raises:
            StateMismatchError: the state belongs to another training.
        """
        for part in self._parts:
            part.load_state_dict(saved)
        before = self.course.snapshots.before
        if before is not None and before.shape != self.learner.visits.shape:
            raise StateMismatchError(f"'snapshot' is {list(before.shape)}, expected {list(self.learner.visits.shape)}")

    def updates(self, last: int, stop: Callable[[], bool], keep: OnCheckpoint) -> Generator[Record]:
        """Run the remaining updates up to `last` and yield their records; `course` has the stop reason."""
        course, evaluator, ticks = self.course, self.evaluator, self.loop.ticks(last)
        ending = "optimal" if self._enough() else None
        begun = ending is None
        try:
            while ending is None and (tick := next(ticks, None)) is not None:
                yield from self._told(tick)
                if self._enough():
                    ending = "optimal"
                elif tick.settled and stop():
                    ending = "interrupted"
                elif tick.settled:
                    yield from keep(CheckpointEvent(course.update, False, self.state_dict))
            course.stopped = ending or ("updates" if course.update >= self.config.updates else "stop-after")
            if begun:  # otherwise nothing has changed since the state resumed from
                # Before the final evaluation, which an uninterrupted training would not make here.
                yield from keep(CheckpointEvent(course.update, True, self.state_dict))
        finally:
            ticks.close()
        yield from course.rest()
        if evaluator.last != course.update:
            yield from self._evaluate()

    def _enough(self) -> bool:
        return self.config.evaluation.early_stop and self.evaluator.in_a_row >= PATIENCE

    def _told(self, tick: StepMetrics) -> Generator[Record]:
        yield from self.course.add(tick)
        while self.loop.remarks:
            yield Warned(tick.update, NOT_EXACT, f"{NOT_EXACT}: {self.loop.remarks.pop()}")
        if tick.update % self.config.evaluation.every == 0:
            yield from self._evaluate()

    def _evaluate(self) -> Generator[Record]:
        self.learner.synchronize()
        yield from self.evaluator(self.course.update)
        q_values, reachable = self.evaluator.q_values, self.evaluator.reachable
        yield self.course.snapshots(self.course.update, q_values, self.learner.visits, reachable)


def build_loop(
    config: TrainConfig, environment: Environment, masks: ActionMaskTable, seed: int, for_loop: np.random.SeedSequence
) -> tuple[AnyLearner, AnyLoop]:
    """Build the configured loop and its agent, with networks initialized from `seed`.

    Raises:
        UsageError: the loop cannot run this training, or the factors of a factored encoding are unknown.
    """
    if config.loop == "compiled":
        reason = why_not_compiled(config, environment)
        if reason is not None:
            raise UsageError(f"--loop compiled: {reason}; use --loop gymnasium")
        compiled = CompiledAgent(
            build_network(config, environment, seed),
            config,
            environment,
            masks,
            int(for_loop.generate_state(1)[0] >> 1),
        )
        return compiled, compiled
    networks = [build_network(config, environment, seed) for _ in range(2)]
    learner = LEARNERS[config.loop](networks[0], networks[1], config, config.interaction.environments)
    return learner, GymnasiumLoop(config, environment, learner, masks, for_loop)


def seeds(config: TrainConfig) -> list[np.random.SeedSequence]:
    """Return the seed sequences of the initial weights and of the loop."""
    return np.random.SeedSequence(config.seed).spawn(2)


def initial_network(config: TrainConfig, environment: Environment) -> keras.Model:
    """Build the network with its initial weights."""
    return build_network(config, environment, int(seeds(config)[0].generate_state(1)[0]))


def build_network(config: TrainConfig, environment: Environment, seed: int) -> keras.Model:
    """Build the network; it learns from rewards, and so predicts Q values, divided by `reward_scale`."""
    return build_q_network(
        environment.states,
        environment.actions,
        config.network.hidden,
        config.network.dueling,
        config.network.aggregation,
        config.network.activation,
        seed,
        encoded_factors(environment, config.network),
        config.network.initial_value / config.target.reward_scale,
    )


def started_record(config: TrainConfig, environment: Environment, compile_seconds: float) -> Started:
    """Return the first record."""
    return Started(
        environment=environment.config.id,
        states=environment.states,
        actions=environment.actions,
        network=config.network.kind,
        loop=config.loop,
        seed=config.seed,
        updates=config.updates,
        learning_rate=initial_learning_rate(config, environment.actions),
        tabular_step=initial_tabular_step(config, environment.actions),
        compile_seconds=compile_seconds,
    )
