"""Intervals against closed forms, and against rliable 1.2.0 and statsmodels 0.15.0 on the same numbers.

rliable brings pandas, seaborn and arch, so that its results stand here: of `library.get_interval_estimates(scores,
metrics.aggregate_*, reps=100000)`, after `numpy.random.seed(0)`, on the scores below, transposed.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deeptaxi.statistics.intervals import (
    AGGREGATES,
    IntervalEstimate,
    bootstrap,
    bootstrap_interval,
    interquartile_mean,
    mean,
    median,
    performance_profile,
    share_above,
    wilson,
)

MANY = 100_000
X = np.array(
    [
        [0.994, 0.969, 0.961, 0.997, 1.0, 0.916, 0.975, 0.996, 0.986, 0.998],
        [0.99, 0.95, 0.951, 0.981, 0.987, 0.98, 0.997, 0.976, 1.0, 0.996],
        [0.949, 0.874, 0.991, 1.0, 0.957, 0.947, 1.0, 0.992, 0.862, 0.845],
    ]
)
Y = np.array(
    [
        [0.946, 0.922, 0.947, 0.937, 0.966, 0.96, 0.936, 0.984],
        [0.956, 0.995, 0.954, 0.997, 0.992, 0.949, 0.967, 0.977],
        [0.866, 0.886, 0.924, 0.919, 0.829, 0.876, 0.858, 0.95],
    ]
)
ONE = np.array([[0.969, 0.936, 0.952, 0.996, 0.993, 0.939, 1.0, 0.946, 0.949, 0.982, 0.993, 0.994]])
RLIABLE = {  # estimate, low, high
    "x": {
        "mean": (0.96723, 0.95353, 0.97993),
        "median": (0.97920, 0.96270, 0.98670),
        "iqm": (0.98013, 0.9675, 0.99025),
    },
    "y": {"mean": (0.93721, 0.92679, 0.94775), "median": (0.94975, 0.93775, 0.96275), "iqm": (0.94558, 0.936, 0.95525)},
    # On one task, with numpy.median in place of its aggregate_median, which is the mean there.
    "one": {"mean": (0.97075, 0.95725, 0.984), "median": (0.9755, 0.9475, 0.9935), "iqm": (0.973, 0.95, 0.99217)},
}


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize(("name", "tasks"), [("x", X), ("y", Y), ("one", ONE)])
def test_scores_have_the_intervals_of_rliable(name: str, tasks: np.ndarray, aggregate: str) -> None:
    found = bootstrap_interval(AGGREGATES[aggregate], list(tasks), resamples=MANY)
    assert (found.estimate, found.low, found.high) == pytest.approx(RLIABLE[name][aggregate], abs=1e-3)


def test_the_aggregates_by_hand() -> None:
    tasks = [np.array([0.0, 4.0]), np.array([1.0, 1.0]), np.array([8.0, 10.0])]
    assert mean(tasks) == (2 + 1 + 9) / 3
    assert median(tasks) == 2  # of the means 2, 1, 9
    assert interquartile_mean(tasks) == (1 + 1 + 4 + 8) / 4  # of six, one is dropped at either end
    assert median([np.array([1.0, 2.0, 9.0])]) == 2  # of the runs, not of their only mean


def test_the_interquartile_mean_is_the_trimmed_mean_of_scipy() -> None:
    for size in range(1, 30):
        scores = np.random.default_rng(size).normal(size=size)
        assert interquartile_mean([scores]) == pytest.approx(stats.trim_mean(scores, 0.25))


def test_tasks_may_have_different_numbers_of_runs_and_are_drawn_by_themselves() -> None:
    _, low, high = bootstrap(mean, [np.zeros(3), np.ones(5)], resamples=100)
    assert (low, high) == (0.5, 0.5)  # no score of one task is drawn for the other


def test_a_bootstrap_of_two_scores_has_the_binomial_quantiles() -> None:
    found = bootstrap_interval(mean, [np.array([0.0, 1.0])])  # 0, ½ and 1 with probabilities ¼, ½, ¼
    assert (found.low, found.estimate, found.high) == (0, 0.5, 1)


def test_the_bootstrap_agrees_with_that_of_scipy() -> None:
    theirs = stats.bootstrap((ONE[0],), np.mean, n_resamples=50_000, method="percentile", rng=0).confidence_interval
    ours = bootstrap_interval(mean, list(ONE), resamples=50_000)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=1e-3)


def test_the_same_seed_gives_the_same_interval_whatever_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    first = bootstrap_interval(mean, list(ONE), resamples=500)
    assert first == bootstrap_interval(mean, list(ONE), resamples=500)
    assert first != bootstrap_interval(mean, list(ONE), resamples=500, seed=1)
    monkeypatch.setattr("deeptaxi.statistics.intervals.BLOCK", 240)
    assert first == bootstrap_interval(mean, list(ONE), resamples=500)


def test_one_run_has_no_interval_and_an_infinite_score_no_number() -> None:
    assert bootstrap_interval(mean, [np.array([0.5])]) == IntervalEstimate(0.5, None, None)
    assert bootstrap_interval(mean, [np.array([0.5, -np.inf])]).estimate is None


@pytest.mark.parametrize(
    ("successes", "runs", "low", "high"),
    [  # of statsmodels.stats.proportion.proportion_confint(…, method="wilson")
        (40, 40, 0.9123783988, 1.0),
        (31, 40, 0.6249690326, 0.8768390868),
        (0, 5, 0.0, 0.4344824648),
        (3, 10, 0.1077912674, 0.6032218525),
    ],
)
def test_a_share_has_the_wilson_interval(successes: int, runs: int, low: float, high: float) -> None:
    found = wilson(successes, runs)
    assert (found.estimate, found.low, found.high) == pytest.approx((successes / runs, low, high), abs=1e-9)
    z = stats.norm.ppf(0.975)  # the ends solve (p̂ − p)² = z² p (1 − p) / n
    for end in (found.low, found.high):
        assert (successes / runs - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / runs, abs=1e-9)


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
