from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.config import merge
from deeptaxi.learning.agent import FitAgent, predict
from deeptaxi.learning.trainer import train
from deeptaxi.metrics import Finished
from deeptaxi.network.build import build_q_network
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import (
    TABLE,
    Literal,
    Traced,
    batch_of,
    everything,
    finished,
    new_learner,
    numbers,
    opened_problem,
    random_batches,
)
from tests.problems import chain

STATES, ACTIONS, DISCOUNT = 5, 3, 0.9
SGD = {
    **TABLE,
    "discount": DISCOUNT,
    "optimizer": {"name": "sgd", "tabular_step": 0.5, "schedule": "constant"},
    "replay": {"batch_size": 2},
    "target": {"polyak": 1.0},
}
OLD = [[1.0, 2.0, 3.0], [0.0, 10.0, 4.0], [0.0] * 3, [0.0] * 3, [0.0] * 3]


def table_of(learner):
    return learner.online.get_weights()[0]


def target_of(learner):
    return learner.target.get_weights()[0]


def test_one_update_moves_the_taken_entries_by_the_tabular_step():
    # γ = 0.9, α = ½. (0, 1): 1 + 0.9·10 = 10, so 2 + ½·(10 − 2) = 6. (1, 2) ends: 2, so 4 + ½·(2 − 4) = 3.
    learner = new_learner(SGD, q_values=OLD)
    batch = batch_of((0, 1, 1.0, 1, False), (1, 2, 2.0, 1, True), discount=DISCOUNT)
    result = learner.update(batch, everything(batch))
    np.testing.assert_allclose(table_of(learner)[:2], [[1, 6, 3], [0, 10, 3]], rtol=1e-6)
    assert not table_of(learner)[2:].any()
    # The loss is averaged over all of A·B = 6 errors, of which the others are 0: (8² + 2²)/6. |td_error|: (8 + 2)/2.
    assert (result.loss, result.td_error) == pytest.approx((68 / 6, 5.0))
    assert result.td_errors.tolist() == pytest.approx([8.0, 2.0])


@pytest.mark.parametrize("cls", [Literal, Traced])
def test_the_weight_of_a_sample_weighs_its_loss_and_its_step(cls):
    # As above, with weights ½ and 0: 2 + ½·½·(10 − 2) = 4, and nothing. The loss is ½·8²/6; the td_errors stay.
    learner = new_learner(merge(SGD, {"replay": {"prioritized": True}}), q_values=OLD, cls=cls)
    batch = batch_of((0, 1, 1.0, 1, False), (1, 2, 2.0, 1, True), discount=DISCOUNT, weights=[0.5, 0.0])
    result = learner.update(batch, everything(batch))
    np.testing.assert_allclose(table_of(learner)[:2], [[1, 4, 3], [0, 10, 4]], rtol=1e-6)
    assert result.loss == pytest.approx(32 / 6)
    assert result.td_errors.tolist() == pytest.approx([8.0, 2.0])


def test_by_double_dqn_the_online_network_chooses_and_the_target_network_rates():
    # In state 1 the online network prefers action 1 and the target network action 2, which it rates 4; action 1 it
    # rates 3. So 1 + 0.9·3 = 3.7 and not 1 + 0.9·4; two samples with a step of ½ go all the way.
    learner = new_learner(merge(SGD, {"target": {"double": True}}), q_values=OLD)
    learner.target.set_weights([np.array([[0.0] * 3, [0.0, 3.0, 4.0], *[[0.0] * 3] * 3], np.float32)])
    batch = batch_of(*[(0, 1, 1.0, 1, False)] * 2, discount=DISCOUNT)
    learner.update(batch, everything(batch))
    assert table_of(learner)[0, 1] == pytest.approx(3.7)


def test_the_huber_loss_is_averaged_in_the_same_way():
    # Beyond an error of 1, Huber's loss is |error| − ½: (7.5 + 1.5)/6.
    learner = new_learner(merge(SGD, {"optimizer": {"learning_rate": 0.1, "loss": "huber"}}), q_values=OLD)
    batch = batch_of((0, 1, 1.0, 1, False), (1, 2, 2.0, 1, True), discount=DISCOUNT)
    assert learner.update(batch, everything(batch))[:2] == pytest.approx((9 / 6, 5.0))


def test_a_transition_that_comes_twice_moves_twice_from_the_same_old_value():
    # ½·(10 − 0) twice: 10. One after the other it would be 5, then 7.5.
    learner = new_learner(SGD)
    batch = batch_of((3, 1, 10.0, 0, True), (3, 1, 10.0, 0, True), discount=DISCOUNT)
    learner.update(batch, everything(batch))
    assert table_of(learner)[3, 1] == pytest.approx(10)


def test_the_next_action_is_one_that_the_mask_allows():
    # Of state 1 only action 2, worth 4, is allowed: 1 + 0.9·4 = 4.6. Two samples with a step of ½ go all the way.
    learner = new_learner(SGD, q_values=OLD)
    batch = batch_of(*[(0, 1, 1.0, 1, False)] * 2, discount=DISCOUNT)
    learner.update(batch, np.array([[False, False, True]] * 2))
    assert table_of(learner)[0, 1] == pytest.approx(4.6)


@pytest.mark.parametrize(
    ("polyak", "period"), [(0.1, 1), (1.0, 1), (1.0, 7), (0.5, 3)], ids=["polyak", "copy", "hard", "polyak-every-3"]
)
def test_the_q_table_network_is_tabular_q_learning(polyak, period):
    size, step = 8, 0.2
    settings = {"optimizer": {"tabular_step": step}, "replay": {"batch_size": size}}
    learner = new_learner(
        merge(merge(SGD, settings), {"target": {"polyak": polyak, "period": period}}),
        q_values=np.random.default_rng(1).normal(size=(STATES, ACTIONS)),
    )
    table, target = table_of(learner).astype(np.float64), target_of(learner).astype(np.float64)
    for update, (batch, allowed) in enumerate(random_batches(200, size, STATES, ACTIONS), start=1):
        learner.update(batch, allowed)

        s, a, r, s_next, discounts, _ = batch
        best_next = np.where(allowed, target[s_next], -np.inf).max(axis=1)
        td_error = r + discounts * best_next - table[s, a]
        np.add.at(table, (s, a), step * td_error)  # adds all samples of an entry
        if update % period == 0:
            target += polyak * (table - target)

    np.testing.assert_allclose(table_of(learner), table, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(target_of(learner), target, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("polyak", [1.0, 0.25])
def test_the_target_network_moves_every_period_updates_and_at_no_other_time(polyak):
    learner = new_learner(merge(SGD, {"target": {"polyak": polyak, "period": 3}, "replay": {"batch_size": 4}}))
    moved = []
    for batch, allowed in random_batches(7, 4):
        before = target_of(learner)
        learner.update(batch, allowed)
        moved.append(not np.array_equal(target_of(learner), before))
        if moved[-1]:
            expected = before + polyak * (table_of(learner) - before)
            np.testing.assert_allclose(target_of(learner), expected, rtol=1e-6, atol=1e-7)
    assert moved == [False, False, True, False, False, True, False]


def test_the_target_network_starts_as_a_copy():
    learner = new_learner({"network": {"hidden": [4]}})
    learner.online.set_weights([weight + 1 for weight in learner.online.get_weights()])
    learner.copy_weights()
    for online, target in zip(learner.online.get_weights(), learner.target.get_weights(), strict=True):
        np.testing.assert_array_equal(online, target)


def test_the_learner_acts_by_the_online_network():
    # State 0 prefers action 2, state 1 action 1; where that is masked, action 2. The second row explores: the noise.
    learner = new_learner(TABLE, q_values=OLD)
    noise = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1]], np.float32)
    draws, states = np.array([0.5, 0.2], np.float32), np.array([0, 1], np.int32)
    masked = np.array([[True, True, True], [True, False, True]])
    everywhere = np.ones((2, 3), np.bool_)
    assert learner.act(states, 0.0, draws, noise, everywhere).tolist() == [2, 1]
    assert learner.act(states, 0.0, draws, noise, masked).tolist() == [2, 2]
    assert learner.act(states, 0.3, draws, noise, masked).tolist() == [2, 0]


@pytest.mark.parametrize("settings", [SGD, {"network": {"hidden": [4]}, "replay": {"batch_size": 2}}])
def test_warming_up_changes_nothing(settings):
    cold, warm = new_learner(settings), new_learner(settings)
    before = [numbers(variable).copy() for variable in warm.variables]
    assert warm.compile() > 0
    assert warm.updates == 0
    for variable, value in zip(warm.variables, before, strict=True):
        np.testing.assert_array_equal(numbers(variable), value, err_msg=variable.path)

    for batch, allowed in random_batches(10, 2):
        assert cold.update(batch, allowed)[:2] == warm.update(batch, allowed)[:2]
    for one, other in zip(cold.variables, warm.variables, strict=True):
        np.testing.assert_array_equal(numbers(one), numbers(other), err_msg=one.path)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.4, 0.4, 0.4]),
        ("linear", [0.4, 0.25, 0.1]),
        ("exponential", [0.4, 0.2, 0.1]),
        ("cosine", [0.4, 0.25, 0.1]),
    ],
)
def test_the_learning_rate_follows_its_schedule_to_the_final_fraction(schedule, rates):
    optimizer = {"learning_rate": 0.4, "schedule": schedule, "final_fraction": 0.25}
    learner = new_learner({"updates": 20, "optimizer": optimizer})
    seen = []
    for done in (0, 10, 20):
        learner.optimizer.iterations.assign(done)
        seen.append(float(numbers(learner.optimizer.learning_rate)))
    assert seen == pytest.approx(rates)


def test_the_norm_of_the_whole_gradient_is_clipped():
    # The step of SGD with a rate of 1 is the gradient: of length 0.01, and in the direction of the one without a limit.
    settings = {"network": {"hidden": [4]}, "optimizer": {"name": "sgd", "learning_rate": 1.0, "schedule": "constant"}}
    batch, allowed = next(random_batches(1, 8))
    steps = []
    for clip in ({}, {"clip_norm": 0.01}):
        learner = new_learner(merge(settings, {"optimizer": clip}))
        before = learner.online.get_weights()
        learner.update(batch, allowed)
        pairs = zip(learner.online.get_weights(), before, strict=True)
        steps.append(np.concatenate([(new - old).ravel() for new, old in pairs]))
    free, clipped = steps
    assert np.linalg.norm(free) > 0.02
    np.testing.assert_allclose(clipped, 0.01 * free / np.linalg.norm(free), atol=1e-6)


def test_the_tabular_step_sets_the_learning_rate():
    # lr = α·A·B/2 = ½·3·2/2
    assert float(numbers(new_learner(SGD).optimizer.learning_rate)) == pytest.approx(1.5)


def test_a_minibatch_is_one_step():
    # More samples than fit's default batch size of 32.
    learner = new_learner({"network": {"hidden": [8], "dueling": True}, "replay": {"batch_size": 40}}, cls=FitAgent)
    learner.update(*next(random_batches(1, 40)))
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
