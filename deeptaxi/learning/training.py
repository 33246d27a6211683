"""One training, from configuration to the best network, as a generator of records.

It prints nothing and writes nothing: whoever iterates decides what to show and what to keep. Where the environment has
a true table, the greedy policy is judged exactly every `judgement.every` updates; the training ends early when three
judgements in a row find it optimal, and the weights that are kept are those of the highest value, the later on ties.
Elsewhere the last weights are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation import exact
from deeptaxi.learning.learner import Learner
from deeptaxi.learning.loops import gymnasium as gymnasium_loop
from deeptaxi.learning.loops.fit import FitLearner
from deeptaxi.learning.loops.gymnasium import Tick
from deeptaxi.learning.mask import MaskBook
from deeptaxi.learning.targets import tabular_step
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.network.build import build_q_network, tabulate, weights_digest, with_mask
from deeptaxi.records import Finished, Judgement, Progress, Record, Started

PATIENCE = 3  # judgements in a row that must find the policy optimal
REPORTS = 500  # progress records over the whole training
LEARNERS: dict[str, type[Learner]] = {"gymnasium": Learner, "fit": FitLearner}


def train(
    config: TrainConfig, environment: Environment, stop: Callable[[], bool] = lambda: False
) -> Generator[Record, None, keras.Model]:
    """Train, yielding records; the generator's return value is the trained network.

    Args:
        config: everything that determines the result.
        environment: what ``config.environment`` opens to.
        stop: asked between updates; once it answers True, the training ends with what it has.

    Raises:
        UsageError: the configuration cannot be applied to this environment.
        DeepTaxiError: the training diverged, or the environment failed, before there was anything to keep. Later, the
            training ends with what it has, and the last record says what failed.
    """
    for_network, for_loop = np.random.SeedSequence(config.seed).spawn(2)
    masks = MaskBook(environment, config.exploration.action_mask)
    learner = build_learner(config, environment, int(for_network.generate_state(1)[0]))
    compile_seconds = learner.warm_up()
    judge = Judge(config, environment, learner.online, masks)
    yield started(config, environment, learner, compile_seconds)

    start = time.perf_counter()
    course = Course()
    ticks = gymnasium_loop.run(config, environment, learner, masks, for_loop)
    try:
        yield from follow(course, ticks, config, learner, judge, stop)
    except DeepTaxiError as error:
        if not judge.has_something_to_keep():
            raise
        course.stopped, course.failure = "interrupted", str(error)
    finally:
        ticks.close()
    train_seconds = time.perf_counter() - start

    network, verdict = judge.best()
    yield Finished(
        course.stopped,
        course.update,
        judge.best_update,
        course.steps,
        train_seconds,
        compile_seconds,
        weights_digest(network),
        verdict.to_dict() if verdict else None,
        environment.table_missing,
        course.failure,
    )
    return network


@dataclass
class Course:
    """How far a training has come, and why it goes no further."""

    update: int = 0
    steps: int = 0
    stopped: str = "updates"
    failure: str | None = None


def follow(
    course: Course, ticks: Iterator[Tick], config: TrainConfig, learner: Learner, judge: Judge, stop: Callable[[], bool]
) -> Generator[Progress | Judgement]:
    """Yield the records of the updates; `course` is kept up to date."""
    start = time.perf_counter()
    report = Report(learner, every=max(1, config.updates // REPORTS))
    for tick in ticks:
        course.update, course.steps = tick.update, tick.environment_steps
        yield from report.add(tick, time.perf_counter() - start)
        if tick.update % config.judgement.every == 0:
            yield from judge(tick.update)
            if config.judgement.early_stop and judge.in_a_row >= PATIENCE:
                course.stopped = "optimal"
                break
        if stop():
            course.stopped = "interrupted"
            break
    if judge.last != course.update:
        yield from judge(course.update)


def build_learner(config: TrainConfig, environment: Environment, seed: int) -> Learner:
    """Build both networks and the learner of the configured loop."""
    online, target = (
        build_q_network(
            environment.states,
            environment.actions,
            config.network.hidden,
            config.network.dueling,
            config.network.aggregation,
            config.network.activation,
            seed,
        )
        for _ in range(2)
    )
    return LEARNERS[config.loop](online, target, config, config.interaction.environments)


def started(config: TrainConfig, environment: Environment, learner: Learner, compile_seconds: float) -> Started:
    """Return the first record."""
    optimizer = (config.optimizer.name, config.optimizer.loss, dict(config.optimizer.options))
    plain_sgd = config.network.kind == "q-table" and optimizer == ("sgd", "mse", {})
    rate = learner.learning_rate()
    return Started(
        environment=environment.config.id,
        states=environment.states,
        actions=environment.actions,
        network=config.network.kind,
        loop=config.loop,
        seed=config.seed,
        updates=config.updates,
        learning_rate=rate,
        tabular_step=tabular_step(rate, environment.actions, config.replay.batch_size) if plain_sgd else None,
        compile_seconds=compile_seconds,
    )


class Report:
    """Sums ticks up to one progress record every so many updates."""

    def __init__(self, learner: Learner, every: int) -> None:
        self._learner = learner
        self._every = every
        self._ticks: list[Tick] = []

    def add(self, tick: Tick, seconds: float) -> Generator[Progress]:
        """Take one tick; yield a record if one is due."""
        self._ticks.append(tick)
        if tick.update % self._every:
            return
        returns = [value for item in self._ticks for value in item.returns]
        yield Progress(
            tick.update,
            tick.environment_steps,
            seconds,
            float(np.mean([item.result.loss for item in self._ticks])),
            float(np.mean([item.result.td_error for item in self._ticks])),
            tick.epsilon,
            self._learner.learning_rate(),
            len(returns),
            float(np.mean(returns)) if returns else None,
        )
        self._ticks = []


class Judge:
    """Judges the online network and keeps the best weights."""

    def __init__(self, config: TrainConfig, environment: Environment, online: keras.Model, masks: MaskBook) -> None:
        self._config = config
        self._environment = environment
        self._online = online
        self._masks = masks
        self._reference: tuple[int, exact.Reference] | None = None
        self._best: tuple[list[Any], float] | None = None
        self.best_update = 0
        self.last = -1
        self.in_a_row = 0

    def __call__(self, update: int) -> Generator[Judgement]:
        """Judge the weights after `update`; yield the judgement where there is a table."""
        self.last = update
        verdict = self._judge()
        if verdict is None:
            if not np.isfinite(tabulate(self._online)).all():
                raise DeepTaxiError(f"the training diverged before update {update}: train with a lower --learning-rate")
            self.best_update = update
            return
        self.in_a_row = self.in_a_row + 1 if verdict.optimal else 0
        if self._best is None or verdict.value >= self._best[1] - exact.ZERO * (1 + abs(verdict.value)):
            self._best = ([weight.copy() for weight in self._online.get_weights()], verdict.value)
            self.best_update = update
        yield judgement(update, verdict)

    def has_something_to_keep(self) -> bool:
        """Whether a training that fails now leaves weights worth keeping: judged ones, or sound last ones."""
        if self._environment.table is not None:
            return self._best is not None
        return self.last > 0 and bool(np.isfinite(tabulate(self._online)).all())

    def best(self) -> tuple[keras.Model, exact.Verdict | None]:
        """Return the network with the weights to keep, its mask included, and the verdict on it."""
        if self._best is not None:
            self._online.set_weights(self._best[0])
        plain = keras.Model(self._online.input, self._online.output, name=self._online.name)  # without the optimiser
        allowed = self._masks.allowed
        return plain if allowed is None else with_mask(plain, allowed), self._judge()

    def _judge(self) -> exact.Verdict | None:
        if self._environment.table is None:
            return None
        q_values = tabulate(self._online)
        allowed = self._masks.allowed
        if allowed is not None:
            q_values = np.where(allowed, q_values, np.float32(-np.inf))
        return exact.judge(self._target(self._environment.table), q_values, self._environment.start_resets)

    def _target(self, table: TransitionTable) -> exact.Reference:
        """Return the optima, computed anew when more of the mask has become known."""
        if self._reference is None or self._reference[0] != self._masks.known:
            discounts = (self._config.judgement.objective_discount, self._config.discount)
            found = exact.reference(table, self._environment.horizon, *discounts, self._masks.allowed)
            self._reference = (self._masks.known, found)
        return self._reference[1]


def judgement(update: int, verdict: exact.Verdict) -> Judgement:
    """Return the part of a verdict that the log keeps."""
    return Judgement(
        update,
        verdict.optimal,
        verdict.value,
        verdict.value_gap,
        verdict.gap,
        verdict.start_states,
        verdict.optimal_start_states,
        verdict.q_error.max if verdict.q_error else None,
    )
