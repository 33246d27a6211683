"""Score distributions compared as a whole: the probability of improvement, and performance profiles.

Both are defined by Agarwal et al. (Deep reinforcement learning at the edge of the statistical precipice, 2021, sections
4.2 and 4.3), and computed as by their library rliable. On one task, with n and m runs,

    P(X > Y) = 1/(nm) Σ_i Σ_j [x_i > y_j] + ½ [x_i = y_j],

the statistic of Mann and Whitney; several tasks count equally. The profile of a group is the share of its runs, on all
tasks together, whose score is above τ. Where the profile of one group is never below that of another, its scores are
stochastically larger.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeptaxi.statistics.intervals import Floats, Tasks, bootstrap

PROFILE_RESAMPLES = 2_000  # as rliable


def probability_of_improvement(tasks: Tasks, others: Tasks) -> Any:
    """Return the probability that a run of one group has a higher score than one of the other, `[…]`; ties count half.

    Args:
        tasks: scores on each task, `[…, n]`.
        others: those of the other group on the same tasks, `[…, m]`.
    """
    return np.mean([beaten_share(*pair) for pair in zip(tasks, others, strict=True)], axis=0)


def beaten_share(scores: Floats, others: Floats) -> Any:
    """Return the share of pairs in which a score, of `[…, n]`, is above another, of `[…, m]`, by the sum of ranks."""
    from scipy.stats import rankdata

    n, m = scores.shape[-1], others.shape[-1]
    ranks = rankdata(np.concatenate([scores, others], axis=-1), axis=-1)[..., :n]
    return (ranks.sum(axis=-1) - n * (n + 1) / 2) / (n * m)


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
