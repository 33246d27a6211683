"""One training, from configuration to the best network, as a generator of records.

It prints nothing and writes nothing: whoever iterates decides what to show and what to keep. Where the environment has
a true table, the greedy policy is judged exactly every `judgement.every` updates; the training ends early when three
judgements in a row find it optimal, and the weights that are kept are those of the highest value, the later on ties.
Elsewhere the last weights are kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation import exact
from deeptaxi.learning.learner import Learner
from deeptaxi.learning.loops import gymnasium as gymnasium_loop
from deeptaxi.learning.loops.fit import FitLearner
from deeptaxi.learning.loops.gymnasium import Tick
from deeptaxi.learning.mask import MaskBook
from deeptaxi.mdp.environment import Environment
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
        DeepTaxiError: the training diverged.
    """
    for_network, for_loop = np.random.SeedSequence(config.seed).spawn(2)
    masks = MaskBook(environment, config.exploration.action_mask)
    learner = build_learner(config, environment, int(for_network.generate_state(1)[0]))
    compile_seconds = learner.warm_up()
    judge = Judge(config, environment, learner.online, masks)
    yield started(config, environment, compile_seconds)

    start = time.perf_counter()
    report = Report(learner, every=max(1, config.updates // REPORTS))
    stopped, update, steps = "updates", 0, 0
    for tick in gymnasium_loop.run(config, environment, learner, masks, for_loop):
        update, steps = tick.update, tick.environment_steps
        yield from report.add(tick, time.perf_counter() - start)
        if update % config.judgement.every == 0:
            yield from judge(update)
            if config.judgement.early_stop and judge.in_a_row >= PATIENCE:
                stopped = "optimal"
                break
        if stop():
            stopped = "interrupted"
            break
    if judge.last != update or update == 0:
        yield from judge(update)
    train_seconds = time.perf_counter() - start

    network, verdict = judge.best()
    yield Finished(
        stopped,
        update,
        judge.best_update,
        steps,
        train_seconds,
        compile_seconds,
        weights_digest(network),
        verdict.to_dict() if verdict else None,
        environment.table_missing,
    )
    return network


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


def started(config: TrainConfig, environment: Environment, compile_seconds: float) -> Started:
    """Return the first record."""
    return Started(
        environment.config.id,
        environment.states,
        environment.actions,
        config.network.kind,
        config.loop,
        config.seed,
        config.updates,
        compile_seconds,
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
        self._online = online
        self._masks = masks
        self._start_resets = environment.start_resets
        self._reference: exact.Reference | None = None
        if environment.table is not None:
            self._reference = exact.reference(
                environment.table,
                environment.horizon,
                config.judgement.objective_discount,
                config.discount,
                masks.allowed,
            )
        self._best: tuple[list[Any], exact.Verdict] | None = None
        self.best_update = 0
        self.last = -1
        self.in_a_row = 0

    def __call__(self, update: int) -> Generator[Judgement]:
        """Judge the weights after `update`; yield the judgement where there is a table."""
        self.last = update
        q_values = self._q_values()
        if self._reference is None:
            if not np.isfinite(tabulate(self._online)).all():
                raise DeepTaxiError(f"the training diverged before update {update}: train with a lower --learning-rate")
            self.best_update = update
            return
        verdict = exact.judge(self._reference, q_values, self._start_resets)
        self.in_a_row = self.in_a_row + 1 if verdict.optimal else 0
        if self._best is None or verdict.value >= self._best[1].value - exact.ZERO * (1 + abs(verdict.value)):
            self._best = ([weight.copy() for weight in self._online.get_weights()], verdict)
            self.best_update = update
        yield judgement(update, verdict)

    def best(self) -> tuple[keras.Model, exact.Verdict | None]:
        """Return the network with the weights to keep, its mask included, and their verdict."""
        if self._best is not None:
            self._online.set_weights(self._best[0])
        allowed = self._masks.allowed
        plain = keras.Model(self._online.input, self._online.output, name=self._online.name)  # without the optimiser
        network = plain if allowed is None else with_mask(plain, allowed)
        return network, self._best[1] if self._best else None

    def _q_values(self) -> NDArray[np.float32]:
        q_values = tabulate(self._online)
        allowed = self._masks.allowed
        return q_values if allowed is None else np.where(allowed, q_values, np.float32(-np.inf))


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
