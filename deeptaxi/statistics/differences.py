"""Differences between two groups of runs: whether one succeeds more often or scores higher, and how many runs it takes.

**Shares.** Of n_1 and n_2 runs, k_1 and k_2 succeed. The test is Boschloo's (Raised conditional level of significance
for the 2 × 2-table, 1970): exact for any number of runs, and more powerful than Fisher's. If the best of several
settings is compared with the others, p is multiplied by the number of all pairs (Bonferroni), because the data chose
the pair.

If the true shares are p_1 and p_2, two groups of

    n = (z_0.975 √(2 p̄ (1 − p̄)) + z_0.8 √(p_1 (1 − p_1) + p_2 (1 − p_2)))² / (p_1 − p_2)²,   p̄ = (p_1 + p_2) / 2

runs each differ at p < 0.05 in four of five experiments (Fleiss, Levin and Paik, Statistical methods for rates
and proportions, 2003, section 4.2).

**Scores.** On one task, with n and m runs, the probability of improvement is

    P(X > Y) = 1/(nm) Σ_i Σ_j [x_i > y_j] + ½ [x_i = y_j],

and several tasks count equally (Agarwal et al., Deep reinforcement learning at the edge of the statistical precipice,
2021, section 4.3, and their library rliable). It is the statistic of Mann and Whitney (On a test of whether one of two
random variables is stochastically larger than the other, 1947), whose test is that of a probability of ½.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from deeptaxi.statistics.intervals import Floats, Tasks

LEVEL, POWER = 0.05, 0.8


@lru_cache(maxsize=4096)
def boschloo(successes: int, runs: int, other_successes: int, other_runs: int) -> float:
    """Return the two-sided p-value of Boschloo's test that two shares are equal."""
    from scipy.stats import boschloo_exact

    table = [[successes, other_successes], [runs - successes, other_runs - other_successes]]
    if not all(map(sum, table)):  # all succeed, or none
        return 1.0
    return min(1.0, float(boschloo_exact(table).pvalue))


def probability_of_improvement(tasks: Tasks, others: Tasks) -> Any:
    """Return the probability that a run of one group has a higher score than one of the other, `[…]`; ties count half.

    Args:
        tasks: scores on each task, `[…, n]`.
        others: those of the other group on the same tasks, `[…, m]`.
    """
    return np.mean([share_of_wins(*pair) for pair in zip(tasks, others, strict=True)], axis=0)


def share_of_wins(scores: Floats, others: Floats) -> Any:
    """Return the share of pairs in which a score, of `[…, n]`, is above another, of `[…, m]`, by the sum of ranks."""
    from scipy.stats import rankdata

    n, m = scores.shape[-1], others.shape[-1]
    ranks = rankdata(np.concatenate([scores, others], axis=-1), axis=-1)[..., :n]
    return (ranks.sum(axis=-1) - n * (n + 1) / 2) / (n * m)


def mann_whitney(scores: Floats, others: Floats) -> float:
    """Return the two-sided p-value of the test that either group, `[n]` or `[m]`, is as likely to score higher."""
    from scipy.stats import mannwhitneyu

    if np.ptp(np.concatenate([scores, others])) == 0:
        return 1.0
    return float(mannwhitneyu(scores, others).pvalue)


def adjust(p: float, groups: int) -> float:
    """Multiply the p-value of one pair by the number of all pairs of groups (Bonferroni)."""
    return min(1.0, p * math.comb(groups, 2))


def runs_to_tell(share: float, other: float, groups: int = 2, power: float = POWER) -> int | None:
    """Return how many runs a group tell two true shares apart with that probability; None if they are equal.

    With more than two `groups`, the level of 0.05 is shared by all pairs.
    """
    from scipy.stats import norm

    if share == other:
        return None
    middle = (share + other) / 2
    z = norm.ppf(1 - LEVEL / math.comb(groups, 2) / 2)
    spread = z * math.sqrt(2 * middle * (1 - middle))
    spread += norm.ppf(power) * math.sqrt(share * (1 - share) + other * (1 - other))
    return math.ceil(float((spread / (share - other)) ** 2))
