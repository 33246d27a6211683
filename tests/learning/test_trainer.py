from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from deeptaxi.config import merge, resolve
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation import exact
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.callbacks import stop_when
from deeptaxi.learning.evaluator import Evaluator
from deeptaxi.learning.trainer import train
from deeptaxi.mdp import planning
from deeptaxi.metrics import Evaluated, Finished, Progress, Snapshot, Started
from deeptaxi.network.build import build_q_network, sizes, weights_digest
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import SMALL, finished, of_kind, opened_problem
from tests.problems import build, chain, opened, surely

QUICK = {"updates": 20, "evaluation": {"every": 10}, "replay": {"batch_size": 4, "start": 0}}


def verdict_of(network, config, environment, mask=None):
    evaluation = config.evaluation
    reference = exact.reference(
        environment.table, environment.horizon, evaluation.objective_discount, config.discount, mask
    )
    return exact.evaluate_greedy(reference, tabulate(network))


@pytest.fixture
def quick(tmp_path):
    """Open a chain of three states for a training of a few updates."""
    return lambda **settings: opened_problem(chain(), tmp_path, **merge(QUICK, settings))


def test_the_seed_alone_decides_the_weights(quick):
    digests = [finished(train(*quick(seed=seed)))[0][-1].weights_digest for seed in (3, 3, 4)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_the_seed_decides_the_initial_weights_too(quick):
    standstill = {"updates": 1, "network": {"hidden": [4]}, "optimizer": {"learning_rate": 1e-30}}
    one, other = (finished(train(*quick(seed=seed, **standstill)))[1].get_weights() for seed in (3, 4))
    assert not np.array_equal(one[0], other[0])


def test_a_training_on_a_table_tells_its_story_in_order(quick):
    config, environment = quick(seed=2)
    records, network = finished(train(config, environment))

    assert isinstance(records[0], Started)
    assert isinstance(records[-1], Finished)
    assert {type(record) for record in records[1:-1]} == {Progress, Evaluated, Snapshot}
    told = [record.update for record in records[1:-1]]
    assert told == sorted(told)
    assert [record.update for record in of_kind(records, Evaluated)] == [10, 20]
    assert [record.update for record in of_kind(records, Snapshot)] == [10, 20]
    assert [record.update for record in of_kind(records, Progress)] == list(range(1, 21))

    first, last = records[0], records[-1]
    assert (first.environment, first.states, first.actions) == (config.environment.id, 3, 2)
    assert (first.network, first.loop, first.seed, first.updates) == ("q-table", "gymnasium", 2, 20)
    assert (last.stopped, last.updates, last.environment_steps) == ("updates", 20, 20 * 4)
    assert last.weights_digest == weights_digest(network)
    assert last.exact_unavailable is None
    assert sizes(network) == (3, 2)


def test_three_optimal_evaluations_in_a_row_end_the_training(tmp_path):
    config, environment = opened_problem(build([[surely(0, 1, True)]]), tmp_path, **merge(QUICK, {"updates": 100}))
    records, _ = finished(train(config, environment))
    assert [record.optimal for record in of_kind(records, Evaluated)] == [True] * 3
    assert (records[-1].stopped, records[-1].updates) == ("optimal", 30)


def test_without_early_stop_the_training_goes_on(tmp_path):
    settings = merge(QUICK, {"updates": 100, "evaluation": {"early_stop": False}})
    config, environment = opened_problem(build([[surely(0, 1, True)]]), tmp_path, **settings)
    records, _ = finished(train(config, environment))
    assert [record.optimal for record in of_kind(records, Evaluated)] == [True] * 10
    assert (records[-1].stopped, records[-1].updates) == ("updates", 100)


@pytest.fixture
def evaluated(tmp_path):
    """An evaluator of a Q table, where action 0 ends with 5 and action 1 with 1."""
    config, environment = opened_problem(build([[surely(0, 5, True), surely(0, 1, True)]]), tmp_path)
    online = build_q_network(1, 2)
    evaluator = Evaluator(
        config, environment, SimpleNamespace(network=online), ActionMaskTable(environment, active=False)
    )

    def look(update, q_values):
        online.set_weights([np.array([q_values])])
        (evaluation,) = evaluator(update)
        return evaluation

    return evaluator, look


def test_only_optimal_evaluations_in_a_row_are_counted(evaluated):
    evaluator, look = evaluated
    counts = []
    for update, q_values in enumerate([(5, 1), (6, 1), (1, 5), (5, 1), (5, 1)]):
        look(update, q_values)
        counts.append(evaluator.in_a_row)
    assert counts == [1, 2, 0, 1, 2]


def test_an_evaluation_says_how_far_the_policy_is_from_the_optimum(evaluated):
    _, look = evaluated
    good, bad = look(10, (7, 1)), look(20, (4, 8))
    assert (good.update, good.optimal, good.value, good.value_gap, good.gap) == (10, True, 5, 0, 0)
    assert (bad.update, bad.optimal, bad.value, bad.value_gap, bad.gap) == (20, False, 1, 4, 4)
    assert (good.start_states, good.optimal_start_states, bad.optimal_start_states) == (1, 1, 0)
    assert (good.q_error_max, bad.q_error_max) == (2, 7)  # 7 − 5, and 8 − 1


def test_a_policy_is_evaluated_once_however_its_q_values_move(evaluated, monkeypatch):
    evaluator, look = evaluated
    policies = []
    plain = planning.evaluate_policy
    monkeypatch.setattr(planning, "evaluate_policy", lambda *args: policies.append(args[1].tolist()) or plain(*args))
    errors = [look(update, q_values).q_error_max for update, q_values in enumerate([(7, 1), (9, 1), (1, 5), (4, 1)])]
    assert policies[-3:] == [[0], [1], [0]]  # before them, those of the reference
    assert errors == [2, 4, 4, 1]
    assert [0] not in policies[:-3]
    before = len(policies)
    assert evaluator.best()[1].q_error.max == 1
    assert len(policies) == before


def test_the_best_weights_are_kept_and_of_equals_the_later(evaluated):
    evaluator, look = evaluated
    for update, q_values in enumerate([(1, 5), (5, 1), (6, 2), (2, 6)]):
        look(update, q_values)
    network, verdict = evaluator.best()
    assert evaluator.best_update == 2
    assert tabulate(network.model).tolist() == [[6, 2]]
    assert verdict.optimal


@pytest.mark.parametrize("network", [{}, {"hidden": [4], "dueling": True}], ids=["q-table", "dueling"])
def test_what_is_evaluated_and_kept_is_in_full_whatever_the_reward_scale(network, tmp_path):
    # Action 0 ends with 50 and action 1 with −30; learned in units of 16.
    table = build([[surely(0, 50, True), surely(0, -30, True)]])
    settings = {"network": network, "optimizer": {"name": "sgd", "learning_rate": 1.0, "tabular_step": None}}
    config, environment = opened_problem(
        table, tmp_path, updates=200, target={"reward_scale": 16.0}, evaluation={"early_stop": False}, **settings
    )
    records, trained = finished(train(config, environment))
    np.testing.assert_allclose(tabulate(trained), [[50, -30]], rtol=1e-3)
    assert of_kind(records, Evaluated)[-1].q_error_max < 0.1
    assert records[-1].exact == verdict_of(trained, config, environment).to_dict()
    assert records[-1].weights_digest == weights_digest(trained)
    returns = [record.mean_return for record in of_kind(records, Progress) if record.episodes == 4]
    assert set(returns) <= {-30, -10, 10, 30, 50}  # means of four, in full


def test_asking_for_the_best_twice_gives_the_same(tmp_path):
    config, environment = opened_problem(
        build([[surely(0, 5, True), surely(0, 1, True)]]), tmp_path, target={"reward_scale": 2.0}
    )
    online = build_q_network(1, 2)
    online.set_weights([np.array([[3.0, 1.0]])])
    evaluator = Evaluator(
        config, environment, SimpleNamespace(network=online), ActionMaskTable(environment, active=False)
    )
    assert [tabulate(evaluator.best()[0].model).tolist() for _ in range(2)] == [[[6, 2]]] * 2
    assert tabulate(online).tolist() == [[3, 1]]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"target": {"double": True}}, id="double"),
        pytest.param({"target": {"n_step": 3}}, id="n-step"),
        pytest.param({"replay": {"prioritized": True}}, id="prioritized"),
        pytest.param({"replay": {"prioritized": True}, "target": {"n_step": 2, "double": True}}, id="together"),
        pytest.param({"exploration": {"schedule": "exponential", "end": 0.9}}, id="epsilon-exponential"),
        pytest.param({"target": {"reward_scale": 0.5}}, id="reward-scale"),
    ],
)
def test_every_variant_learns_the_chain(settings, tmp_path):
    records, _ = finished(train(*opened_problem(chain(), tmp_path, **settings)))
    assert records[-1].exact["optimal"]


@pytest.mark.slow
def test_the_seed_alone_decides_the_weights_of_the_variants_too(quick):
    settings = {"replay": {"prioritized": True}, "target": {"n_step": 2, "double": True}}
    one, other = (finished(train(*quick(**settings)))[0][-1].weights_digest for _ in range(2))
    assert one == other


def test_the_network_that_is_returned_is_the_one_with_the_final_verdict(tmp_path):
    # Action 0 earns 5 and ends; action 1 goes where each step earns 1 forever. By the objective's discount of 0.5 the
    # latter is worth 0.5·2 = 1, by the training's 0.99 it is worth 99: but that takes long to learn. So the policy is
    # optimal at first and gets worse.
    forever = build([[surely(0, 5, True), surely(1, 0)], [surely(1, 1), surely(1, 1)]], time_limit=10)
    evaluation = {"every": 20, "early_stop": False, "objective_discount": 0.5}
    config, environment = opened_problem(forever, tmp_path, discount=0.99, evaluation=evaluation)
    records, network = finished(train(config, environment))

    evaluations, last = of_kind(records, Evaluated), records[-1]
    assert evaluations[0].optimal
    assert not evaluations[-1].optimal
    assert last.best_update == max(evaluation.update for evaluation in evaluations if evaluation.optimal)
    assert last.exact["optimal"]
    assert last.exact == verdict_of(network, config, environment).to_dict()
    assert last.weights_digest == weights_digest(network)


def test_a_training_that_is_told_to_stop_returns_what_it_has(quick):
    asked = []
    config, environment = quick()
    records, network = finished(train(config, environment, [stop_when(lambda: asked.append(True) or len(asked) == 3)]))
    assert (records[-1].stopped, records[-1].updates, records[-1].best_update) == ("interrupted", 3, 3)
    assert [record.update for record in of_kind(records, Evaluated)] == [3]
    assert records[-1].exact == verdict_of(network, config, environment).to_dict()


BLACKJACK = {"environment": {"id": "Blackjack-v1"}}


def test_without_a_table_the_last_weights_are_kept_and_the_reason_is_told():
    config = resolve(merge(merge(SMALL, QUICK), BLACKJACK))
    records, network = finished(train(config, opened("Blackjack-v1")))
    assert not of_kind(records, Evaluated)
    last = records[-1]
    assert (last.stopped, last.updates, last.best_update) == ("updates", 20, 20)
    assert last.exact is None
    assert last.exact_unavailable == "the environment has no transition table (env.unwrapped.P)"
    assert last.weights_digest == weights_digest(network)
    assert tabulate(network).any()


DIVERGING = {"optimizer": {"name": "sgd", "learning_rate": 1e30, "schedule": "constant"}}


def test_a_training_that_diverges_is_a_failure_that_says_so(quick):
    with pytest.raises(DeepTaxiError, match="the training diverged"):
        finished(train(*quick(**DIVERGING, evaluation={"every": 20})))


def test_a_loss_that_is_infinite_where_a_piece_ends_warns_of_nothing(quick):
    # Reports are of two updates, and pieces of 1, 10 and 89: the second ends within a report, of infinite squares.
    slowly = {"optimizer": {"name": "sgd", "learning_rate": 1e7, "schedule": "constant"}}
    with pytest.raises(DeepTaxiError, match="the training diverged"):
        finished(train(*quick(**slowly, loop="compiled", updates=1_000, evaluation={"every": 100})))


def test_a_training_that_diverges_without_a_table_is_a_failure_too():
    config = resolve(merge(merge(merge(SMALL, QUICK), DIVERGING), BLACKJACK))
    with pytest.raises(DeepTaxiError, match="the training diverged before update 10: train with a lower"):
        finished(train(config, opened("Blackjack-v1")))


def test_the_action_mask_stays_with_the_network(tmp_path):
    # Action 1 would be best, but may not be taken; the mask is the agent's, and the problem's too.
    mask = np.array([[True, False, True], [False, True, True]])
    rows = [surely(1, 0), surely(1, 9), surely(1, 1)]
    table = build([rows, [surely(0, 1, True)] * 3], action_mask=mask)
    settings = merge(QUICK, {"exploration": {"action_mask": True}})
    config, environment = opened_problem(table, tmp_path, **settings)
    records, network = finished(train(config, environment))
    np.testing.assert_array_equal(np.isfinite(tabulate(network)), mask)
    assert records[-1].exact == verdict_of(network, config, environment, mask).to_dict()
    assert records[-1].weights_digest == weights_digest(network)


def test_a_mask_that_the_environment_does_not_give_is_refused(quick):
    with pytest.raises(UsageError, match="--action-mask"):
        finished(train(*quick(exploration={"action_mask": True})))


@pytest.mark.slow
def test_the_q_table_network_solves_taxi():
    config = resolve({"environment": {"id": "Taxi-v4"}, "network": {"hidden": [], "dueling": False}})
    records, network = finished(train(config, opened("Taxi-v4")))
    verdict = records[-1].exact
    assert records[-1].stopped == "optimal"
    assert (verdict["gap"], verdict["value_gap"]) == (0, 0)
    assert (verdict["optimal_start_states"], verdict["start_states"]) == (300, 300)
    assert verdict["return"] == pytest.approx(7.93)
    assert sizes(network) == (500, 6)
