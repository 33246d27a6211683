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
from typing import NamedTuple

import keras
import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation.exact import Verdict
from deeptaxi.learning.choice import not_compiled
from deeptaxi.learning.compiled import CompiledLearner
from deeptaxi.learning.coverage import Coverage, Snapshots
from deeptaxi.learning.judge import Judge
from deeptaxi.learning.learner import Learner
from deeptaxi.learning.loops import gymnasium as gymnasium_loop
from deeptaxi.learning.loops.fit import FitLearner
from deeptaxi.learning.mask import MaskBook
from deeptaxi.learning.schedules import initial_learning_rate, initial_tabular_step
from deeptaxi.learning.ticks import Report, Tick
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.layout import encoded_factors
from deeptaxi.network.build import build_q_network, weights_digest
from deeptaxi.records import Finished, Judgement, Progress, Record, Snapshot, Started

PATIENCE = 3  # judgements in a row that must find the policy optimal
LEARNERS: dict[str, type[Learner]] = {"gymnasium": Learner, "fit": FitLearner}
AnyLearner = Learner | CompiledLearner


def train(
    config: TrainConfig, environment: Environment, stop: Callable[[], bool] = lambda: False
) -> Generator[Record, None, Trained]:
    """Train, yielding records; the generator's return value is what came out.

    Args:
        config: everything that determines the result.
        environment: what ``config.environment`` opens to.
        stop: asked between updates; once it answers True, the training ends with what it has.

    Raises:
        UsageError: the configuration cannot be applied to this environment.
        DeepTaxiError: the training diverged, or the environment failed, before there was anything to keep. Later, the
            training ends with what it has, and the last record says what failed.
    """
    for_network, for_loop = seeds(config)
    masks = MaskBook(environment, config.exploration.action_mask)
    learner, ticks = build_loop(config, environment, masks, int(for_network.generate_state(1)[0]), for_loop)
    compile_seconds = learner.warm_up()
    judge = Judge(config, environment, learner.online, masks)
    yield started(config, environment, compile_seconds)

    start = time.perf_counter()
    course = Course()
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
    yield course.finished(network, verdict, judge.best_update, (train_seconds, compile_seconds), environment)
    return Trained(network, learner.coverage())


class Trained(NamedTuple):
    """What a training leaves."""

    network: keras.Model  # with the weights to keep
    coverage: Coverage  # what was tried, and what of it the memory held at the end


@dataclass
class Course:
    """How far a training has come, and why it goes no further."""

    update: int = 0
    steps: int = 0
    stopped: str = "updates"
    failure: str | None = None

    def finished(
        self,
        network: keras.Model,
        verdict: Verdict | None,
        best_update: int,
        seconds: tuple[float, float],
        environment: Environment,
    ) -> Finished:
        """Return the last record; `seconds` are those of the training and those of its compilation."""
        return Finished(
            stopped=self.stopped,
            updates=self.update,
            best_update=best_update,
            environment_steps=self.steps,
            train_seconds=seconds[0],
            compile_seconds=seconds[1],
            weights_digest=weights_digest(network),
            exact=verdict.to_dict() if verdict else None,
            exact_unavailable=environment.table_missing,
            failure=self.failure,
        )


def follow(
    course: Course,
    ticks: Iterator[Tick],
    config: TrainConfig,
    learner: AnyLearner,
    judge: Judge,
    stop: Callable[[], bool],
) -> Generator[Progress | Judgement | Snapshot]:
    """Yield the records of the updates; `course` is kept up to date."""
    start = time.perf_counter()
    report, snapshot = Report(config, judge.actions), Snapshots()

    def judged(update: int) -> Generator[Judgement | Snapshot]:
        learner.synchronise()
        yield from judge(update)
        yield snapshot(update, judge.q_values, learner.visits, judge.reachable)

    for tick in ticks:
        course.update, course.steps = tick.update, tick.environment_steps
        yield from report.add(tick, time.perf_counter() - start)
        if tick.update % config.judgement.every == 0:
            yield from judged(tick.update)
            if config.judgement.early_stop and judge.in_a_row >= PATIENCE:
                course.stopped = "optimal"
                break
        if tick.settled and stop():
            course.stopped = "interrupted"
            break
    yield from report.rest(time.perf_counter() - start)
    if judge.last != course.update:
        yield from judged(course.update)


def build_loop(
    config: TrainConfig, environment: Environment, masks: MaskBook, seed: int, for_loop: np.random.SeedSequence
) -> tuple[AnyLearner, Generator[Tick]]:
    """Build the learner of the configured loop, its networks from `seed`, and what runs it.

    Raises:
        UsageError: the loop cannot run this training, or the factors of a factored encoding are not known.
    """
    if config.loop == "compiled":
        reason = not_compiled(config, environment)
        if reason is not None:
            raise UsageError(f"--loop compiled: {reason}; use --loop gymnasium")
        compiled = CompiledLearner(
            build_network(config, environment, seed),
            config,
            environment,
            masks,
            int(for_loop.generate_state(1)[0] >> 1),
        )
        return compiled, compiled.ticks()
    networks = [build_network(config, environment, seed) for _ in range(2)]
    learner = LEARNERS[config.loop](networks[0], networks[1], config, config.interaction.environments)
    return learner, gymnasium_loop.run(config, environment, learner, masks, for_loop)


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


def started(config: TrainConfig, environment: Environment, compile_seconds: float) -> Started:
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
