from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.learning.learner import Learner
from deeptaxi.learning.loops.fit import FitLearner, predict
from deeptaxi.learning.training import train
from deeptaxi.network.build import build_q_network, tabulate
from deeptaxi.records import Finished
from tests.learning.helpers import finished, new_learner, opened_problem, random_batches
from tests.problems import chain

# More samples than fit's default batch size of 32: a minibatch must still be one step.
SIZE = 40
DUELING = {"network": {"hidden": [8], "dueling": True}, "replay": {"batch_size": SIZE}, "target": {"polyak": 0.1}}
SGD = {"name": "sgd", "learning_rate": 0.1, "schedule": "constant"}
ADAM = {"name": "adam", "learning_rate": 0.003}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "updates"),
    [
        pytest.param(ADAM, 100, id="adam"),
        pytest.param({**ADAM, "loss": "huber"}, 10, id="adam-huber"),
        pytest.param(SGD, 100, id="sgd"),
        pytest.param({**SGD, "loss": "huber"}, 10, id="sgd-huber"),
        pytest.param({**SGD, "options": {"clipnorm": 0.01}}, 3, id="sgd-clipnorm"),
    ],
)
def test_the_compiled_learner_does_what_predict_and_fit_do(optimizer, updates):
    settings = {**DUELING, "optimizer": optimizer, "updates": updates}
    compiled, fitted = (new_learner(settings, cls=cls) for cls in (Learner, FitLearner))
    for batch, allowed in random_batches(updates, SIZE):
        one, other = (learner.update(batch, allowed) for learner in (compiled, fitted))
        assert tuple(one) == pytest.approx(tuple(other), rel=1e-4)
    for network, oracle in ((compiled.online, fitted.online), (compiled.target, fitted.target)):
        for one, other in zip(network.get_weights(), oracle.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("polyak", "period"), [(1.0, 2), (0.25, 1)], ids=["hard", "polyak"])
def test_the_target_network_moves_as_the_compiled_one_does(polyak, period):
    settings = {**DUELING, "optimizer": SGD, "target": {"polyak": polyak, "period": period}}
    compiled, fitted = (new_learner(settings, cls=cls) for cls in (Learner, FitLearner))
    for batch, allowed in random_batches(3, SIZE):
        compiled.update(batch, allowed)
        fitted.update(batch, allowed)
    for one, other in zip(compiled.target.get_weights(), fitted.target.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_minibatch_is_one_step():
    learner = new_learner(DUELING, cls=FitLearner)
    learner.update(*next(random_batches(1, SIZE)))
    assert int(learner.optimizer.iterations) == 1


def test_predictions_are_the_network_s_q_values():
    network = build_q_network(5, 3, hidden=(4,))
    states = np.array([4, 0, 4], np.int32)
    np.testing.assert_allclose(predict(network, states), tabulate(network)[states], atol=1e-6)


@pytest.mark.slow
def test_both_loops_train_alike(tmp_path):
    networks = []
    for loop in ("gymnasium", "fit"):
        config, environment = opened_problem(chain(), tmp_path, loop=loop, updates=6, replay={"start": 0})
        records, network = finished(train(config, environment))
        assert isinstance(records[-1], Finished)
        assert records[0].loop == loop
        networks.append(tabulate(network))
    assert networks[0].any()
    np.testing.assert_allclose(networks[0], networks[1], atol=1e-5)
