"""The Keras optimizer of a configuration, with its learning rate schedule."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from deeptaxi.config import OptimizerConfig
from deeptaxi.errors import UsageError, nearest

REFUSED_OPTIONS = {"learning_rate", "loss_scale_factor", "use_ema", "gradient_accumulation_steps"}
REFUSED_OPTIONS_WHY = (
    "the learning rate has its own setting, loss scaling is for float16, averaging is the target's, and a larger "
    "minibatch accumulates gradients"
)


def build_optimizer(
    config: OptimizerConfig, learning_rate: float, updates: int, variant: Callable[[type], type] | None = None
) -> Any:
    """Build the Keras optimizer with its learning rate schedule over `updates` steps; `variant` may change its class.

    Raises:
        UsageError: the optimizer does not accept the options.
    """
    classes = {name.lower(): item for name, item in vars(keras.optimizers).items() if isinstance(item, type)}
    for name in REFUSED_OPTIONS & config.options.keys():
        raise UsageError(f"optimizer option {name} is refused: {REFUSED_OPTIONS_WHY}")
    check_truths(classes[config.name], config)
    clipping = {} if config.clip_norm is None else {"global_clipnorm": config.clip_norm}
    rate = learning_rate_schedule(config, learning_rate, updates)
    try:
        built = classes[config.name] if variant is None else variant(classes[config.name])
        return built(learning_rate=rate, **clipping, **config.options)
    except (TypeError, ValueError) as error:
        known = inspect.signature(classes[config.name].__init__).parameters  # type: ignore[misc]
        near = next((nearest(key, known) for key in config.options if key not in known), "")
        raise UsageError(
            f"optimizer {config.name} does not take options {dict(config.options)}: {error}{near}"
        ) from None


def check_truths(optimizer: type, config: OptimizerConfig) -> None:
    """Reject numbers for Boolean optimizer options, and vice versa.

    Raises:
        UsageError: an option has the wrong type.
    """
    parameters = inspect.signature(optimizer.__init__).parameters  # type: ignore[misc]
    for name, value in config.options.items():
        default = parameters[name].default if name in parameters else value
        if name != "name" and isinstance(value, bool) != isinstance(default, bool):
            expected = "true or false" if isinstance(default, bool) else "a number"
            raise UsageError(f"[optimizer.options] {name} = {value!r}: expected {expected}")


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
