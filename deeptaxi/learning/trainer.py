"""Train: run a loop, evaluate its network, and tell callbacks what happens.

A `Loop` yields the metrics of its updates. The trainer turns them into the records of `deeptaxi.metrics`, evaluates the
network when an evaluation is due, stops when it should, and passes every event to the callbacks. All else that a
training does, its log, display, checkpoints and warnings, is done by a callback.

Training ends at the last update, at an update to stop after, when a callback asks for it, or when `PATIENCE`
evaluations in a row found the policy optimal. With a transition table the best weights are kept; otherwise the
last weights are kept.

An evaluation of a large table takes long. `mdp.stopping.StopPlanning` ends it and the training with it; a training that
resumes makes up for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Sequence
from typing import NamedTuple, cast

import keras
import numpy as np

from deeptaxi.config import PATIENCE, TrainConfig
from deeptaxi.errors import CallbackError, DeepTaxiError, DivergedError, EnvironmentFailedError, UsageError
from deeptaxi.evaluation.exact import Verdict
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.agent import Agent, FitAgent
from deeptaxi.learning.callbacks import Callback, Event, StopTraining
from deeptaxi.learning.compiled.compiled_agent import CompiledAgent
from deeptaxi.learning.compiled.loop import CompiledLoop
from deeptaxi.learning.coverage import Coverage
from deeptaxi.learning.evaluator import Evaluator
from deeptaxi.learning.gymnasium_loop import GymnasiumLoop
from deeptaxi.learning.initial_network import initial_network, network_spec, seeds
from deeptaxi.learning.progress import Loop, ProgressTracker, StepMetrics
from deeptaxi.learning.recipe_agent import RecipeAgent
from deeptaxi.learning.resolve import why_not_compiled
from deeptaxi.learning.schedules import initial_learning_rate, initial_tabular_step
from deeptaxi.learning.state import CheckpointEvent, StateMismatchError, TrainingState, merge_states
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.stopping import StopPlanning
from deeptaxi.metrics import Finished, Record, Resumed, Started
from deeptaxi.network.lazy import LazyNetwork, borrow_network, return_network
from deeptaxi.network.own import copy_network

NOT_EVALUATED = "the training was interrupted before its weights were evaluated (`deeptaxi evaluate` does it)"


class Trained(NamedTuple):
    """The result of a training."""

    network: LazyNetwork  # with the best weights
    coverage: Coverage  # visit counts, and those of the replay buffer at the end


class Trainer:
    """Runs a loop and tells callbacks what happens.

    Args:
        config: everything that determines the result.
        environment: the environment of ``config.environment``.
        loop: makes the updates.
        evaluator: evaluates the network of the loop and keeps the best weights.
        masks: the allowed actions, which the loop may collect.
        callbacks: called with every event.
    """

    def __init__(
        self,
        config: TrainConfig,
        environment: Environment,
        loop: Loop,
        evaluator: Evaluator,
        masks: ActionMaskTable,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.config = config
        self.environment = environment
        self.loop = loop
        self.evaluator = evaluator
        self.callbacks = callbacks
        self.progress = ProgressTracker(config, environment.actions)
        self._parts = (self.progress, evaluator, masks, loop)
        self._resumed = False
        self._stopping = False  # whether a callback asked to stop
        self._failure: str | None = None  # the error of a user's callback
        self._abandoned = False  # whether an evaluation was not brought to its end

    def run(self, stop_after: int | None = None) -> Trained:
        """Train; see `records`."""
        records = self.records(stop_after)
        while True:
            try:
                next(records)
            except StopIteration as end:
                return cast(Trained, end.value)

    def records(self, stop_after: int | None = None) -> Generator[Record, None, Trained]:
        """Train, yielding every record once the callbacks have seen it; the generator returns the result.

        Args:
            stop_after: the update to stop after, keeping the result so far; None for the last.

        Raises:
            DeepTaxiError: training diverged, or the environment or a user's callback failed, before there was anything
                to save. After that, training ends with its result so far, and the final record names the failure.
        """
        # A callback's error ends the generator of events from outside: it is no failure of the environment.
        events = self._events(min(stop_after or self.config.updates, self.config.updates))
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                return Trained(end.value, self.loop.coverage())
            yield from self._tell(event)

    def _tell(self, event: Event) -> Generator[Record]:
        """Pass an event, and the records that callbacks return for it, to all callbacks; yield the records."""
        events = [event]
        for each in events:
            for callback in self.callbacks:
                try:
                    events.extend(callback(each) or ())
                except (StopTraining, StopPlanning):
                    self._stopping = True
                except CallbackError as error:
                    if not self.evaluator.has_something_to_keep():
                        raise
                    self._stopping, self._failure = True, self._failure or str(error)
            if not isinstance(each, CheckpointEvent):
                yield each

    def _events(self, last: int) -> Generator[Event, None, LazyNetwork]:
        """Yield the events of the training; return the best network."""
        progress, resumed_from = self.progress, self.progress.update
        progress.compile_seconds += (seconds := self.loop.compile())
        yield started_record(self.config, self.environment, seconds)
        if self._resumed:
            yield Resumed(resumed_from)
        progress.begin()
        try:
            yield from self._updates(last)
        except StateMismatchError:
            raise
        except DeepTaxiError as error:
            if not self.evaluator.has_something_to_keep():
                raise as_failure(error) from error.__cause__
            progress.stopped, progress.failure = "interrupted", str(error)
        seconds = progress.seconds
        network, verdict = self.evaluator.best()
        yield self._finished(network, verdict, seconds)
        return network

    def _updates(self, last: int) -> Generator[Event]:
        """Run the remaining updates up to `last`; afterwards, `progress` has the reason for stopping."""
        progress, events = self.progress, self.loop.run(last)
        if self._resumed and self._evaluation_is_due() and self.evaluator.last != progress.update:
            yield from self._evaluate()  # it was abandoned
        ending = self._ending()
        begun = ending is None
        try:
            while ending is None and (event := next(events, None)) is not None:
                if not isinstance(event, StepMetrics):
                    yield event
                    continue
                yield from progress.add(event)
                if self._evaluation_is_due():
                    yield from self._evaluate()
                ending = self._ending()
                if ending is None and event.settled:
                    yield CheckpointEvent(progress.update, False, self.state_dict)
                    if self._stopping:
                        ending, progress.failure = "interrupted", self._failure
            progress.stopped = ending or ("updates" if progress.update >= self.config.updates else "stop-after")
            if begun:  # otherwise nothing has changed since the state resumed from
                # Before the final evaluation, which an uninterrupted training would not make here.
                yield CheckpointEvent(progress.update, True, self.state_dict)
        finally:
            events.close()
        yield from progress.rest()
        if self.evaluator.last != progress.update and not self._abandoned:
            yield from self._evaluate()
        if self._abandoned:
            progress.stopped = "interrupted"

    def _evaluation_is_due(self) -> bool:
        update = self.progress.update
        return update > 0 and update % self.config.evaluation.every == 0

    def _ending(self) -> str | None:
        """Return why the training ends at an evaluation, or None."""
        if self._abandoned:
            return "interrupted"
        return "optimal" if self._is_optimal() else None

    def _is_optimal(self) -> bool:
        return self.config.evaluation.early_stop and self.evaluator.in_a_row >= PATIENCE

    def _evaluate(self) -> Generator[Record]:
        evaluator, update = self.evaluator, self.progress.update
        try:
            yield from evaluator(update)
        except StopPlanning:
            self._abandoned = True
            return
        if not self.environment.tabulated:
            return
        yield self.progress.snapshots(update, evaluator.q_values, self.loop.visits, evaluator.reachable)

    def _finished(self, network: LazyNetwork, verdict: Verdict | None, seconds: float) -> Finished:
        progress = self.progress
        return Finished(
            stopped=progress.stopped,
            updates=progress.update,
            best_update=self.evaluator.best_update if self.evaluator.last >= 0 else progress.update,
            environment_steps=progress.steps,
            train_seconds=seconds,
            compile_seconds=progress.compile_seconds,
            weights_digest=network.weights_digest,
            exact=verdict.to_dict() if verdict else None,
            exact_unavailable=self.environment.table_missing or (None if verdict else NOT_EVALUATED),
            failure=progress.failure,
        )

    def state_dict(self) -> TrainingState:
        """Return everything needed to resume."""
        return merge_states(*(part.state_dict() for part in self._parts))

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state, to resume from it.

        Raises:
            StateMismatchError: the state belongs to another training.
        """
        for part in self._parts:
            part.load_state_dict(saved)
        before = self.progress.snapshots.before
        if before is not None and before.shape != self.loop.visits.shape:
            raise StateMismatchError(f"'snapshot' is {list(before.shape)}, expected {list(self.loop.visits.shape)}")
        self._resumed = True


def as_failure(error: DeepTaxiError) -> DeepTaxiError:
    """Attribute an error during the updates: to divergence, wrong usage, or otherwise the environment."""
    is_attributed = isinstance(error, DivergedError | EnvironmentFailedError | UsageError)
    return error if is_attributed else EnvironmentFailedError(str(error))


def train(
    config: TrainConfig,
    environment: Environment,
    callbacks: Sequence[Callback] = (),
    state: TrainingState | None = None,
    stop_after: int | None = None,
    network: keras.Model | None = None,
) -> Generator[Record, None, Trained]:
    """Build a trainer and run it; see `Trainer.records`.

    Args:
        config: everything that determines the result.
        environment: the environment of ``config.environment``.
        callbacks: called with every event.
        state: the saved state of this training to resume from; None to start from scratch.
        stop_after: the update to stop after; None for the last.
        network: the network of the user's own that the configuration names, with its initial weights.

    Raises:
        UsageError: the configuration cannot be applied to this environment.
        StateMismatchError: `state` is of another training.
        DeepTaxiError: training diverged, or the environment failed, before there was anything to save.
    """
    trainer = build_trainer(config, environment, callbacks, network)
    if state is not None:
        trainer.load_state_dict(state)  # before compiling, to reject another training's state at once
    return (yield from trainer.records(stop_after))


def build_trainer(
    config: TrainConfig,
    environment: Environment,
    callbacks: Sequence[Callback] = (),
    network: keras.Model | None = None,
) -> Trainer:
    """Build the configured loop, with a freshly initialized network, its evaluator and the trainer; see `train`.

    Raises:
        UsageError: the configuration cannot be applied to this environment.
    """
    masks = ActionMaskTable(environment, config.exploration.action_mask)
    loop = build_loop(config, environment, masks, network)
    return Trainer(config, environment, loop, Evaluator(config, environment, loop, masks), masks, callbacks)


def build_loop(
    config: TrainConfig, environment: Environment, masks: ActionMaskTable, network: keras.Model | None = None
) -> Loop:
    """Build the configured loop and its agent; `network` as for `initial_network`.

    Raises:
        UsageError: the loop cannot run this training, or the factors of a factored encoding are unknown.
    """
    for_loop = seeds(config)[1]
    if config.loop == "compiled":
        reason = why_not_compiled(config, environment)
        if reason is not None:
            raise UsageError(f"--loop compiled: {reason}; use --loop gymnasium")
        seed = int(for_loop.generate_state(1)[0] >> 1)
        if network is not None:
            return CompiledLoop(copy_network(network), config, environment, masks, seed)
        spec = network_spec(config, environment)
        online = borrow_network(spec)
        loop = CompiledLoop(online, config, environment, masks, seed)
        weakref.finalize(loop, return_network, spec, online).atexit = False
        return loop
    *for_environments, for_replay = for_loop.spawn(3)
    agent = build_agent(config, environment, masks, for_replay, network)
    return GymnasiumLoop(config, environment, agent, masks, for_environments)


def build_agent(
    config: TrainConfig,
    environment: Environment,
    masks: ActionMaskTable,
    for_replay: np.random.SeedSequence,
    network: keras.Model | None = None,
) -> Agent:
    """Build the agent of a loop over environments: one program, or the literal recipe.

    `network` as for `initial_network`.
    """
    online = initial_network(config, environment, network)
    if config.loop == "gymnasium":
        return CompiledAgent(online, config, environment, masks, for_replay)
    agent = FitAgent(online, initial_network(config, environment, network), config)
    return RecipeAgent(agent, config, environment, masks, for_replay)


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
