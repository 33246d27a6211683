"""Updates of any Keras model as pure functions, against the same by Keras' own methods."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from deeptaxi.backend.program import Program
from deeptaxi.config import merge, resolve
from deeptaxi.layers import Dueling
from deeptaxi.learning.agent import DQNAgent
from deeptaxi.learning.compiled.hyperparameters import numbers_of
from deeptaxi.learning.compiled.model_update import ModelUpdate
from deeptaxi.learning.schedules import learning_rate
from deeptaxi.network.own import may_differ_in_training
from tests.learning.helpers import numbers, random_batches

STATES, ACTIONS, SIZE = 6, 3, 16
SETTINGS = {
    "updates": 30,
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "replay": {"batch_size": SIZE},
    "target": {"polyak": 0.1},
}


def model(*between, seed=1):
    """Return a model with an embedding, these layers, and a dueling head."""
    state = keras.Input((), dtype="int32")
    x = keras.layers.Embedding(STATES, 8)(state)
    for layer in (*between, keras.layers.Dense(8, "relu")):
        x = layer(x)
    value, advantage = keras.layers.Dense(1)(x), keras.layers.Dense(ACTIONS)(x)
    made = keras.Model(state, Dueling()([value, advantage]))
    rng = np.random.default_rng(seed)
    for variable in made.trainable_variables:
        variable.assign(rng.normal(scale=0.5, size=variable.shape))
    return made


class Subclassed(keras.Model):
    """A table with a bias."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table, self.out = keras.layers.Embedding(STATES, 4), keras.layers.Dense(ACTIONS)

    def call(self, states, training=False):
        return self.out(self.table(states))


def numbers_at(config, number):
    """Return the numbers of an update."""
    rate = learning_rate(config, ACTIONS, number / config.updates)
    return numbers_of(config, ACTIONS).constant._replace(learning_rate=np.float32(rate))


def updated(network, settings, count=30, weighted=False):
    """Make updates by the pure function; return the losses, and the network with its new variables."""
    config = resolve(merge(SETTINGS, settings))
    rule = ModelUpdate(config, network, STATES)
    report = (np.zeros(rule.loss_parts, np.float32), np.zeros(SIZE, np.float32))

    def update(state, batch, allowed, now, number):
        return rule.update(state[0], batch, allowed, now, number)

    program = Program({"update": update}, (rule.begin(network), *report))
    losses = []
    for number, (batch, allowed) in enumerate(random_batches(count, SIZE, STATES, ACTIONS, weighted=weighted)):
        table = np.ones((STATES, ACTIONS), np.bool_)
        table[batch.next_states] = allowed
        program("update", *program.arguments((batch, table, numbers_at(config, number), np.int32(number))))
        losses.append(float(numbers(program.state[1]).sum()))
    rule.assign(rule.online(program.state[0]), network)
    return losses, network


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": {"loss": "huber", "clip_norm": 0.1}, "target": {"double": True, "polyak": 1.0, "period": 3}},
    ],
)
def test_updates_are_those_of_keras(settings):
    config = resolve(merge(SETTINGS, settings))
    agent = DQNAgent(model(), model(), config, environments=2)
    expected = []
    for batch, _ in random_batches(30, SIZE, STATES, ACTIONS, weighted=True):
        table = np.ones((STATES, ACTIONS), np.bool_)
        expected.append(agent.update(batch, table[batch.next_states]).loss)
    found, network = [], model()
    rule = ModelUpdate(config, network, STATES)
    program = Program(
        {"update": lambda state, *rest: rule.update(state[0], *rest)},
        (rule.begin(network), np.zeros(rule.loss_parts, np.float32), np.zeros(SIZE, np.float32)),
    )
    for number, (batch, _) in enumerate(random_batches(30, SIZE, STATES, ACTIONS, weighted=True)):
        program("update", *program.arguments((batch, None, numbers_at(config, number), np.int32(number))))
        found.append(float(numbers(program.state[1]).sum()))
    rule.assign(rule.online(program.state[0]), network)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    for one, other in zip(network.get_weights(), agent.online.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_averages_of_batch_normalization_follow_the_minibatches():
    losses, network = updated(model(keras.layers.BatchNormalization()), {})
    mean, variance = (variable for variable in network.non_trainable_variables if "moving" in variable.path)
    assert np.isfinite(losses).all()
    assert np.abs(numbers(mean)).max() > 1e-3
    assert np.abs(numbers(variance) - 1).max() > 1e-3


def test_dropout_acts_in_training_alone():
    # With everything dropped in training, all errors but those of the bias of the head come from dropout: the
    # predictions that are copied are still those of inference, so that the other actions have errors too.
    network = model(keras.layers.Dropout(0.5, seed=3))
    before = numbers(network(np.arange(STATES)))
    losses, after = updated(network, {"optimizer": {"learning_rate": 1e-12}}, count=2)
    np.testing.assert_allclose(numbers(after(np.arange(STATES))), before, atol=1e-6)
    assert losses[0] > 0


def test_whether_training_makes_a_difference_is_read_from_the_layers():
    assert not may_differ_in_training(model())
    assert may_differ_in_training(model(keras.layers.Dropout(0.5)))
    assert may_differ_in_training(model(keras.layers.BatchNormalization()))
    subclassed = Subclassed()
    subclassed(np.zeros(1, np.int32))
    assert may_differ_in_training(subclassed)
    before = subclassed.get_weights()
    losses, _ = updated(subclassed, {})
    assert np.isfinite(losses).all()
    assert all((one != other).any() for one, other in zip(subclassed.get_weights(), before, strict=True))
