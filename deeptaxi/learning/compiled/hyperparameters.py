"""The numbers of a training that its compiled program takes as arguments.

Shapes, loops and variants are part of a program: sizes, the optimizer and its options, whether gradients are clipped.
Other numbers are not: another learning rate, discount or length of the schedules compiles nothing, so that the
trainings of a group or a sweep share a program. `settings_of_program` is what remains.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from deeptaxi.config import EnvironmentConfig, EvaluationConfig, TrainConfig
from deeptaxi.learning.progress import updates_per_record
from deeptaxi.learning.schedules import Span, anneal, initial_learning_rate


class Hyperparameters(NamedTuple):
    """The numbers of one update, float32; None where the program has no use for one."""

    learning_rate: Any
    epsilon: Any  # ε of exploration
    importance_exponent: Any  # β of prioritized replay
    priority_exponent: Any  # α of prioritized replay
    discount: Any  # γ
    log_retention: Any  # of the target network, see `log_retention`
    clip_norm: Any
    restart: Any  # probability of an exploring start
    reward_scale: Any


SCHEDULED = ("learning_rate", "epsilon", "importance_exponent")


class Schedules(NamedTuple):
    """What changes those numbers, float32."""

    learning_rate: Span
    epsilon: Span
    importance_exponent: Span
    speed: Any  # share of the learning rate's schedule that an update makes
    epsilon_speed: Any  # of that of ε
    record: Any  # int32, updates per progress record


class Numbers(NamedTuple):
    """All of them."""

    constant: Hyperparameters  # those that schedules change are of the first update
    schedules: Schedules


def numbers_of(config: TrainConfig, actions: int) -> Numbers:
    """Return the numbers of a training.

    Args:
        config: the training.
        actions: A.
    """
    exploring, target, replay = config.exploration, config.target, config.replay
    rate = initial_learning_rate(config, actions)
    constant = Hyperparameters(
        learning_rate=rate,
        epsilon=exploring.start,
        importance_exponent=replay.importance_exponent,
        priority_exponent=replay.priority_exponent,
        discount=config.discount,
        log_retention=log_retention(target.polyak),
        clip_norm=config.optimizer.clip_norm,
        restart=exploring.exploring_starts,
        reward_scale=target.reward_scale,
    )
    speed = np.float32(1) / np.float32(config.schedule_length)
    schedules = Schedules(
        learning_rate=Span(*map(to_float32, Span.of(rate, rate * config.optimizer.final_fraction))),
        epsilon=Span(*map(to_float32, Span.of(exploring.start, exploring.end))),
        importance_exponent=Span(*map(to_float32, Span.of(replay.importance_exponent, 1.0))),
        speed=speed,
        epsilon_speed=speed * (np.float32(1) / np.float32(exploring.fraction)),
        record=np.int32(updates_per_record(config)),
    )
    return Numbers(Hyperparameters(*map(to_float32, constant)), schedules)


def log_retention(polyak: float) -> float | None:
    """Return log(1 − τ), for the share of the target network that a soft update retains; None if it is hard, τ = 1."""
    return None if polyak == 1 else math.log(1 - polyak)


def to_float32(number: float | None) -> np.float32 | None:
    """Return a number as float32."""
    return None if number is None else np.float32(number)


def hyperparameters_at(config: TrainConfig, numbers: Numbers, updates: Any) -> Hyperparameters:
    """Return the numbers after `updates` updates; those that schedules change have its shape.

    Args:
        config: the training, for the kinds of its schedules.
        numbers: of the training.
        updates: int32.
    """
    given, updates = numbers.schedules, ops.cast(updates, "float32")
    progress = updates * given.speed
    return numbers.constant._replace(
        learning_rate=anneal(config.optimizer.schedule, given.learning_rate, 1.0, progress),
        epsilon=anneal(config.exploration.schedule, given.epsilon, 1.0, updates * given.epsilon_speed),
        importance_exponent=anneal("linear", given.importance_exponent, 1.0, progress),
    )


def settings_of_program(config: TrainConfig) -> TrainConfig:
    """Return the settings that determine a program, all others reset.

    So trainings that differ only in numbers, seed, environment, workers or evaluations share a program: the table, the
    seed and the numbers are among its arguments.
    """
    defaults = TrainConfig()
    return replace(
        config,
        environment=EnvironmentConfig(),
        seed=0,
        updates=defaults.updates,
        schedule_updates=None,
        discount=defaults.discount,
        evaluation=EvaluationConfig(),
        interaction=replace(config.interaction, workers=None),
        network=replace(config.network, initial_value=0.0),
        optimizer=replace(
            config.optimizer,
            learning_rate=1.0,
            tabular_step=None,
            final_fraction=1.0,
            clip_norm=None if config.optimizer.clip_norm is None else 1.0,
        ),
        exploration=replace(
            config.exploration,
            start=1.0,
            end=1.0,
            fraction=1.0,
            exploring_starts=float(config.exploration.exploring_starts > 0),
        ),
        replay=replace(config.replay, start=0, priority_exponent=1.0, importance_exponent=1.0),
        target=replace(config.target, reward_scale=1.0, polyak=1.0 if config.target.polyak == 1 else 0.5),
    )
