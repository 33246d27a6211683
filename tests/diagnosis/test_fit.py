"""Three kinds of failure on a walk of three steps, whose Q values a person can check."""

from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.diagnosis import diagnose, fit
from deeptaxi.mdp.planning import value_iteration
from tests.diagnosis.cases import case_on, config
from tests.problems import chain, random_table

RIGHT = np.array([[0.81, 0.729], [0.9, 0.81], [1.0, 0.9]])  # going on, staying


def test_values_that_are_right_are_close():
    found = fit.measure_fit(case_on(chain(), RIGHT))
    assert found.kind == "close"
    assert (found.plain_rewards, found.own_targets, found.optimum) == pytest.approx((0, 0, 0), abs=1e-12)
    assert found.plain_pairs == 1  # the last step


def test_a_plain_reward_that_is_missed_was_not_fitted():
    found = fit.measure_fit(case_on(chain(), np.zeros((3, 2))))
    assert found.kind == "not fitted"
    assert found.plain_rewards == pytest.approx(1)
    assert found.span == pytest.approx(0.271)


def test_values_that_have_not_come_back_are_on_their_way():
    q = np.zeros((3, 2))
    q[2] = 1.0, 0.9
    found = fit.measure_fit(case_on(chain(), q))
    assert found.kind == "on its way"
    # Only staying in state 1, of 6 pairs, has its target; going on to 2 lacks 0.9, staying in 2 nothing.
    assert found.own_targets == pytest.approx(0.9 / 6)


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_at_another_discount_agrees_with_other_targets(seed):
    table = random_table(seed)
    other = value_iteration(table, 0.5).q
    measured = fit.measure_fit(case_on(table, other, training_discount=0.5))
    assert measured.kind == "close"
    assert fit.measure_fit(case_on(table, other)).kind != "close"


def test_nothing_is_measured_without_what_it_takes():
    assert fit.measure_fit(case_on(chain(), RIGHT, training_discount=None)) is None
    assert fit.measure_fit(case_on(chain(), None)) is None


def test_a_good_policy_is_no_finding_and_a_bad_one_always_is():
    assert diagnose(case_on(chain(), RIGHT)).named("not-optimal") is None
    for q in (-RIGHT, RIGHT[:, ::-1], np.array([[0.0, 1.0]] * 3)):
        found = diagnose(case_on(chain(), q))
        assert found.severe
        assert all(finding.cause and finding.cure for finding in found.findings)


def test_the_experiment_is_what_differs_from_the_usual_settings():
    known, usual = config(updates=100), config(updates=900, target={"double": True})
    missed = diagnose(case_on(chain(), RIGHT[:, ::-1], config=known, usual=usual)).named("not-optimal")
    assert missed.cure == "--updates 900 --double"
    alone = diagnose(case_on(chain(), RIGHT[:, ::-1], config=known, usual=known)).named("not-optimal")
    assert alone.cure == "--updates 400"
