"""Schedules of ε, the learning rate and the importance exponent, as one pure function.

With the progress p ≥ 0 of the training (1 at its end) and x = min(1, p / fraction):

    constant      start
    linear        start + (end − start) · x
    exponential   start · (end / start)ˣ
    cosine        end + (start − end) · ½ · (1 + cos π·x)

The cosine is that of Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), eq. 5,
without restarts.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from keras import ops

from deeptaxi.config import TrainConfig
from deeptaxi.recipe import learning_rate_of, tabular_step


class Span(NamedTuple):
    """The values that a schedule leads from and to; numbers, or arrays without a shape."""

    start: Any
    end: Any
    change: Any  # end − start; kept, as is the ratio: of numbers in float32 it would be rounded twice
    ratio: Any  # end / start; 0 if the start is 0

    @classmethod
    def of(cls, start: float, end: float) -> Span:
        """Return the span of two numbers."""
        return cls(start, end, end - start, end / start if start else 0.0)


def anneal(kind: str, span: Span, fraction: Any, progress: Any) -> Any:
    """Return the value at `progress`: a float for a number, else a float array of the same shape.

    Args:
        kind: ``"constant"``, ``"linear"``, ``"exponential"`` or ``"cosine"``.
        span: value at the start, and from `fraction` on.
        fraction: progress at which the end is reached, above 0.
        progress: p, a number or a float array.
    """
    start, end, change, ratio = span
    plain = isinstance(progress, int | float)
    share = min(1.0, progress / fraction) if plain else ops.minimum(progress / fraction, 1.0)
    if kind == "constant":
        return start + 0.0 * share  # with the shape of `progress`, like the others
    if kind == "linear":
        return start + change * share
    if kind == "exponential":
        return start * ratio**share
    cosine = math.cos(math.pi * share) if plain else ops.cos(math.pi * share)
    return end - change * 0.5 * (1.0 + cosine)


def exploration(config: TrainConfig, progress: Any) -> Any:
    """Return ε at `progress`."""
    e = config.exploration
    return anneal(e.schedule, Span.of(e.start, e.end), e.fraction, progress)


def importance_exponent(start: float, progress: Any) -> Any:
    """Return β of prioritized replay at `progress`, annealed linearly from `start` to 1."""
    return anneal("linear", Span.of(start, 1.0), 1.0, progress)


def initial_learning_rate(config: TrainConfig, actions: int) -> float:
    """Return the learning rate of the first update, derived from the tabular step if that is set."""
    if config.optimizer.tabular_step is not None:
        return learning_rate_of(config.optimizer.tabular_step, actions, config.replay.batch_size)
    return float(config.optimizer.learning_rate or 0.0)


def initial_tabular_step(config: TrainConfig, actions: int) -> float | None:
    """Return α, the tabular step per sample at the first update; None if the update is not tabular.

    An update is tabular if it is plain SGD on the mse loss of a Q-table network.
    """
    step = config.optimizer
    plain_sgd = (step.name, step.loss, step.clip_norm) == ("sgd", "mse", None) and not step.options
    if config.network.kind != "q-table" or not plain_sgd:
        return None
    return tabular_step(initial_learning_rate(config, actions), actions, config.replay.batch_size)


def learning_rate(config: TrainConfig, actions: int, progress: Any) -> Any:
    """Return the learning rate at `progress`."""
    first, o = initial_learning_rate(config, actions), config.optimizer
    return anneal(o.schedule, Span.of(first, first * o.final_fraction), 1.0, progress)
