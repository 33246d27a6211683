from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.config import merge
from deeptaxi.learning.agent import DQNAgent, FitAgent, predict
from deeptaxi.learning.trainer import train
from deeptaxi.metrics import Finished
from deeptaxi.network.build import build_q_network
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import (
    Literal,
    Traced,
    build_pair,
    finished,
    new_learner,
    opened_problem,
    random_batches,
    recipe_loop,
)
from tests.problems import build, chain, surely

# More samples than fit's default batch size of 32: a minibatch must still be one step.
SIZE = 40
DUELING = {"network": {"hidden": [8], "dueling": True}, "replay": {"batch_size": SIZE}, "target": {"polyak": 0.1}}
SGD = {"name": "sgd", "learning_rate": 0.1, "schedule": "constant"}
ADAM = {"name": "adam", "learning_rate": 0.003}


class Recording(DQNAgent):
    """Keeps the minibatches that it learns from."""

    def prepare(self):
        self.recorded = []
        super().prepare()

    def update(self, batch, next_allowed):
        self.recorded.append((batch, next_allowed))
        return super().update(batch, next_allowed)


def assert_alike(compiled, fitted, batches):
    """Make both learners update on the same minibatches; what they report and what they become must be the same."""
    for batch, allowed in batches:
        one, other = (learner.update(batch, allowed) for learner in (compiled, fitted))
        assert one[:2] == pytest.approx(other[:2], rel=1e-4)
        np.testing.assert_allclose(one.td_errors, other.td_errors, rtol=1e-3, atol=1e-4)
    for network, oracle in ((compiled.online, fitted.online), (compiled.target, fitted.target)):
        for one, other in zip(network.get_weights(), oracle.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "target", "updates", "cls"),
    [
        pytest.param(ADAM, {}, 12, FitAgent, id="adam"),
        pytest.param(SGD, {}, 8, Traced, id="sgd"),
        pytest.param({**SGD, "options": {"clipnorm": 0.01}}, {}, 3, Traced, id="sgd-clipnorm"),
        pytest.param(
            {**SGD, "clip_norm": 0.01, "loss": "huber"}, {"double": True}, 8, Traced, id="sgd-clip-huber-double"
        ),
    ],
)
def test_the_compiled_learner_does_what_predict_and_fit_do(optimizer, target, updates, cls):
    # The minibatches bootstrap after one step to three, and from the actions that a mask allows.
    settings = merge({**DUELING, "optimizer": optimizer, "updates": updates}, {"target": target})
    compiled, fitted = (new_learner(settings, cls=one) for one in (DQNAgent, cls))
    assert_alike(compiled, fitted, random_batches(updates, SIZE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "target"),
    [
        pytest.param({**SGD, "loss": "huber"}, {}, id="sgd-huber"),
        pytest.param({**ADAM, "clip_norm": 0.01, "schedule": "exponential"}, {}, id="adam-clip-exponential"),
        pytest.param({**ADAM, "schedule": "linear"}, {"polyak": 1.0, "period": 7}, id="hard-target-linear"),
        pytest.param(ADAM, {"double": True}, id="double"),
        pytest.param({**ADAM, "loss": "huber", "clip_norm": 0.01}, {"double": True}, id="all-at-once"),
    ],
)
def test_the_compiled_learner_weighs_samples_as_train_on_batch_does(optimizer, target):
    settings = merge({**DUELING, "optimizer": optimizer, "updates": 50}, {"target": target})
    compiled, fitted = (new_learner(settings, cls=cls) for cls in (DQNAgent, Literal))
    assert_alike(compiled, fitted, random_batches(50, SIZE, weighted=True))


@pytest.mark.slow
def test_the_compiled_learner_learns_from_n_steps_of_a_replay_memory_as_fit_does(tmp_path):
    # Minibatches of three-step targets as the loop draws them, from episodes that a time limit of four steps cuts.
    table = build([[surely(1, 1), surely(0, 0)], [surely(0, -1), surely(1, 2)]], time_limit=4)
    settings = {"network": DUELING["network"], "optimizer": {**ADAM, "tabular_step": None}, "updates": 12}
    target = {"n_step": 3, "double": True}
    config, environment = opened_problem(table, tmp_path, discount=0.5, target=target, **settings)
    recorder = Recording(*build_pair(2, 2, config), config, environments=4)
    list(recipe_loop(config, environment, recorder).run(config.updates))
    assert {float(x) for batch, _ in recorder.recorded for x in batch.discounts} == {0.5, 0.25, 0.125}
    compiled, fitted = (cls(*build_pair(2, 2, config), config, environments=4) for cls in (DQNAgent, Traced))
    assert_alike(compiled, fitted, recorder.recorded)


@pytest.mark.parametrize(("polyak", "period"), [(1.0, 2), (0.25, 1)], ids=["hard", "polyak"])
def test_the_target_network_moves_as_the_compiled_one_does(polyak, period):
    settings = {**DUELING, "optimizer": SGD, "target": {"polyak": polyak, "period": period}}
    compiled, fitted = (new_learner(settings, cls=cls) for cls in (DQNAgent, Traced))
    for batch, allowed in random_batches(3, SIZE):
        compiled.update(batch, allowed)
        fitted.update(batch, allowed)
    for one, other in zip(compiled.target.get_weights(), fitted.target.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_minibatch_is_one_step():
    learner = new_learner(DUELING, cls=FitAgent)
    learner.update(*next(random_batches(1, SIZE)))
    assert int(learner.optimizer.iterations) == 1


def test_predictions_are_the_network_s_q_values():
    network = build_q_network(5, 3, hidden=(4,))
    states = np.array([4, 0, 4], np.int32)
    np.testing.assert_allclose(predict(network, states), tabulate(network)[states], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
def test_both_loops_train_alike(steps, tmp_path):
    networks = []
    for loop in ("gymnasium", "fit"):
        settings = {"updates": 6, "replay": {"start": 0}, "target": {"n_step": steps}}
        config, environment = opened_problem(chain(), tmp_path, loop=loop, **settings)
        records, network = finished(train(config, environment))
        assert isinstance(records[-1], Finished)
        assert records[0].loop == loop
        networks.append(tabulate(network))
    assert networks[0].any()
    np.testing.assert_allclose(networks[0], networks[1], atol=1e-5)
