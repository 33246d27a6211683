"""Intervals of what is estimated from few runs: the share that succeed, aggregates of their scores, and profiles.

**A share** of n runs has the interval of Wilson (Probable inference, the law of succession, and statistical inference,
1927). It stays within 0 and 1, and is not empty if all runs succeed, or none.

**Scores.** With x_m the scores of the runs on task m, the aggregates are those of Agarwal et al. (Deep reinforcement
learning at the edge of the statistical precipice, 2021, section 4.3), as their library rliable computes them:

    mean                 mean over m of mean(x_m)
    median               median over m of mean(x_m); on a single task, where that is the mean, median(x_1)
    interquartile mean   mean of the middle half of all scores, ⌊N/4⌋ of N dropped at either end

Their intervals are percentiles of the stratified bootstrap: runs are drawn again, with replacement, within each task.
A bootstrap knows no score that no run had: where all are equal, its interval is a point, however few they are.

**A performance profile** (section 4.2) is the share of runs, on all tasks together, whose score is above τ, for each τ.
Where the profile of one group is never below that of another, its scores are stochastically larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tasks = Sequence[Floats]  # the scores on each task, `[runs]`, or of each resample, `[B, runs]`

CONFIDENCE = 0.95
RESAMPLES = 10_000
PROFILE_RESAMPLES = 2_000  # as rliable
BLOCK = 2**20  # scores that are drawn at a time


@dataclass(frozen=True)
class IntervalEstimate:
    """An estimate and its 95 % interval.

    Attributes:
        estimate: the estimate; None if it does not exist.
        low, high: the ends; None if that end is unknown, or nothing bounds it.
    """

    estimate: float | None
    low: float | None
    high: float | None


def wilson(successes: int, runs: int) -> IntervalEstimate:
    """Return the share of runs that succeed, with the Wilson interval.

    Raises:
        ValueError: there are no runs, or more successes than runs.
    """
    from scipy.stats import binomtest

    ends = binomtest(successes, runs).proportion_ci(CONFIDENCE, "wilson")
    return IntervalEstimate(successes / runs, float(ends.low), float(ends.high))


def mean(tasks: Tasks) -> Any:
    """Return the mean over tasks of the mean score, `[…]`."""
    return np.mean([scores.mean(axis=-1) for scores in tasks], axis=0)


def median(tasks: Tasks) -> Any:
    """Return the median over tasks of the mean score, `[…]`; on a single task, the median score."""
    if len(tasks) == 1:
        return np.median(tasks[0], axis=-1)
    return np.median([scores.mean(axis=-1) for scores in tasks], axis=0)


def interquartile_mean(tasks: Tasks) -> Any:
    """Return the mean of the middle half of all scores, `[…]`."""
    scores = np.sort(np.concatenate(tasks, axis=-1), axis=-1)
    cut = scores.shape[-1] // 4
    return scores[..., cut : scores.shape[-1] - cut].mean(axis=-1)


AGGREGATES: dict[str, Callable[[Tasks], Any]] = {"mean": mean, "median": median, "iqm": interquartile_mean}


def bootstrap(
    statistic: Callable[..., Any], *groups: Tasks, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Any, Any, Any]:
    """Return a statistic and the ends of its 95 % interval by the stratified bootstrap.

    Args:
        statistic: a function of the groups, whose scores may have a leading axis of resamples; returns `[…]`.
        *groups: the scores `[runs]` of each task; every task of every group is drawn again by itself.
        resamples: how often.
        seed: of the draws.

    Returns:
        The statistic, the low and the high end, `[…]` each.
    """
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK // sum(len(scores) for tasks in groups for scores in tasks))
    drawn = []
    for first in range(0, resamples, block):
        count = min(block, resamples - first)
        again = [
            [scores[generator.integers(len(scores), size=(count, len(scores)))] for scores in tasks] for tasks in groups
        ]
        drawn.append(statistic(*again))
    tail = (1 - CONFIDENCE) / 2
    with np.errstate(invalid="ignore"):  # of infinite scores
        low, high = np.quantile(np.concatenate(drawn), (tail, 1 - tail), axis=0)
    return statistic(*groups), low, high


def bootstrap_interval(
    statistic: Callable[..., Any], *groups: Tasks, resamples: int = RESAMPLES, seed: int = 0
) -> IntervalEstimate:
    """Return a single number with its interval, see `bootstrap`; without ends if a task has one run in a group."""
    if any(len(scores) < 2 for tasks in groups for scores in tasks):
        return IntervalEstimate(known(statistic(*groups)), None, None)
    return IntervalEstimate(*map(known, bootstrap(statistic, *groups, resamples=resamples, seed=seed)))


def known(value: Any) -> float | None:
    """Return a number as a float; None for infinities and NaN."""
    return float(value) if math.isfinite(value) else None


def share_above(tasks: Tasks, thresholds: Floats) -> Floats:
    """Return the share of all scores, `[…, n]` on each task, above each threshold, `[T]`; `[…, T]`."""
    scores = np.concatenate(tasks, axis=-1)
    return np.stack([(scores > threshold).mean(axis=-1) for threshold in thresholds], axis=-1)


def performance_profile(tasks: Tasks, thresholds: Floats, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Return the performance profile at the thresholds `[T]`, and the ends of its pointwise 95 % interval, `[T]`."""
    found, low, high = bootstrap(
        lambda again: share_above(again, thresholds), tasks, resamples=PROFILE_RESAMPLES, seed=seed
    )
    return found, low, high
