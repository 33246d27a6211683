"""Times until something happens, of which some are only known to be longer: how long runs take to the optimum.

A run that was not optimal when it ended is *censored*: its time is more than it had. To leave such runs out, or to take
their end for a success, makes a setting look fast. The share of runs that are still not optimal at t is estimated by
the product over the times t_i ≤ t at which d_i of the n_i runs that are still followed become optimal (Kaplan and
Meier, Nonparametric estimation from incomplete observations, 1958),

    S(t) = ∏ (1 − d_i / n_i),   Var ln S(t) = Σ d_i / (n_i (n_i − d_i))   (Greenwood, 1926)

with the interval of log(−log S), which stays within 0 and 1. The median time is the first with S(t) ≤ 1/2, and its
interval the times at which the interval of S holds 1/2 (Brookmeyer and Crowley, 1982). Two sets of times differ by the
log-rank test (Mantel, 1966).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeptaxi.statistics.intervals import CONFIDENCE, Floats, IntervalEstimate

Bools = NDArray[np.bool_]
ROUNDING = 1e-12  # of a product of fractions


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """The estimated share of runs that are not optimal yet; it holds from a time to the next.

    Attributes:
        times: where runs became optimal or ended, ascending, `[N]`.
        share: S, `[N]`; 1 before the first time.
        low, high: its 95 % interval, `[N]`; NaN where there is none: at S = 0.
    """

    times: Floats
    share: Floats
    low: Floats
    high: Floats

    @property
    def median(self) -> IntervalEstimate:
        """The median time; None, and no upper end, if the data do not reach it."""
        return IntervalEstimate(
            first_below(self.times, self.share), first_below(self.times, self.low), first_below(self.times, self.high)
        )


def first_below(times: Floats, share: Floats) -> float | None:
    """Return the first time at which a share is at most one half; None if there is none."""
    where = np.flatnonzero(share <= 0.5 + ROUNDING)  # NaN is not
    return float(times[where[0]]) if where.size else None


def kaplan_meier(times: Floats, reached: Bools) -> SurvivalCurve:
    """Estimate the share of runs that are not optimal yet.

    Args:
        times: when each run became optimal, or ended, `[runs]`.
        reached: which became optimal, `[runs]`.
    """
    from scipy.stats import CensoredData, ecdf

    found = ecdf(CensoredData.right_censored(times, ~reached)).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # there is no interval at S = 0 or 1
        ends = found.confidence_interval(CONFIDENCE, method="log-log")
    share = np.asarray(found.probabilities)
    low, high = (np.where(share == 1, 1.0, end.probabilities) for end in (ends.low, ends.high))
    return SurvivalCurve(np.asarray(found.quantiles), share, low, high)


def log_rank(times: tuple[Floats, Floats], reached: tuple[Bools, Bools]) -> float | None:
    """Return the p-value of the log-rank test that two groups take equally long; None if no run became optimal."""
    from scipy.stats import CensoredData, logrank

    if not any(group.any() for group in reached):
        return None
    one, other = (CensoredData.right_censored(*group) for group in zip(times, (~end for end in reached), strict=True))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        p = float(logrank(one, other).pvalue)
    return p if np.isfinite(p) else 1.0  # all became optimal at the same time: no variance, and no difference
