from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deeptaxi.statistics.differences import adjust, boschloo, runs_to_tell


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
    """`power.prop.test(p1 = .5, p2 = .75, power = .8)` of R gives n = 57.67."""
    assert runs_to_tell(0.5, 0.75) == 58
    assert runs_to_tell(0.75, 0.5) == 58
    assert runs_to_tell(0.5, 0.75, groups=4) > 58
    assert runs_to_tell(1.0, 1.0) is None


def test_so_many_runs_tell_in_four_of_five_experiments() -> None:
    n = runs_to_tell(0.5, 0.75)
    drawn = np.random.default_rng(0).binomial(n, [0.75, 0.5], (400, 2))
    told = np.mean([boschloo(int(one), n, int(other), n) < 0.05 for one, other in drawn])
    assert told == pytest.approx(0.8, abs=0.06)


def test_all_pairs_share_the_level() -> None:
    assert adjust(0.01, 2) == 0.01
    assert adjust(0.01, 4) == pytest.approx(0.06)
    assert adjust(0.5, 4) == 1
