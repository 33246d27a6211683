"""Options of Keras' optimizers: those that exist, and values that Keras would take and not honor."""

from __future__ import annotations

import inspect
import re

import pytest

from deeptaxi.config import OPTIMIZERS, OptimizerConfig
from deeptaxi.errors import UsageError
from deeptaxi.optimizer_options import COMMON, OWN, REFUSED


def test_they_are_those_of_keras() -> None:
    import keras

    classes = {name.lower(): item for name, item in vars(keras.optimizers).items() if isinstance(item, type)}
    assert OWN.keys() == set(OPTIMIZERS)
    for name, own in OWN.items():
        theirs = inspect.signature(classes[name].__init__).parameters  # type: ignore[misc]
        assert {*own, *COMMON, *REFUSED} == theirs.keys() - {"self", "kwargs"}, name


def test_the_defaults_of_keras_are_allowed() -> None:
    import keras

    classes = {name.lower(): item for name, item in vars(keras.optimizers).items() if isinstance(item, type)}
    for name, own in OWN.items():
        defaults = inspect.signature(classes[name].__init__).parameters  # type: ignore[misc]
        OptimizerConfig(name=name, options={option: defaults[option].default for option in own})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {"beta_1": -0.5}, "options.beta_1 = -0.5: expected a number from 0 to below 1"),
        ("adam", {"beta_2": "x"}, "options.beta_2 = 'x': expected a number from 0 to below 1"),
        ("adam", {"beta_1": True}, "options.beta_1 = True: expected a number from 0 to below 1"),
        ("adam", {"epsilon": 0}, "options.epsilon = 0: expected a number above 0"),
        ("adam", {"epsilon": 10**400}, ": expected a number above 0"),
        ("adam", {"amsgrad": 1}, "options.amsgrad = 1: expected true or false"),
        ("adam", {"momentun": 0.9}, "options.momentun: optimizer adam has no such option"),
        ("rmsprop", {"momentun": 0.9}, "optimizer rmsprop has no such option; did you mean 'momentum'?"),
        ("rmsprop", {"rho": 2.0}, "options.rho = 2.0: expected a number from 0 to below 1"),
        ("rmsprop", {"rho": float("nan")}, "options.rho = nan: expected a number from 0 to below 1"),
        ("rmsprop", {"centered": 3}, "options.centered = 3: expected true or false"),
        ("sgd", {"momentum": 2.0}, "options.momentum = 2.0: expected a number from 0 to below 1"),
        ("sgd", {"nesterov": 0.0}, "options.nesterov = 0.0: expected true or false"),
        ("sgd", {"clipvalue": -1}, "options.clipvalue = -1: expected a number above 0"),
        ("sgd", {"weight_decay": float("inf")}, "options.weight_decay = inf: expected a number of 0 or more"),
        ("sgd", {"clipnorm": 1, "clipvalue": 1}, "options.clipnorm and options.clipvalue both clip the gradient"),
        ("sgd", {"name": 3}, "options.name = 3: expected a text"),
        ("ftrl", {"learning_rate_power": 1}, "options.learning_rate_power = 1: expected a number of 0 or less"),
        ("sgd", {"learning_rate": 0.1}, "options.learning_rate is refused: the learning rate has its own setting"),
        ("sgd", {"loss_scale_factor": 1}, "options.loss_scale_factor is refused: "),
        ("sgd", {"use_ema": True}, "options.use_ema is refused: averaging weights is what the target network is for"),
        ("sgd", {"ema_momentum": 0.9}, "options.ema_momentum is refused: "),
        ("sgd", {"gradient_accumulation_steps": 2}, "is refused: a larger minibatch (--batch-size) does the same"),
    ],
)
def test_what_cannot_be_honored_is_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        OptimizerConfig(name=name, options=options)
    assert "\n" not in str(caught.value)
