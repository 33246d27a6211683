"""One update as compiled programs make it, against the literal recipe, which is one with Keras' own methods.

The other backend is held to the same numbers, in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import cache

import keras
import numpy as np
import pytest

from deeptaxi.backend import keras_backend
from deeptaxi.config import merge, resolve
from deeptaxi.learning.agent import FitAgent
from deeptaxi.network import functional
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import Literal, Updates, build_network, random_batches

STATES, ACTIONS, FACTORS, COUNT = 6, 3, (3, 2), 60
SMALL = {
    "updates": COUNT,
    "network": {"hidden": [8], "dueling": True},
    "optimizer": {"name": "adam", "learning_rate": 0.01, "schedule": "cosine"},
    "replay": {"batch_size": 16},
    "target": {"polyak": 0.1},
}
SGD = {"name": "sgd", "learning_rate": 0.2}
ALL = {
    "optimizer": {"loss": "huber", "clip_norm": 0.1, "schedule": "exponential"},
    "target": {"double": True, "polyak": 0.5, "period": 3},
}
MASKED, WEIGHTED, EXPECTED = "masked", "weighted", "expected"  # what else the minibatches have

# Minibatches bootstrap after one step to three, and most hold some (state, action) twice: `random_batches`.
VARIANTS = {
    "plain": {},
    "double": {"target": {"double": True}},
    "clip": {"optimizer": {**SGD, "clip_norm": 0.05}},
    "hard-target-every-7": {"target": {"polyak": 1.0, "period": 7}},
    "polyak-every-3": {"target": {"polyak": 0.3, "period": 3}},
    "q-table-sgd": {"network": {"hidden": [], "dueling": False}, "optimizer": SGD},
    "dueling-table": {"network": {"hidden": []}, "optimizer": SGD},
    "nesterov": {"optimizer": {**SGD, "options": {"momentum": 0.9, "nesterov": True}}},
    "factored": {"network": {"encoding": "factored"}},
    "deep": {"network": {"hidden": [16, 8]}},
    "no-dueling": {"network": {"dueling": False}},
    "max": {"network": {"aggregation": "max"}},
    "none": {"network": {"aggregation": "none"}},
    MASKED: {},
    f"huber-{WEIGHTED}": {"optimizer": {"loss": "huber"}},
    f"all-{MASKED}-{WEIGHTED}": ALL,
    EXPECTED: {},
    f"all-{EXPECTED}-{MASKED}-{WEIGHTED}": ALL,
    f"few-{EXPECTED}-{MASKED}": {"replay": {"batch_size": 2}},
}


def settings_of(name):
    return merge(SMALL, VARIANTS[name])


def factors_of(name):
    return FACTORS if resolve(settings_of(name)).network.encoding == "factored" else None


def batches_of(name, count=COUNT):
    size = resolve(settings_of(name)).replay.batch_size
    outcomes = (2 if size < STATES else 3) if EXPECTED in name else None  # 2 · 2 next states are fewer than all states
    for batch, allowed in random_batches(count, size, STATES, ACTIONS, 0, WEIGHTED in name, outcomes):
        yield batch, allowed if MASKED in name else np.ones_like(allowed)


def start_of(name):
    """Return a network with weights from a seed, the same on every backend."""
    network = build_network(STATES, ACTIONS, resolve(settings_of(name)), factors=factors_of(name))
    rng = np.random.default_rng(5)
    network.set_weights([rng.normal(scale=0.5, size=weight.shape) for weight in network.get_weights()])
    return network


def flat(network):
    return np.concatenate([weight.ravel() for weight in network.get_weights()])


@cache
def compiled(name, count=COUNT, sparse=False):
    """Make the updates of a variant by the compiled function; return what it reports and what comes out."""
    config, network = resolve(settings_of(name)), start_of(name)
    updates = Updates(settings_of(name), STATES, ACTIONS, factors_of(name), sparse)
    updates.start(functional.weights_of(network, config.network))
    losses, errors = [], []
    for batch, allowed in batches_of(name, count):
        # Without masks and weights there are no arrays of them.
        batch = batch if WEIGHTED in name else batch._replace(weights=None)
        loss, td_errors = updates.update(batch, allowed if MASKED in name else None)
        losses.append(loss)
        errors.append(np.abs(td_errors))
    functional.assign(network, config.network, updates.weights())
    return {
        "losses": np.array(losses),
        "td_errors": np.array(errors),
        "weights": flat(network),
        "target": updates.q_values()[1],
    }


def learned_by(cls, name, count=COUNT):
    """Make the updates of a variant by a learner; the same results as `compiled`."""
    learner = cls(start_of(name), start_of(name), resolve(settings_of(name)))
    results = [learner.update(batch, allowed) for batch, allowed in batches_of(name, count)]
    return {
        "losses": np.array([result.loss for result in results]),
        "td_errors": np.array([result.td_errors for result in results]),
        "weights": flat(learner.online),
        "target": tabulate(learner.target),
    }


def assert_alike(one, other, weights=1e-5):
    """Compare what two ways to learn report and become."""
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(one["td_errors"], other["td_errors"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(one["weights"], other["weights"], atol=weights)
    np.testing.assert_allclose(one["target"], other["target"], rtol=1e-5, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_updates_are_those_of_the_literal_recipe(name):
    expected = learned_by(Literal, name)
    assert np.abs(expected["weights"] - flat(start_of(name))).max() > 0.05
    assert_alike(compiled(name), expected)


def test_a_few_updates_are_those_of_predict_and_fit_to_the_letter():
    assert_alike(compiled("plain", 5), learned_by(FitAgent, "plain", 5))


@cache
def plain_updates(double, sparse):
    """Return updates by plain SGD, compiled once."""
    settings = merge(SMALL, {"target": {"double": double, "period": 2}, "optimizer": SGD})
    return settings, Updates(settings, STATES, ACTIONS, sparse=sparse)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "row-sparse"])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("rows", [2, 7], ids=["fewer-than-states", "all-states"])
def test_greedy_actions_are_those_of_the_literal_recipe_in_the_midst_of_a_training(double, sparse, rows):
    settings, updates = plain_updates(double, sparse)
    updates.start(functional.weights_of(start_of("plain"), resolve(settings).network))
    agent = Literal(start_of("plain"), start_of("plain"), resolve(settings))
    for batch, allowed in random_batches(5, 16, STATES, ACTIONS):
        updates.update(batch._replace(weights=None))
        agent.update(batch, np.ones_like(allowed))
    rng = np.random.default_rng(3)
    mask = rng.random((STATES, ACTIONS)) < 0.7
    mask[:, 1] = True
    states = rng.integers(0, STATES, (rows, 2), np.int32)

    def greedy(states, actions, mask):
        return updates.rule.greedy(updates.agent, states, actions, mask, updates.numbers, np.int32(5))

    for action in range(ACTIONS):
        actions = np.full_like(states, action)
        expected = agent.greedy(states, actions, mask[states])
        found = keras.ops.convert_to_numpy(keras_backend.compiled(greedy, [])(states, actions, mask))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["q-table-sgd", "clip"])
def test_row_sparse_and_dense_are_the_same_without_momentum(name):
    # Of six states most minibatches of 16 leave none out, but some do.
    assert any(len(set(batch.states.tolist())) < STATES for batch, _ in batches_of(name))
    assert_alike(compiled(name, sparse=True), compiled(name))


IN_ALL = {"double", "clip", "polyak-every-3", MASKED, f"huber-{WEIGHTED}"}  # parts of one of the other variants
RESULTS = [(name, False) for name in VARIANTS if name not in IN_ALL]
RESULTS += [("plain", True), ("clip", True), ("q-table-sgd", True)]


def check_results(path):
    """Compare the variants on this backend with what another one wrote."""
    written = np.load(path)
    for name, sparse in RESULTS:
        found = compiled(name, sparse=sparse)
        assert_alike(found, {key: written[f"{name}/{sparse}/{key}"] for key in found})


CODE = """
import sys
from deeptaxi.backend import keras_backend
keras_backend.start()
from tests.learning.compiled import test_update_weights
test_update_weights.check_results(sys.argv[1])
print(keras_backend.name(), sys.modules.get("tensorflow"))
"""


@pytest.mark.slow
def test_the_other_backend_learns_the_same(tmp_path):
    if importlib.util.find_spec(name := "jax") is None:
        pytest.skip(f"{name} is not installed")
    assert keras.backend.backend() == "tensorflow"
    path = tmp_path / "results.npz"
    results = {(name, sparse): compiled(name, sparse=sparse) for name, sparse in RESULTS}
    np.savez(path, **{f"{n}/{sparse}/{key}": x for (n, sparse), found in results.items() for key, x in found.items()})
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "jax None", done.stderr
