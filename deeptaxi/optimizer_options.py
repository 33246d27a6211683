"""The options of Keras' optimizers, checked without Keras, before anything is computed or written.

An option is an argument of the optimizer of that name (Keras, "Optimizers"). Keras itself checks few of them: a
negative `clipvalue` does nothing there, and a `rho` above 1 ends in NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeptaxi.errors import UsageError, nearest
from deeptaxi.io.safe_load import is_a
from deeptaxi.schema import Check

DECAY = Check("a number from 0 to below 1", lambda x: 0 <= x < 1)
POSITIVE = Check("a number above 0", lambda x: x > 0)
NOT_NEGATIVE = Check("a number of 0 or more", lambda x: x >= 0)
NOT_POSITIVE = Check("a number of 0 or less", lambda x: x <= 0)
SWITCH = Check("true or false", lambda x: isinstance(x, bool))
TEXT = Check("a text", lambda x: isinstance(x, str) and bool(x))

LARGEST = 3e38  # in float32
CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
COMMON = {"weight_decay": NOT_NEGATIVE, **dict.fromkeys(CLIPPING, POSITIVE), "name": TEXT}
MOMENTS = {"beta_1": DECAY, "beta_2": DECAY, "epsilon": POSITIVE}
OWN: dict[str, dict[str, Check]] = {
    "adadelta": {"rho": DECAY, "epsilon": POSITIVE},
    "adagrad": {"initial_accumulator_value": NOT_NEGATIVE, "epsilon": POSITIVE},
    "adam": {**MOMENTS, "amsgrad": SWITCH},
    "adamax": MOMENTS,
    "adamw": {**MOMENTS, "amsgrad": SWITCH},
    "ftrl": {
        "learning_rate_power": NOT_POSITIVE,
        "initial_accumulator_value": NOT_NEGATIVE,
        "l1_regularization_strength": NOT_NEGATIVE,
        "l2_regularization_strength": NOT_NEGATIVE,
        "l2_shrinkage_regularization_strength": NOT_NEGATIVE,
        "beta": NOT_NEGATIVE,
    },
    "lamb": MOMENTS,
    "lion": {"beta_1": DECAY, "beta_2": DECAY},
    "nadam": MOMENTS,
    "rmsprop": {"rho": DECAY, "momentum": DECAY, "epsilon": POSITIVE, "centered": SWITCH},
    "sgd": {"momentum": DECAY, "nesterov": SWITCH},
}
AVERAGING = "averaging weights is what the target network is for (--polyak)"
REFUSED = {
    "learning_rate": "the learning rate has its own setting, --learning-rate",
    "loss_scale_factor": "loss scaling is for float16, and networks here are float32",
    "use_ema": AVERAGING,
    "ema_momentum": AVERAGING,
    "ema_overwrite_frequency": AVERAGING,
    "gradient_accumulation_steps": "a larger minibatch (--batch-size) does the same",
}


def check_options(optimizer: str, options: Mapping[str, Any]) -> None:
    """Validate the options of an optimizer.

    Args:
        optimizer: its name in lowercase, such as ``"rmsprop"``.
        options: arguments of the Keras optimizer.

    Raises:
        UsageError: an option is refused, unknown, of the wrong type or out of range, or several clip the gradient.
    """
    known = OWN[optimizer] | COMMON
    for name, value in options.items():
        if name in REFUSED:
            raise UsageError(f"options.{name} is refused: {REFUSED[name]}")
        if name not in known:
            raise UsageError(f"options.{name}: optimizer {optimizer} has no such option{nearest(name, known)}")
        check = known[name]
        typed = check in (SWITCH, TEXT) or (is_a(value, int | float) and -LARGEST <= value <= LARGEST)
        if not (typed and check.passes(value)):
            raise UsageError(f"options.{name} = {value!r}: expected {check.description}")
    clipping = [name for name in CLIPPING if name in options]
    if len(clipping) > 1:
        raise UsageError(f"options.{clipping[0]} and options.{clipping[1]} both clip the gradient: leave one out")
