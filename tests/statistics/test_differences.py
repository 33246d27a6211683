"""Tests of a difference by hand and from tables, and the probability of improvement of rliable 1.2.0."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deeptaxi.statistics.differences import adjust, boschloo, mann_whitney, probability_of_improvement, runs_to_tell
from deeptaxi.statistics.intervals import bootstrap_interval
from tests.statistics.test_intervals import X, Y


def test_forty_of_forty_against_thirty_one() -> None:
    assert boschloo(40, 40, 31, 40) == pytest.approx(0.00106, abs=1e-5)
    assert boschloo(31, 40, 40, 40) == boschloo(40, 40, 31, 40)
    assert boschloo(40, 40, 31, 40) < stats.fisher_exact([[40, 31], [0, 9]]).pvalue


def test_all_or_nothing_of_two_runs_by_hand() -> None:
    """Of one run each, 1 against 0 has the probability 2·p·(1 − p), which is ½ at most."""
    assert boschloo(1, 1, 0, 1) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("shares", [(0, 5, 0, 5), (5, 5, 7, 7)])
def test_equal_outcomes_are_no_difference(shares: tuple[int, int, int, int]) -> None:
    assert boschloo(*shares) == 1


def test_the_number_of_runs_is_that_of_power_prop_test() -> None:
    """The manual of R has `power.prop.test(p1 = .50, p2 = .75, power = .90)  # =>  n = 76.7`."""
    assert runs_to_tell(0.5, 0.75, power=0.9) == 77
    assert runs_to_tell(0.5, 0.75) == 58
    assert runs_to_tell(0.75, 0.5) == 58
    assert runs_to_tell(0.5, 0.75, groups=4) > 58
    assert runs_to_tell(1.0, 1.0) is None
    assert runs_to_tell(1.0, 0.775) == 30  # (1.96 √(2 · 0.8875 · 0.1125) + 0.8416 √(0.775 · 0.225))² / 0.225² = 29.8


def test_scores_are_compared_by_the_exact_test_where_there_are_no_ties() -> None:
    """Three above three: the most extreme of C(6, 3) = 20 orders, on both sides."""
    assert mann_whitney(np.array([4.0, 5, 6]), np.array([1.0, 2, 3])) == pytest.approx(2 / 20)
    assert mann_whitney(np.ones(4), np.ones(5)) == 1


def test_so_many_runs_tell_in_four_of_five_experiments() -> None:
    n = runs_to_tell(0.5, 0.75)
    drawn = np.random.default_rng(0).binomial(n, [0.75, 0.5], (400, 2))
    told = np.mean([boschloo(int(one), n, int(other), n) < 0.05 for one, other in drawn])
    assert told == pytest.approx(0.8, abs=0.06)


def test_all_pairs_share_the_level() -> None:
    assert adjust(0.01, 2) == 0.01
    assert adjust(0.01, 4) == pytest.approx(0.06)
    assert adjust(0.5, 4) == 1


def test_the_probability_of_improvement_is_that_of_rliable() -> None:
    """Of `library.get_interval_estimates({"p": [x, y]}, metrics.probability_of_improvement, reps=40000)`."""
    found = bootstrap_interval(probability_of_improvement, list(X), list(Y), resamples=40_000)
    assert found.estimate == pytest.approx(0.7354167, abs=1e-6)
    # One resample is a multiple of 1/240, and so is every end.
    assert (found.low, found.high) == pytest.approx((0.5916667, 0.8666667), abs=1e-3)


def test_pairs_by_hand_with_ties_of_half() -> None:
    one, other = [np.array([1.0, 2.0, 3.0])], [np.array([2.0, 0.0])]
    assert probability_of_improvement(one, other) == (1 + 1.5 + 2) / 6
    assert probability_of_improvement(other, one) == pytest.approx(1 - 4.5 / 6)
    assert probability_of_improvement(one, one) == 0.5
