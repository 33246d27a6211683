"""Models and builders of the user's own, as tests train them."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

PACKAGE = "own_models"


def build(states: int, actions: int, width: int = 8) -> keras.Model:
    """State numbers in, Q values out."""
    state = keras.Input((), dtype="int32")
    x = layers.Dense(width, "relu")(layers.Embedding(states, width)(state))
    return keras.Model(state, layers.Dense(actions)(x))


def two_streams(states: int, actions: int) -> keras.Model:
    """A value and advantages."""
    state = keras.Input((), dtype="int32")
    x = layers.Dense(8, "relu")(layers.Embedding(states, 8)(state))
    return keras.Model(state, [layers.Dense(1)(x), layers.Dense(actions)(x)])


def of_factors(factors: tuple[int, ...], states: int, actions: int) -> keras.Model:
    """The parts of an observation, one beside the other."""
    return keras.Sequential([keras.Input((len(factors),)), layers.Dense(8, "relu"), layers.Dense(actions)])


def by_factors(states: int, actions: int, factors: tuple[int, ...]) -> keras.Model:
    return of_factors(factors, states, actions)


def one_hot(states: int, actions: int) -> keras.Model:
    return keras.Sequential([keras.Input((states,)), layers.Dense(8, "relu"), layers.Dense(actions)])


def regularized(states: int, actions: int) -> keras.Model:
    """Layers that compute otherwise while they are fitted."""
    return keras.Sequential(
        [
            keras.Input((states,)),
            layers.Dense(8),
            layers.BatchNormalization(momentum=0.5),
            layers.Dropout(0.25),
            layers.Dense(actions),
        ]
    )


def penalized(states: int, actions: int) -> keras.Model:
    """A penalty on weights, and one on what a layer computes."""
    decay = keras.regularizers.L2(0.1)
    return keras.Sequential(
        [
            keras.Input((states,)),
            layers.Dense(8, kernel_regularizer=decay),
            layers.ActivityRegularization(l2=0.1),
            layers.Dense(actions),
        ]
    )


def normalized(states: int, actions: int) -> keras.Model:
    return keras.Sequential(
        [keras.Input((states,)), layers.Dense(8), layers.BatchNormalization(momentum=0.5), layers.Dense(actions)]
    )


@keras.saving.register_keras_serializable(PACKAGE)
class Subclassed(keras.Model):
    """A model with a call of its own."""

    def __init__(self, states: int, actions: int, width: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = {"states": states, "actions": actions, "width": width}
        self.rows, self.out = layers.Embedding(states, width), layers.Dense(actions)

    def call(self, states: Any) -> Any:
        return self.out(self.rows(states))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.sizes}


@keras.saving.register_keras_serializable(PACKAGE)
class MeanOverBatch(layers.Layer):
    """The head that mixes states: its mean is over all advantages of the minibatch."""

    def call(self, value: Any, advantage: Any) -> Any:
        return value + advantage - ops.mean(advantage, axis=0, keepdims=True)


@keras.saving.register_keras_serializable(PACKAGE)
class Forgetful(keras.Model):
    """A model whose configuration does not have its arguments."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.out = layers.Dense(actions)

    def call(self, x: Any) -> Any:
        return self.out(x)

    def get_config(self) -> dict[str, Any]:
        return {}


class Unregistered(layers.Layer):
    def call(self, x: Any) -> Any:
        return x


def twice(x: Any) -> Any:
    return x * 2


def mixing(states: int, actions: int) -> keras.Model:
    """Its advantages begin at 0, so that at first nothing is seen of the mean."""
    state = keras.Input((), dtype="int32")
    x = layers.Embedding(states, 8)(state)
    return keras.Model(state, MeanOverBatch()(layers.Dense(1)(x), layers.Dense(actions, kernel_initializer="zeros")(x)))


def raises(states: int, actions: int) -> keras.Model:
    raise RuntimeError("no room\nfor it")


def returns_nothing(states: int, actions: int) -> None:
    return None


def of_one(states: int) -> None:
    return None


def needs_width(states: int, actions: int, width: int) -> keras.Model:
    return build(states, actions, width)


model = one_hot(16, 4)
number = 5
