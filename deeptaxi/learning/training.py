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

import keras
import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError
from deeptaxi.learning.judge import Judge
from deeptaxi.learning.learner import Learner
from deeptaxi.learning.loops import gymnasium as gymnasium_loop
from deeptaxi.learning.loops.fit import FitLearner
from deeptaxi.learning.loops.gymnasium import Tick
from deeptaxi.learning.mask import MaskBook
from deeptaxi.learning.targets import tabular_step
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.layout import encoded_factors
from deeptaxi.network.build import build_q_network, weights_digest
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
        stopped=course.stopped,
        updates=course.update,
        best_update=judge.best_update,
        environment_steps=course.steps,
        train_seconds=train_seconds,
        compile_seconds=compile_seconds,
        weights_digest=weights_digest(network),
        exact=verdict.to_dict() if verdict else None,
        exact_unavailable=environment.table_missing,
        failure=course.failure,
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
    """Build both networks and the learner of the configured loop.

    The learner sees rewards divided by `reward_scale`, so its Q values are smaller by that, at first too.

    Raises:
        UsageError: a factored encoding is asked for where the factors are not known.
    """
    factors = encoded_factors(environment, config.network)
    online, target = (
        build_q_network(
            environment.states,
            environment.actions,
            config.network.hidden,
            config.network.dueling,
            config.network.aggregation,
            config.network.activation,
            seed,
            factors,
            config.network.initial_value / config.target.reward_scale,
        )
        for _ in range(2)
    )
    return LEARNERS[config.loop](online, target, config, config.interaction.environments)


def started(config: TrainConfig, environment: Environment, learner: Learner, compile_seconds: float) -> Started:
    """Return the first record."""
    step = config.optimizer
    sgd = (step.name, step.loss, step.clip_norm) == ("sgd", "mse", None) and not step.options
    plain_sgd = config.network.kind == "q-table" and sgd
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
