"""SGD and Adam as pure functions, dense and row-sparse.

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
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from keras import ops

from deeptaxi.learning.resolve import OPTIMIZER_OPTIONS

Arrays = tuple[Any, ...]


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
