"""Times to the optimum against Kaplan and Meier's estimator by hand, and lifelines 0.30.3 on the same numbers.

lifelines brings pandas and autograd, so that its results stand here: of `KaplanMeierFitter().fit(times, reached)`,
`median_survival_times(….confidence_interval_)` and `logrank_test`.
"""

from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.statistics.intervals import IntervalEstimate
from deeptaxi.statistics.survival import kaplan_meier, log_rank

TIMES = np.array([500.0, 750, 750, 1000, 1250, 1250, 1500, 2000, 2000, 2000])
REACHED = np.array([True, True, True, True, True, False, True, False, False, False])
SLOWER = np.array([750.0, 1000, 1500, 1750, 2000, 2000, 2000, 2000, 2000, 2000])
SLOWER_REACHED = np.arange(10) < 4
ALL = np.array([250.0, 500, 500, 750, 1000, 1000, 1250])


def test_the_curve_is_that_of_lifelines() -> None:
    found = kaplan_meier(TIMES, REACHED)
    assert found.times.tolist() == [500, 750, 1000, 1250, 1500, 2000]
    assert found.share == pytest.approx([0.9, 0.7, 0.6, 0.5, 0.375, 0.375])  # 9/10 · 7/9 · 6/7 · 5/6 · 3/4
    assert found.low == pytest.approx([0.473009, 0.328717, 0.252669, 0.183606, 0.099490, 0.099490], abs=1e-6)
    assert found.high == pytest.approx([0.985281, 0.891949, 0.827221, 0.753174, 0.659103, 0.659103], abs=1e-6)
    assert found.median == IntervalEstimate(1250, 500, None)


def test_greenwoods_variance_by_hand() -> None:
    found = kaplan_meier(np.array([1.0, 2, 3, 4]), np.array([True, False, False, False]))
    width = 1.959964 * np.sqrt(1 / (4 * 3)) / np.log(0.75)  # of log(−log S), S = ¾
    middle = np.log(-np.log(0.75))
    assert found.low[0] == pytest.approx(np.exp(-np.exp(middle - width)))
    assert found.high[0] == pytest.approx(np.exp(-np.exp(middle + width)))


def test_where_all_are_optimal_the_last_time_has_no_interval() -> None:
    found = kaplan_meier(ALL, np.ones(7, np.bool_))
    assert found.share == pytest.approx([6 / 7, 4 / 7, 3 / 7, 1 / 7, 0])
    assert found.low[:-1] == pytest.approx([0.334054, 0.171866, 0.097752, 0.007124], abs=1e-6)
    assert np.isnan([found.low[-1], found.high[-1]]).all()
    assert found.median == IntervalEstimate(750, 250, 1000)


def test_where_none_is_optimal_there_is_no_median_and_nothing_below_one() -> None:
    found = kaplan_meier(np.array([100.0, 100, 100]), np.zeros(3, np.bool_))
    assert (found.share.tolist(), found.low.tolist(), found.high.tolist()) == ([1], [1], [1])
    assert found.median == IntervalEstimate(None, None, None)


def test_leaving_out_censored_runs_would_look_fast() -> None:
    assert kaplan_meier(TIMES[REACHED], REACHED[REACHED]).median.estimate == 750


def test_the_log_rank_test_is_that_of_lifelines() -> None:
    found = log_rank((TIMES, SLOWER), (REACHED, SLOWER_REACHED))
    assert found == pytest.approx(0.226144, abs=1e-6)


def test_the_log_rank_test_of_times_that_say_nothing() -> None:
    assert log_rank((TIMES, TIMES), (REACHED, REACHED)) == pytest.approx(1)
    assert log_rank((TIMES, TIMES), (np.zeros(10, np.bool_), np.zeros(10, np.bool_))) is None
    same, reached = np.full(4, 500.0), np.ones(4, np.bool_)
    assert log_rank((same, same), (reached, reached)) == 1
