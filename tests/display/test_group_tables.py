from __future__ import annotations

from typing import Any

import pytest

from deeptaxi.display.group_tables import comparison_tables, interval, percentage, time


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"estimate": value, "low": low, "high": high}


def group(label: str, environment: str = "Taxi-v4", **facts: Any) -> dict[str, Any]:
    score = dict.fromkeys(("mean", "median", "iqm"), estimate(0.5, 0.25, 0.75))
    return {
        "label": label, "environment": environment, "runs": ["a", "b"], "optimal": 1, "score": score,
        "share_optimal": estimate(0.5, 0.0945, 0.9055), "updates_to_optimum": None, "seconds_to_optimum": None, **facts,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (estimate(0.5, 0.25, 0.75), "0.5 [0.25, 0.75]"),
        (estimate(0.5), "0.5"),
        (estimate(0.5, 0.25), "0.5 [0.25, …]"),
        (estimate(None), "–"),
    ],
)
def test_an_estimate_has_its_interval_in_brackets(found: dict[str, float | None], text: str) -> None:
    assert interval(found) == text


def test_a_time_that_is_not_reached_is_more_than_the_last() -> None:
    curve = {"times": [500.0, 2_000.0]}
    assert time({"median": estimate(None), "not_optimal_yet": curve}, 0) == "more than 2,000"
    assert time({"median": estimate(1_250, 500), "not_optimal_yet": curve}, 0) == "1,250 [500, …]"
    assert time(None, 0) == "–"


def test_groups_are_named_with_their_environment_where_there_are_several() -> None:
    pair = {"best": "0.1", "other": "0.2", "environment": "Taxi-v4", "p_adjusted": 0.00001, "time_p_adjusted": None,
            "score_p_adjusted": 0.25, "probability_of_improvement": estimate(0.5, 0.0, 1.0),
            "seeds_to_tell": 1_200}  # fmt: skip
    found = {"by": ["env", "learning_rate"], "score": "return", "overall": {}, "pairs": [pair],
             "groups": [group("0.1"), group("0.2"), group("0.1", "FrozenLake-v1")]}  # fmt: skip
    shares, scores, pairs = comparison_tables(found)
    assert [row[0] for row in shares.rows] == ["0.1 on Taxi-v4", "0.2 on Taxi-v4", "0.1 on FrozenLake-v1"]
    assert shares.rows[0][1:3] == ("1 of 2", "50 % [9 %, 91 %]")
    assert scores.title == "The return:"
    assert pairs.rows == [
        ("0.1 against 0.2 on Taxi-v4", "< 0.0001", "–", "0.25", "50 % [0 %, 100 %]", "1,200 each"),
    ]


def test_a_share_that_is_not_known_is_a_dash() -> None:
    found = {"by": [], "score": "return", "overall": {}, "pairs": [],
             "groups": [group("all runs", optimal=None, share_optimal=None)]}  # fmt: skip
    (shares, _) = comparison_tables(found)
    assert shares.rows == [("all runs", "– of 2", "–", "–", "–")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.625, "62 %"), (0.0, "0 %"), (1.0, "100 %"), (0.002, "0.2 %"), (0.9972, "99.7 %"), (0.99996, "99.996 %")],
)
def test_a_probability_that_is_not_certain_never_looks_so(value: float, text: str) -> None:
    assert percentage(value) == text
