"""Optimizers as pure functions: SGD and Adam, dense and row-sparse, and any other one of Keras, dense.

With g the gradient at update n (from 1) and η the learning rate:

    SGD    w ← w − η g                                    momentum μ:  u ← μ u − η g,  w ← w + u
                                                          Nesterov:    w ← w + μ u − η g, with the new u
    Adam   m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²
           w ← w − η √(1 − β₂ⁿ)/(1 − β₁ⁿ) · m/(√v + ε)    (Kingma and Ba, 2015, end of section 2)

as Keras computes them. u, m and v are the *slots* of a weight.

**Row-sparse.** An update changes only the kernel rows of the states in its minibatch, and its cost does not depend on
the number of states. A row last touched after update l is brought up to date when it is touched again: after
k = n − 1 − l updates without gradient, its slots have shrunk by μᵏ, β₁ᵏ or β₂ᵏ. So whenever a row is read, its slots
are those of the dense optimizer. What is omitted is the dense optimizer's residual motion: with momentum, it keeps
moving rows whose gradient is zero. Without momentum (plain SGD) nothing is omitted, and if every update touches every
row, row-sparse and dense are the same.

**Other optimizers**, and options that are not in `resolve.OPTIMIZER_OPTIONS`, are Keras' own: `KerasOptimizer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from keras import ops

from deeptaxi.backend import keras_backend
from deeptaxi.config import OptimizerConfig
from deeptaxi.learning.keras_optimizer import build_optimizer
from deeptaxi.learning.resolve import OPTIMIZER_OPTIONS, has_pure_optimizer

Arrays = tuple[Any, ...]


class DenseOptimizer(Protocol):
    """What changes whole weights."""

    def initial(self, weights: Arrays) -> Any:
        """Return the slots of `weights` before the first update."""

    def apply(self, weights: Arrays, slots: Any, gradients: Sequence[Any], rate: Any, update: Any) -> tuple[Any, Any]:
        """Return weights and slots after update number `update` (from 1), given a gradient for each weight."""


class Optimizer:
    """SGD or Adam, with its options.

    Args:
        name: ``"sgd"`` or ``"adam"``.
        options: arguments of the Keras optimizer of that name, among `OPTIMIZER_OPTIONS`.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self.options = {**OPTIMIZER_OPTIONS[name], **options}
        momentum = (self.options["momentum"],) if name == "sgd" and self.options["momentum"] else ()
        adam = (self.options["beta_1"], self.options["beta_2"]) if name == "adam" else ()
        self.decays: tuple[float, ...] = momentum + adam  # one per slot

    def initial(self, weights: Arrays) -> tuple[Arrays, ...]:
        """Return the slots of `weights` before the first update."""
        return tuple(tuple(np.zeros_like(weight) for _ in self.decays) for weight in weights)

    def apply(
        self, weights: Arrays, slots: tuple[Arrays, ...], gradients: Sequence[Any], rate: Any, update: Any
    ) -> tuple[Arrays, tuple[Arrays, ...]]:
        """Return weights and slots after update number `update` (from 1), given a gradient for each weight."""
        slots = tuple(self.slots_after(old, gradient, rate) for old, gradient in zip(slots, gradients, strict=True))
        each = zip(weights, slots, gradients, strict=True)
        return tuple(weight + self.step(new, gradient, rate, update) for weight, new, gradient in each), slots

    def slots_after(self, slots: Arrays, gradient: Any, rate: Any) -> Arrays:
        """Return the slots after an update with the given gradient."""
        if self.name == "adam":
            parts = ((gradient, self.options["beta_1"]), (ops.square(gradient), self.options["beta_2"]))
            return tuple(slot + (new - slot) * (1 - beta) for slot, (new, beta) in zip(slots, parts, strict=True))
        return tuple(self.options["momentum"] * slot - rate * gradient for slot in slots)

    def step(self, slots: Arrays, gradient: Any, rate: Any, update: Any) -> Any:
        """Return the weight change of update number `update` (from 1); `slots` are those after it."""
        if self.name == "adam":
            n = ops.cast(update, "float32")
            bias = ops.sqrt(1 - power(self.options["beta_2"], n)) / (1 - power(self.options["beta_1"], n))
            return -(slots[0] * (rate * bias) / (ops.sqrt(slots[1]) + self.options["epsilon"]))
        if not slots:
            return -rate * gradient
        return self.options["momentum"] * slots[0] - rate * gradient if self.options["nesterov"] else slots[0]

    def decayed(self, slots: Arrays, idle: Any) -> Arrays:
        """Decay the slots `[B, W]` of rows that have had no gradient for `idle` `[B]` updates."""
        k = ops.expand_dims(ops.cast(idle, "float32"), -1)
        return tuple(slot * power(decay, k) for slot, decay in zip(slots, self.decays, strict=True))


def power(base: float, exponent: Any) -> Any:
    """Return ``base ** exponent`` for a constant base from 0 to 1, computed by `exp`, in a tenth of the time."""
    if base == 0:
        return ops.cast(exponent == 0, "float32")
    return ops.exp(exponent * math.log(base))


class KerasOptimizer:
    """An optimizer of Keras, by its `stateless_apply`; the slots are all of its variables.

    Args:
        config: its name and options.
        variables: the Keras variables that are trained.

    Raises:
        UsageError: the optimizer does not accept the options.
    """

    def __init__(self, config: OptimizerConfig, variables: Sequence[Any]) -> None:
        # The program sets the learning rate, and clips by the global norm: both are arguments of it.
        self._optimizer = build_optimizer(
            replace(config, schedule="constant", clip_norm=None), 1.0, 1, keras_backend.with_stateless_apply
        )
        self._optimizer.build(list(variables))
        self._rate = [variable.name for variable in self._optimizer.variables].index("learning_rate")

    def initial(self, weights: Arrays) -> Arrays:
        """Return the slots before the first update."""
        del weights  # it is built on them
        return tuple(np.array(ops.convert_to_numpy(variable)) for variable in self._optimizer.variables)

    def apply(
        self, weights: Arrays, slots: Arrays, gradients: Sequence[Any], rate: Any, update: Any
    ) -> tuple[Arrays, Arrays]:
        """Return weights and slots after an update, given a gradient for each weight."""
        del update  # it counts by itself
        now = [*slots[: self._rate], rate, *slots[self._rate + 1 :]]
        online, later = self._optimizer.stateless_apply(now, list(gradients), list(weights))
        return tuple(online), tuple(later)


def build_dense_optimizer(config: OptimizerConfig, variables: Sequence[Any]) -> DenseOptimizer:
    """Return the optimizer of a training for variables of Keras: the one of this module if it has its options.

    Raises:
        UsageError: there is no optimizer with these options.
    """
    if has_pure_optimizer(config):
        return Optimizer(config.name, config.options)
    return KerasOptimizer(config, variables)
