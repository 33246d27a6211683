"""One training, from configuration to the best network, as a generator of records.

It prints nothing and writes nothing: whoever iterates decides what to show and what to keep. Where the environment has
a true table, the greedy policy is evaluated exactly every `evaluation.every` updates; the training ends early when
three evaluations in a row find it optimal, and the weights that are kept are those of the highest value, the later on
ties. Elsewhere the last weights are kept.
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

    def add(self, tick: StepMetrics) -> Generator[Progress]:
        """Take one tick; yield a record if one is due."""
        self.update, self.steps = tick.update, tick.environment_steps
        yield from self._report.add(tick, self.seconds)

    def rest(self) -> Generator[Progress]:
        """Yield a record of the updates that none has told of, if there are such."""
        yield from self._report.rest(self.seconds)

    def state_dict(self) -> TrainingState:
        """Return the counters, and what the next records need: the Q values of the last snapshot, `[S, A]`."""
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
        """Load the counters.

        Raises:
            UnfitError: its facts are not sound.
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
    """Train, yielding records; the generator's return value is what came out.

    Args:
        config: everything that determines the result.
        environment: what ``config.environment`` opens to.
        stop: asked between updates; once it answers True, the training ends with what it has.
        since: a state of this training to go on from, as `keep` was given it; None to begin.
        stop_after: the update to end after, with what there is then; None for the last.
        keep: called between updates, where a state can be taken.

    Raises:
        UsageError: the configuration cannot be applied to this environment.
        UnfitError: `since` is a state of another training.
        DeepTaxiError: the training diverged, or the environment failed, before there was anything to keep. Later, the
            training ends with what it has, and the last record says what failed.
    """
    training = Training(config, environment)
    course, evaluator = training.course, training.evaluator
    if since is not None:
        training.load_state_dict(since)  # before seconds of compilation: a state of another training is refused at once
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
    """Return what broke off the updates of a training: it diverged, else all that can fail is the environment."""
    told = isinstance(error, DivergedError | EnvironmentFailedError | UsageError)
    return error if told else EnvironmentFailedError(str(error))


class Trained(NamedTuple):
    """What a training leaves."""

    network: keras.Model  # with the weights to keep
    coverage: Coverage  # what was tried, and what of it the memory held at the end


class Training:
    """What a training is made of: the loop and its learner, the evaluator, the masks and the course.

    Args:
        config: everything that determines the result.
        environment: what ``config.environment`` opens to.
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
        """Compile the updates, and with `filling` what fills the replay memory; return the seconds that this took."""
        seconds = self.learner.warm_up(filling)
        self.course.compile_seconds += seconds
        return seconds

    def state_dict(self) -> TrainingState:
        """Return what its continuation needs."""
        return merge_states(*(part.state_dict() for part in self._parts))

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state.

        Raises:
            UnfitError: it is of another training.
        """
        for part in self._parts:
            part.load_state_dict(saved)
        before = self.course.snapshots.before
        if before is not None and before.shape != self.learner.visits.shape:
            raise StateMismatchError(f"'snapshot' is {list(before.shape)}, expected {list(self.learner.visits.shape)}")

    def updates(self, last: int, stop: Callable[[], bool], keep: OnCheckpoint) -> Generator[Record]:
        """Make the updates that are left until `last`, and yield their records; `course` says why they ended."""
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
            if begun:  # else the loop has nothing to tell, and the state is the one that it was to go on from
                # Before an evaluation that the training would not come to here if it went on.
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
    """Build the learner of the configured loop, its networks from `seed`, and the loop.

    Raises:
        UsageError: the loop cannot run this training, or the factors of a factored encoding are not known.
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
    """Return what the weights are drawn from, and what all that happens in the loop is."""
    return np.random.SeedSequence(config.seed).spawn(2)


def initial_network(config: TrainConfig, environment: Environment) -> keras.Model:
    """Build the network as a training starts with it."""
    return build_network(config, environment, int(seeds(config)[0].generate_state(1)[0]))


def build_network(config: TrainConfig, environment: Environment, seed: int) -> keras.Model:
    """Build the network; it sees rewards divided by `reward_scale`, so its Q values are smaller by that too."""
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
