"""Facts of a configuration before its first update, on a walk whose numbers a person can check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.diagnosis import cures, forecast
from deeptaxi.diagnosis.forecast import FACTS, foresee
from deeptaxi.diagnosis.ideal_training import Training
from deeptaxi.diagnosis.monitor import Monitor
from deeptaxi.diagnosis.run_checks import diagnose
from deeptaxi.metrics import Started
from tests.diagnosis.cases import case_on, config, history, snapshot
from tests.problems import build, chain, surely

STARTED = Started("problem.npz", 3, 2, "dueling", "compiled", 0, 2_000, 0.1, None, 1.0)
TABLE = {"hidden": [], "dueling": False}
SOUND = {"discount": 0.9, "evaluation": {"objective_discount": 0.9}, "updates": 2_000}


def training(table=None, **settings):
    table = chain() if table is None else table
    return Training(config(**{**SOUND, **settings}), table, np.ones(table.expected_reward.shape, bool))


def foreseen(table=None, **settings):
    return list(foresee(training(table, **settings)))


def choices(actions=5):
    """A state for each action, in which that action alone earns 1."""
    rows = [
        [surely((s + 1) % actions, float(a == s), s == actions - 1) for a in range(actions)] for s in range(actions)
    ]
    return build(rows, np.full(actions, 1 / actions))


def pit():
    """Leave for 0.3, or enter a room with 1 and a pit: entering is right unless what follows is random."""
    return build([[surely(1, 0), surely(0, 0.3, True)], [surely(1, 1, True), surely(1, -3, True)]], [1.0, 0.0])


@pytest.mark.parametrize("network", [{}, TABLE])
def test_a_sound_training_has_no_such_fact(network):
    assert foreseen(network=network) == []
    assert foreseen(choices(), network=network) == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("initial-value-off", {"network": {"initial_value": 30.0}}),  # at most 1 can be earned
        ("initial-value-off", {"network": {"initial_value": -3.0}}),
        ("discount-too-small", {"discount": 0.001}),
        ("untrained", {"updates": 5, "replay": {"batch_size": 4}}),  # 20 samples of 6 pairs
        ("learning-rate-too-low", {"optimizer": {"learning_rate": 1e-6}}),
        ("learning-rate-too-low", {"schedule_updates": 10, "optimizer": {"schedule": "exponential",
                                                                          "final_fraction": 1e-6}}),
        ("reward-scale-off", {"target": {"reward_scale": 1e5}}),
        ("reward-scale-off", {"target": {"reward_scale": 1e-5}}),
        ("tabular-step-too-large", {"network": TABLE, "replay": {"batch_size": 24},
                                    "optimizer": {"name": "sgd", "tabular_step": 0.5}}),  # four of each pair
    ],
)  # fmt: skip
def test_a_fact_has_a_cure_that_mends_it(name, settings):
    found = foresee(training(**settings))
    assert name in found, found
    changes = cures.parse_options(found[name].cure)
    changed = cures.change(config(**{**SOUND, **settings}), changes)
    mended = Training(changed, chain(), np.ones((3, 2), bool))
    assert FACTS[name](mended) is None


def test_the_samples_of_a_pair_are_a_number_that_people_read():
    text = foresee(training(updates=3, replay={"batch_size": 256}))["untrained"].text
    assert "3 updates of 256 transitions are 128 for each of 6 pairs, and too few" in text


def test_one_hard_copy_carries_values_two_steps():
    away = build([[surely(s, 0), surely(min(s + 1, 3), float(s == 3), s == 3)] for s in range(4)])  # depth 4
    stale = {"polyak": 1.0, "period": 1_500}
    assert foreseen(away, target=stale, network=TABLE) == ["target-too-stale"]
    assert foreseen(away, target={**stale, "period": 500}, network=TABLE) == []


def test_values_that_begin_just_outside_are_optimism():
    assert foreseen(network={"initial_value": 1.5}) == []


def test_a_network_has_no_more_independent_actions_than_units():
    assert foreseen(choices(), network={"hidden": [1]}) == ["network-too-small"]
    assert foreseen(choices(), network={"hidden": [64, 2]}) == ["network-too-small"]
    assert foreseen(choices(), network={"hidden": [5]}) == []
    assert foreseen(network={"hidden": [1]}) == []  # two actions need one


def test_random_behavior_in_uncorrected_sums_is_a_fact_before_it_is_learned():
    many = {"n_step": 5, "n_step_correction": "none"}
    explores = {"start": 1.0, "end": 1.0}
    assert foreseen(pit(), target=many, exploration=explores) == ["n-step-off-policy"]
    assert foreseen(pit(), target={**many, "n_step_correction": "watkins"}, exploration=explores) == []
    assert foreseen(pit(), target=many, exploration={"start": 0.05, "end": 0.0}) == []


def test_without_a_discount_everything_that_loses_nothing_ties():
    table = build([[surely(0, 0), surely(1, 0)], [surely(0, 0), surely(1, 1, True)]], [1.0, 0.0])
    assert foreseen(table, discount=1.0) == ["discount-too-large"]
    costs = replace(table, reward=table.reward - 0.1)
    assert foreseen(costs, discount=1.0) == []


def test_close_arms_with_noise_need_expected_updates():
    coin = [(0.5, 0, 1, True), (0.5, 0, -1, True)]
    arms = build([[coin, [(p, s, r + 0.01, end) for p, s, r, end in coin]]])
    assert foreseen(arms, updates=50, replay={"batch_size": 8, "start": 0}) == ["noisy-targets"]
    assert foreseen(arms, updates=50, replay={"batch_size": 8}, target={"backup": "expected"}) == []


@pytest.mark.parametrize(
    ("settings", "bad"),
    [
        ({"updates": 3_000, "optimizer": {"learning_rate": 1e-5}}, False),  # a quarter of the way may be enough
        ({"updates": 30, "optimizer": {"learning_rate": 1e-5}}, True),
        ({"updates": 3_000, "optimizer": {"learning_rate": 1e-6}, "network": TABLE}, False),  # no noise to overcome
        ({"updates": 8, "replay": {"batch_size": 4}}, False),  # as may the few samples of a lucky seed
        ({"target": {"reward_scale": 1e5}}, True),
        ({"target": {"reward_scale": 1e-5}}, False),  # far from the values, and good on the way there
        ({"network": {"initial_value": 30.0}}, True),
        ({"network": {**TABLE, "initial_value": 1_000.0}, "optimizer": {"name": "sgd", "tabular_step": 0.5}}, True),
        ({"discount": 0.001}, False),
        ({"network": TABLE, "replay": {"batch_size": 36}, "optimizer": {"name": "sgd", "tabular_step": 0.5}}, True),
        ({"network": TABLE, "replay": {"batch_size": 30}, "optimizer": {"name": "sgd", "tabular_step": 0.5}}, False),
        ({"network": TABLE, "replay": {"batch_size": 20}, "optimizer": {"name": "sgd", "tabular_step": 0.5}}, False),
    ],
)  # fmt: skip
def test_only_a_fact_that_leaves_a_bad_policy_is_warned_of(settings, bad):
    found = foresee(training(**settings))
    assert found
    assert any(fact.leaves_bad_policy for fact in found.values()) is bad
    watch = Monitor(config(**{**SOUND, **settings}), chain())
    warned = {warning.finding for warning in watch(STARTED)}
    assert warned == {name for name, fact in found.items() if fact.leaves_bad_policy}


def test_sums_under_behavior_that_ends_greedy_settle_on_a_good_policy():
    table, many = pit(), {"n_step": 5, "n_step_correction": "none"}
    explores = training(table, target=many, exploration={"start": 1.0, "end": 1.0})
    falls = training(table, target=many, exploration={"start": 1.0, "end": 0.0, "fraction": 1.0})
    assert foresee(explores)["n-step-off-policy"].leaves_bad_policy
    assert not foresee(falls)["n-step-off-policy"].leaves_bad_policy


def test_train_warns_of_a_fact_once_before_its_first_update():
    watch = Monitor(config(**SOUND, network={"initial_value": 30.0}), chain())
    (warning,) = watch(STARTED)
    assert (warning.update, warning.finding) == (0, "initial-value-off")
    assert warning.text.endswith("--initial-value 0")
    assert watch(STARTED) == []


def test_a_bad_policy_has_the_fact_as_its_cause_and_a_good_one_does_not():
    off = config(**SOUND, network={"initial_value": 30.0})
    restless = history(*(snapshot(i, high=30.0, policy=0.5, change=5.0) for i in range(1, 9)))
    bad = diagnose(case_on(chain(), [[0.0, 1.0]] * 3, config=off, history=restless))
    assert bad.named("initial-value-off").severity == "severe"
    assert bad.named("policy-loops").cause.startswith("initial-value-off: ")
    assert bad.named("learning-rate-too-high") is None
    assert diagnose(case_on(chain(), [[1.0, 0.0]] * 3, config=off)).findings == ()


def test_every_fact_has_a_check():
    from deeptaxi.diagnosis.run_checks import CHECKS

    assert set(forecast.FACTS) <= {check.name for check in CHECKS}


def test_too_few_updates_are_no_rate_that_is_too_low():
    far = replace(chain(), reward=chain().reward * 100)
    usual = config(optimizer={"learning_rate": 0.003}, updates=20_000)
    few = replace(training(far, updates=200, optimizer={"learning_rate": 0.003}), usual=usual)
    assert {"untrained", "learning-rate-too-low"} & foresee(few).keys() == {"untrained"}
    slow = replace(training(far, updates=20_000, optimizer={"learning_rate": 1e-6}), usual=usual)
    assert {"untrained", "learning-rate-too-low"} & foresee(slow).keys() == {"learning-rate-too-low"}


def test_a_fact_that_an_ideal_training_overcomes_is_a_warning():
    for updates, severity in ((3_000, "warning"), (30, "severe")):  # a quarter of the way may be enough
        slow = config(**{**SOUND, "updates": updates}, optimizer={"learning_rate": 1e-5})
        case = case_on(chain(), [[0.0, 1.0]] * 3, config=slow)
        found = [forecast.check_fact(name, case) for name in ("learning-rate-too-low", "untrained")]
        assert {finding.severity for finding in found if finding is not None} == {severity}


def test_hard_copies_that_carry_no_value_back_are_no_lack_of_updates():
    usual = config(optimizer={"learning_rate": 0.003}, target={"polyak": 0.1, "period": 1}, updates=20_000)
    known = {"updates": 200, "optimizer": {"learning_rate": 0.003}, "target": {"polyak": 1.0, "period": 250}}
    there = chain()  # with its actions in the other order, so that ties are not resolved rightly
    turned = ("probability", "next_state", "reward", "terminated")
    far = replace(there, **{name: getattr(there, name)[:, ::-1] for name in turned})
    far = replace(far, reward=far.reward * 100)
    two_copies = foresee(replace(training(far, **known), usual=usual))
    assert {"untrained", "target-too-stale"} & two_copies.keys() == {"target-too-stale"}
    often = foresee(replace(training(far, **{**known, "target": {"polyak": 0.1, "period": 1}}), usual=usual))
    assert {"untrained", "target-too-stale"} & often.keys() == {"untrained"}
