"""Whether one setting succeeds more often than another, and how many runs would tell.

Of n_1 and n_2 runs, k_1 and k_2 succeed. The test is Boschloo's (Raised conditional level of significance for the
2 × 2-table, 1970): exact for any number of runs, and more powerful than Fisher's. If the best of several settings is
compared with the others, p is multiplied by the number of all pairs (Bonferroni), because the data chose the pair.
Scores are compared by the test of Mann and Whitney (1947), the test of a probability of improvement of ½.

If the true shares are p_1 and p_2, two groups of

    n = (z_0.975 √(2 p̄ (1 − p̄)) + z_0.8 √(p_1 (1 − p_1) + p_2 (1 − p_2)))² / (p_1 − p_2)²,   p̄ = (p_1 + p_2) / 2

runs each are told apart at p < 0.05 in four of five experiments (Fleiss, Levin and Paik, Statistical methods for rates
and proportions, 2003, section 4.2).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from deeptaxi.statistics.intervals import Floats

LEVEL, POWER = 0.05, 0.8


@lru_cache(maxsize=4096)
def boschloo(successes: int, runs: int, other_successes: int, other_runs: int) -> float:
    """Return the two-sided p-value of Boschloo's test that two shares are equal."""
    from scipy.stats import boschloo_exact

    table = [[successes, other_successes], [runs - successes, other_runs - other_successes]]
    if not all(map(sum, table)):  # all succeed, or none
        return 1.0
    return min(1.0, float(boschloo_exact(table).pvalue))


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
