"""Probability of improvement and profiles by hand, and those of rliable 1.2.0 on the scores of `test_intervals`."""

from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.statistics.intervals import bootstrap_interval
from deeptaxi.statistics.profiles import performance_profile, probability_of_improvement, share_above
from tests.statistics.test_intervals import X, Y


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


def test_a_profile_is_that_of_rliable() -> None:
    """Of `library.create_performance_profile({"x": x}, thresholds, reps=50000)`."""
    found, low, high = performance_profile(list(X), np.array([0.85, 0.9, 0.95, 0.99]))
    assert found == pytest.approx([0.9666667, 0.9, 0.7666667, 0.4])
    assert low == pytest.approx([0.9, 0.8, 0.6333333, 0.2333333], abs=1e-3)
    assert high == pytest.approx([1, 1, 0.9, 0.5666667], abs=1e-3)


def test_a_profile_counts_scores_strictly_above() -> None:
    tasks = [np.array([0.0, 1.0]), np.array([1.0, 1.0])]
    assert share_above(tasks, np.array([-1.0, 0.0, 0.5, 1.0])).tolist() == [1, 0.75, 0.75, 0]
    resamples = [np.stack([scores, scores]) for scores in tasks]
    assert share_above(resamples, np.array([0.0, 1.0])).tolist() == [[0.75, 0], [0.75, 0]]
