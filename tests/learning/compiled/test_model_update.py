"""Updates of any Keras model as pure functions, against the same by Keras' own methods."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from deeptaxi.backend.program import Program
from deeptaxi.config import OPTIMIZERS, merge, resolve
from deeptaxi.layers import Dueling
from deeptaxi.learning.agent import FitAgent
from deeptaxi.learning.compiled.hyperparameters import numbers_of
from deeptaxi.learning.compiled.model_update import ModelUpdate
from deeptaxi.learning.resolve import OPTIMIZER_OPTIONS
from deeptaxi.learning.schedules import learning_rate
from deeptaxi.network.encodings import NO_PARTS
from deeptaxi.network.own import copy_network, may_differ_in_training, own_network
from tests.learning.helpers import Literal, build_network, numbers, random_batches
from tests.network import own_models

STATES, ACTIONS, SIZE = 6, 3, 16
SETTINGS = {
    "updates": 30,
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "replay": {"batch_size": SIZE},
    "target": {"polyak": 0.1},
}
SGD = {"name": "sgd", "learning_rate": 0.1, "schedule": "constant"}


def model(*between, seed=1, first=None):
    """Return a model with an embedding or another first layer, these layers, and a dueling head."""
    state = keras.Input((), dtype="int32")
    x = (first or keras.layers.Embedding(STATES, 8))(state)
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


class Report(NamedTuple):
    """What updates report, and what comes out."""

    losses: list[float]
    td_errors: list[Any]
    online: keras.Model
    target: list[Any] | None = None  # its variables


def updated(network, settings, count=30, weighted=False, states=STATES):
    """Make updates by the pure function."""
    config = resolve(merge(SETTINGS, settings))
    rule = ModelUpdate(config, network, states)
    report = (np.zeros(1, np.float32), np.zeros(SIZE, np.float32))

    def update(state, batch, allowed, now, number):
        return rule.update(state[0], batch, allowed, now, number)

    program = Program({"update": update}, (rule.begin(network), *report))
    losses, errors = [], []
    for number, (batch, table) in enumerate(batches(count, weighted, states)):
        program("update", *program.arguments((batch, table, numbers_at(config, number), np.int32(number))))
        losses.append(float(numbers(program.state[1]).sum()))
        errors.append(np.abs(numbers(program.state[2])))
    agent = program.state[0]
    rule.assign(rule.online(agent), network)
    return Report(losses, errors, network, [numbers(array) for array in (*agent.dense.target, *agent.others[1])])


def batches(count, weighted=False, states=STATES):
    """Yield random minibatches, and the actions allowed in all states."""
    for batch, _ in random_batches(count, SIZE, states, ACTIONS, weighted=weighted):
        table = np.ones((states, ACTIONS), np.bool_)
        table[::2, 1] = False
        yield batch, table


def fitted(network, settings, count=30, weighted=False, cls=Literal, states=STATES):
    """Make the same updates by Keras' own methods."""
    agent = cls(network, copy_network(network), resolve(merge(SETTINGS, settings)))
    results = [agent.update(batch, table[batch.next_states]) for batch, table in batches(count, weighted, states)]
    target = [numbers(v) for v in (*agent.target.trainable_variables, *agent.target.non_trainable_variables)]
    return Report([one.loss for one in results], [one.td_errors for one in results], network, target)


def assert_alike(one, other, atol=1e-5):
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-4)
    np.testing.assert_allclose(one.td_errors, other.td_errors, rtol=1e-3, atol=1e-4)
    for found, expected in zip(one.online.get_weights(), other.online.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, atol=atol)
    for found, expected in zip(one.target, other.target, strict=True):
        np.testing.assert_allclose(found, expected, atol=atol)


HARD = {"double": True, "polyak": 1.0, "period": 3}


@pytest.mark.parametrize("settings", [{"optimizer": SGD}, {"optimizer": {**SGD, "loss": "huber"}, "target": HARD}])
def test_updates_are_those_of_keras(settings):
    # By plain SGD: on TensorFlow, Keras has the gradient of an embedding in rows. Its Adam leaves out rows without one,
    # which have momentum, and the norm is that of rows that are not summed.
    assert_alike(updated(model(), settings, weighted=True), fitted(model(), settings, weighted=True))


@pytest.mark.parametrize("settings", [{}, {"optimizer": {"loss": "huber", "clip_norm": 0.1}, "target": HARD}])
def test_updates_by_adam_are_those_of_keras(settings):
    one, other = (model(first=keras.layers.CategoryEncoding(STATES, output_mode="one_hot")) for _ in range(2))
    assert_alike(updated(one, settings, weighted=True), fitted(other, settings, weighted=True))


OTHERS = [name for name in OPTIMIZERS if name not in OPTIMIZER_OPTIONS]
OPTIONS = [
    *({"name": name, "learning_rate": 0.05, "schedule": "linear"} for name in OTHERS),
    {"name": "sgd", "learning_rate": 0.05, "options": {"weight_decay": 0.01, "momentum": 0.9}},
    {"name": "adam", "learning_rate": 0.05, "options": {"amsgrad": True, "clipnorm": 0.1}},
    {"name": "rmsprop", "options": {"momentum": 0.5, "centered": True}, "clip_norm": 0.1, "loss": "huber"},
]


def check_optimizer(optimizer):
    """Hold updates of a built-in network by an optimizer of Keras to those of `fit`."""
    settings = {"network": {"hidden": [8], "dueling": True}, "updates": 12, "optimizer": optimizer}
    start = [build_network(STATES, ACTIONS, resolve(settings)) for _ in range(2)]
    before = start[0].get_weights()
    found = updated(start[0], settings, 12, weighted=True)
    assert_alike(found, fitted(start[1], settings, 12, weighted=True))
    assert max(np.abs(one - other).max() for one, other in zip(before, start[0].get_weights(), strict=True)) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", OPTIONS, ids=lambda optimizer: "-".join([optimizer["name"], *optimizer.get("options", {})])
)
def test_any_optimizer_of_keras_makes_the_updates_of_fit(optimizer):
    check_optimizer(optimizer)


@pytest.mark.parametrize("target", [{"polyak": 0.25}, {"polyak": 1.0, "period": 2}], ids=["soft", "hard"])
def test_moving_statistics_follow_as_by_fit(target):
    settings = {"optimizer": SGD, "target": target}
    networks = [own_network(own_models.normalized(5, 3), (5, 3), NO_PARTS, "it") for _ in range(2)]
    networks[1].set_weights(networks[0].get_weights())
    found = updated(networks[0], settings, 3, states=5)
    assert_alike(found, fitted(networks[1], settings, 3, cls=FitAgent, states=5))
    moved = [layer for layer in networks[0].layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert np.abs(moved[0].get_weights()[2]).max() > 0


def test_losses_of_layers_are_added_as_by_fit():
    settings = {"optimizer": SGD}
    networks = [own_network(own_models.penalized(5, 3), (5, 3), NO_PARTS, "it") for _ in range(2)]
    networks[1].set_weights(networks[0].get_weights())
    found = updated(networks[0], settings, 3, states=5)
    assert_alike(found, fitted(networks[1], settings, 3, cls=FitAgent, states=5))


def test_random_layers_are_drawn_in_the_fitting_pass_alone():
    network = own_network(own_models.regularized(5, 3), (5, 3), NO_PARTS, "it")
    (seed,) = (v for v in network.variables if "seed" in v.path)
    before = np.array(numbers(seed))
    target = updated(network, {"optimizer": SGD}, 2, states=5).target
    assert numbers(seed)[1] == before[1] + 2  # though the online network answered for the copies as well
    place = [v.path for v in (*network.trainable_variables, *network.non_trainable_variables)].index(seed.path)
    np.testing.assert_array_equal(target[place], before)


def test_averages_of_batch_normalization_follow_the_minibatches():
    losses, _, network, _ = updated(model(keras.layers.BatchNormalization()), {})
    mean, variance = (variable for variable in network.non_trainable_variables if "moving" in variable.path)
    assert np.isfinite(losses).all()
    assert np.abs(numbers(mean)).max() > 1e-3
    assert np.abs(numbers(variance) - 1).max() > 1e-3


def test_dropout_acts_in_training_alone():
    # With everything dropped in training, all errors but those of the bias of the head come from dropout: the
    # predictions that are copied are still those of inference, so that the other actions have errors too.
    network = model(keras.layers.Dropout(0.5, seed=3))
    before = numbers(network(np.arange(STATES)))
    losses, _, after, _ = updated(network, {"optimizer": {"learning_rate": 1e-12}}, count=2)
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
    losses = updated(subclassed, {}).losses
    assert np.isfinite(losses).all()
    assert all((one != other).any() for one, other in zip(subclassed.get_weights(), before, strict=True))
