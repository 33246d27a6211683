from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from deeptaxi.config import merge, resolve
from deeptaxi.learning.example import Transition
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.learning.update_trace import batch_of, compare, recipe_gradients, trace_update
from deeptaxi.metrics import to_json
from deeptaxi.network.encodings import NO_PARTS
from deeptaxi.network.own import copy_network, own_network
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import TABLE, Literal, build_pair, new_learner, numbers
from tests.network import own_models

# Two states, two actions; α = 2·½/(2·1) = ½, γ = ½. All numbers are exact in binary.
HAND = {
    **TABLE,
    "discount": 0.5,
    "optimizer": {"name": "sgd", "learning_rate": 0.5, "schedule": "constant"},
    "replay": {"batch_size": 1},
    "target": {"polyak": 1.0},
}
Q = [[1.0, 2.0], [4.0, 8.0]]
STEP = [Transition(0, 0, 1.0, 1, False)]
DUELING = {
    "network": {"hidden": [8], "dueling": True},
    "optimizer": {"name": "sgd", "learning_rate": 0.1, "schedule": "constant"},
    "replay": {"batch_size": 1},
}


def of_hand(steps=STEP, comparing=False, allowed=None, **settings):
    agent = new_learner(merge(HAND, settings), states=2, actions=2, q_values=Q)
    return trace_update(agent, steps, np.ones((2, 2), np.bool_) if allowed is None else np.array(allowed), comparing)


def of_network(settings=None, steps=STEP, comparing=False, target=None):
    agent = new_learner(merge(DUELING, settings or {}), states=5, actions=3)
    if target is not None:
        agent.target.set_weights([weight + target for weight in agent.target.get_weights()])
    return trace_update(agent, steps, np.ones((5, 3), np.bool_), comparing), agent


def test_every_number_of_an_update_can_be_checked_by_hand():
    found = of_hand()
    assert found.q_online.tolist() == [1, 2]
    assert found.q_target.tolist() == [4, 8]
    assert found.choosing_q is None
    # 1 + ½·8 = 5, and 5 − 1 = 4
    td = found.td_target
    assert (td.reward, td.discount, td.best_action, td.bootstrap) == (1, 0.5, 1, 8)
    assert (td.td_target, td.td_error) == (5, 4)
    assert found.targets.tolist() == [5, 2]
    # E = 1/(2·1) · 4²
    assert found.loss.errors.tolist() == [4, 0]
    assert found.loss.outputs.tolist() == [16, 0]
    assert (found.loss.scale, found.loss.loss) == (0.5, 8)
    # −2·4/2
    assert found.gradient.dE_dQ.tolist() == [-4, 0]
    assert found.gradient.dE_dV is None
    assert found.gradient_norm == 4
    # 1 + ½·4 = 3
    (weight,) = found.weights
    assert (weight.shape, weight.rows, weight.entries, weight.largest) == ((2, 2), (0,), 1, 2)
    assert weight.gradient.tolist() == [[-4, 0]]
    assert (weight.before.tolist(), weight.after.tolist()) == ([[1, 2]], [[3, 2]])
    step = found.tabular
    assert (step.alpha, step.before, step.td_error, step.expected, step.after, step.difference) == (0.5, 1, 4, 3, 3, 0)
    assert (found.after.q_values.tolist(), found.after.td_error) == ([3, 2], 2)
    assert (found.after.other_actions, found.after.other_states, found.after.largest_state) == (0, 0, None)


def test_a_termination_leaves_the_reward_alone():
    td = of_hand([Transition(0, 0, 1.0, 1, True)]).td_target
    assert (td.td_target, td.td_error, td.discount, td.best_action, td.bootstrap) == (1, 0, 0, None, None)


def test_a_time_limit_does_not_cut_the_bootstrap():
    assert of_hand([Transition(0, 0, 1.0, 1, False, truncated=True)]).td_target.td_target == 5


def test_the_bootstrap_uses_an_allowed_action():
    # 1 + ½·4 = 3
    td = of_hand(allowed=[[True, True], [True, False]]).td_target
    assert (td.best_action, td.bootstrap, td.td_target) == (0, 4, 3)


def test_the_rewards_of_n_steps_are_discounted():
    # 1 + ½·2 + ¼·4 = 3, and ⅛·2 from state 0: 3.25
    steps = [*STEP, Transition(1, 0, 2.0, 1, False), Transition(1, 1, 4.0, 0, False)]
    td = of_hand(steps, target={"n_step": 3, "n_step_correction": "none"}).td_target
    assert td.rewards == (1, 2, 4)
    assert td.factors == (1, 0.5, 0.25)
    assert (td.reward, td.discount, td.next_state, td.td_target) == (3, 0.125, 0, 3.25)


def test_n_steps_end_before_an_action_that_is_not_greedy():
    # In state 1 action 1 is greedy, 8 to 4: 1 + ½·4, and ¼·8 from state 1, where action 0 is taken next.
    steps = [*STEP, Transition(1, 1, 4.0, 1, False), Transition(1, 0, 2.0, 0, True)]
    found = of_hand(steps, target={"n_step": 3})
    td = found.td_target
    assert (td.rewards, td.factors, td.reward, td.discount) == ((1, 4), (1, 0.5), 3, 0.25)
    assert (td.next_state, td.terminated, td.td_target) == (1, False, 5)
    assert len(found.transitions) == 3
    only_0 = of_hand(steps, target={"n_step": 3}, allowed=[[True, True], [True, False]]).td_target
    assert (only_0.rewards, only_0.td_target) == ((1,), 3)  # among the allowed actions; 1 + ½·4


def test_double_dqn_chooses_with_the_online_network():
    # The online network prefers action 1 in state 1, which the target network rates 3: 1 + ½·3.
    agent = new_learner(merge(HAND, {"target": {"double": True}}), states=2, actions=2, q_values=Q)
    agent.target.set_weights([np.array([[0, 0], [7, 3]], np.float32)])
    found = trace_update(agent, STEP, np.ones((2, 2), np.bool_))
    assert found.choosing_q.tolist() == [4, 8]
    assert (found.td_target.best_action, found.td_target.bootstrap, found.td_target.td_target) == (1, 3, 2.5)


def test_rewards_count_in_units_of_the_reward_scale():
    # ½ + ½·8
    td = of_hand(target={"reward_scale": 2.0}).td_target
    assert (td.rewards, td.td_target) == ((0.5,), 4.5)


def test_the_huber_loss_has_slope_one_beyond_an_error_of_one():
    # |4| − ½ = 3.5, over 2 outputs; no tabular step.
    found = of_hand(optimizer={"loss": "huber"})
    assert found.loss.outputs.tolist() == [3.5, 0]
    assert found.loss.loss == 1.75
    assert found.gradient.dE_dQ.tolist() == [-0.5, 0]
    assert (found.tabular.alpha, found.tabular.expected) == (None, None)


@pytest.mark.parametrize("optimizer", [{}, {"name": "adam", "learning_rate": 0.01}, {"clip_norm": 0.01}])
@pytest.mark.parametrize("target", [{}, {"double": True}])
def test_the_traced_step_is_that_of_a_real_update(optimizer, target):
    settings = {"optimizer": optimizer, "target": target}
    found, agent = of_network(settings)
    twin = new_learner(merge(DUELING, settings), states=5, actions=3)
    result = twin.update(batch_of(STEP, twin.config), np.ones((1, 3), np.bool_))
    assert found.loss.loss == pytest.approx(result.loss, rel=1e-6)
    assert abs(found.td_target.td_error) == pytest.approx(result.td_error, rel=1e-6)
    for made, expected in zip(agent.optimizer.variables, twin.optimizer.variables, strict=True):
        np.testing.assert_allclose(numbers(made), numbers(expected), rtol=1e-6)
    for made, expected in zip(agent.online.get_weights(), twin.online.get_weights(), strict=True):
        np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_the_traced_step_is_that_of_keras_fit_on_the_overwritten_targets():
    found, agent = of_network()
    assert found.learning_rate == 0.1
    online = build_pair(5, 3, agent.config)[0]
    online.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    online.fit(np.array([found.state]), found.targets[None], batch_size=1, epochs=1, shuffle=False, verbose=0)
    for made, fitted in zip(agent.online.get_weights(), online.get_weights(), strict=True):
        np.testing.assert_allclose(made, fitted, atol=1e-7)


def test_losses_of_layers_belong_to_the_traced_step_and_to_the_masked_one():
    config = resolve(merge(HAND, {"optimizer": {"learning_rate": 0.1}}))
    network = own_network(own_models.penalized(5, 3), (5, 3), NO_PARTS, "it")
    agent, twin = (Literal(copy_network(network), copy_network(network), config) for _ in range(2))
    found = trace_update(agent, STEP, np.ones((5, 3), np.bool_), comparing=True)
    result = twin.update(batch_of(STEP, config), np.ones((1, 3), np.bool_))
    for made, expected in zip(agent.online.get_weights(), twin.online.get_weights(), strict=True):
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-7)
    assert found.loss.loss == pytest.approx(result.loss, rel=1e-5)
    assert found.comparison.gradient_difference <= 1e-6


def test_one_sample_of_a_minibatch_without_other_errors_moves_the_weights_by_the_traced_step():
    # Three samples end, and are worth what the network predicts: their errors are zero.
    found, agent = of_network({"replay": {"batch_size": 4}})
    twin = new_learner(merge(DUELING, {"replay": {"batch_size": 4}}), states=5, actions=3)
    one, q_values = batch_of(STEP, twin.config), tabulate(twin.online)
    batch = Batch(
        np.array([0, 1, 2, 3], np.int32),
        np.array([0, 1, 2, 0], np.int32),
        np.array([one.rewards[0], q_values[1, 1], q_values[2, 2], q_values[3, 0]]),
        np.array([1, 0, 0, 0], np.int32),
        np.array([one.discounts[0], 0, 0, 0], np.float32),
        np.ones(4, np.float32),
    )
    assert found.loss.loss == pytest.approx(twin.update(batch, np.ones((4, 3), np.bool_)).loss, rel=1e-5)
    assert found.loss.scale == 1 / 12
    for made, expected in zip(agent.online.get_weights(), twin.online.get_weights(), strict=True):
        np.testing.assert_allclose(made, expected, atol=1e-7)


def test_the_gradients_of_the_streams_are_those_of_their_biases():
    found, _ = of_network(target=0.5)
    slopes = {weight.name: weight.gradient for weight in found.weights}
    np.testing.assert_allclose(slopes["advantage/bias"], found.gradient.dE_dA_nested, rtol=1e-5)
    np.testing.assert_allclose(slopes["advantage/bias"], found.gradient.dE_dA_shared, rtol=1e-5)
    np.testing.assert_allclose(slopes["value/bias"], [found.gradient.dE_dV], rtol=1e-5)
    assert abs(found.gradient.dE_dV) > 0.1


@pytest.mark.parametrize("aggregation", ["max", "none"])
def test_the_other_aggregations_have_no_shared_sum(aggregation):
    found, _ = of_network({"network": {"aggregation": aggregation}})
    slopes = {weight.name: weight.gradient for weight in found.weights}
    assert found.gradient.dE_dA_shared is None
    bias = np.zeros(3)
    bias[[*next(weight.rows for weight in found.weights if weight.name == "advantage/bias")]] = slopes["advantage/bias"]
    np.testing.assert_allclose(bias, found.gradient.dE_dA_nested, rtol=1e-5, atol=1e-7)


def test_other_predictions_move_where_weights_are_shared():
    found, _ = of_network(target=0.5)
    assert (found.after.other_actions, found.after.other_states) == (2, 4)
    assert found.after.largest_elsewhere > 0
    assert found.after.largest_state in {1, 2, 3, 4}
    first = found.weights[0]
    assert (first.name, first.rows) == ("hidden_0/kernel", (0,))


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": {"name": "adam", "loss": "huber"}}, {"network": {"hidden": []}}]
)
def test_the_masked_gradient_is_that_of_the_recipe(settings):
    found = of_network(settings, comparing=True, target=0.5)[0].comparison
    assert found.overwrite_loss == pytest.approx(found.masked_loss, rel=1e-6)
    assert found.largest_gradient > 0.01
    assert found.largest_step > 1e-4
    assert found.gradient_difference <= 1e-6
    assert found.weight_difference <= 1e-6


def test_without_the_copied_predictions_the_gradients_differ():
    # Zeros for the other outputs, in place of the network's own predictions: errors, and gradients, of their own.
    agent = new_learner(DUELING, states=5, actions=3)
    batch = batch_of(STEP, agent.config)
    targets = np.array([[1.0, 0.0, 0.0]], np.float32)
    copy = copy_network(agent.online)
    loss, slopes = recipe_gradients(agent.online, agent.config, batch, targets)
    recipe = (float(loss), [numbers(slope) for slope in slopes])
    assert compare(copy, agent.config, batch, targets, recipe, agent.online.get_weights()).gradient_difference > 0.01


def test_a_trace_survives_json_in_full_precision():
    found = of_network(comparing=True)[0]
    read = json.loads(to_json(found.to_dict()))
    assert read["q_online"] == found.q_online.tolist()
    assert read["weights"][0]["before"] == found.weights[0].before.tolist()
    assert read["gradient"]["dE_dA_shared"] == found.gradient.dE_dA_shared.tolist()
    assert read["comparison"]["weight_difference"] == found.comparison.weight_difference
