"""The benchmark of what watching costs: how its figures are put together."""

from __future__ import annotations

from benchmarks.watching import CASES, Cost, table
from deeptaxi.config import resolve


def test_shares_and_differences_are_medians_over_the_seeds() -> None:
    alone = Cost(2.0, 0.0, 0.0, 10)
    pairs = [(alone, Cost(seconds, 0.1, 0.25, 10)) for seconds in (2.0, 2.5, 4.0)]
    assert table({"a case": pairs}).splitlines()[-1] == (
        "| a case | 10 | 2.00 | 2.50 | 4.0% | 2.5% to 5.0% | 25.0% | 0.0% to 100.0% | 0.250 |"
    )


def test_every_case_is_a_training_by_a_preset() -> None:
    assert [resolve(settings).network.kind for settings in CASES.values()] == ["dueling"] * 2 + ["q-table"] * 2
