"""The Keras optimizer of a configuration, with its learning rate schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from deeptaxi.config import OptimizerConfig
from deeptaxi.errors import UsageError


def build_optimizer(
    config: OptimizerConfig, learning_rate: float, updates: int, variant: Callable[[type], type] | None = None
) -> Any:
    """Build the Keras optimizer with its learning rate schedule over `updates` steps; `variant` may change its class.

    Raises:
        UsageError: this version of Keras does not accept the options.
    """
    classes = {name.lower(): item for name, item in vars(keras.optimizers).items() if isinstance(item, type)}
    clipping = {} if config.clip_norm is None else {"global_clipnorm": config.clip_norm}
    rate = learning_rate_schedule(config, learning_rate, updates)
    try:
        built = classes[config.name] if variant is None else variant(classes[config.name])
        return built(learning_rate=rate, **clipping, **config.options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"optimizer {config.name} does not take options {dict(config.options)}: {error}") from None


def learning_rate_schedule(config: OptimizerConfig, start: float, updates: int) -> Any:
    """Return `schedules.anneal` over `updates` steps, from `start` to its final fraction, as a Keras schedule."""
    schedules = keras.optimizers.schedules
    if config.schedule == "linear":
        return schedules.PolynomialDecay(start, updates, start * config.final_fraction)
    if config.schedule == "exponential":
        return Exponential(start, updates, config.final_fraction)
    if config.schedule == "cosine":
        return schedules.CosineDecay(start, updates, config.final_fraction)
    return start


class Exponential(keras.optimizers.schedules.ExponentialDecay):
    """Keras' exponential decay, held at its final value after `decay_steps` like the other schedules."""

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at `step`."""
        return super().__call__(ops.minimum(step, self.decay_steps))
