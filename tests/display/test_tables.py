"""What people read of a verdict that is neither yes nor no."""

from __future__ import annotations

import math

from deeptaxi.display.tables import discount_row, episode_rows, verdict_rows
from deeptaxi.evaluation.episodes import Episodes
from deeptaxi.storage.model_card import describe_episodes, describe_verdict
from tests.storage.test_model_card import EXACT

UNKNOWN = {
    **EXACT,
    "optimal": None,
    "optimal_start_states": 0,
    "optimal_unknown": {"start_states": 1, "reason": "policies differ by too little", "telling_discount": 0.999},
}


def test_an_undecidable_verdict_names_the_discount_that_decides_it() -> None:
    text = str(verdict_rows(UNKNOWN)["Optimal"])
    assert text == (
        "cannot be determined at discount 0.99: policies differ by too little; --objective-discount 0.999 can tell"
    )
    silent = {**UNKNOWN, "optimal_unknown": {**UNKNOWN["optimal_unknown"], "telling_discount": None}}
    assert (
        str(verdict_rows(silent)["Optimal"]) == "cannot be determined at discount 0.99: policies differ by too little"
    )
    assert describe_verdict(UNKNOWN, None).startswith("not known to be optimal (policies differ by too little): 0 of 1")


def test_a_verdict_where_nothing_can_be_earned_says_so() -> None:
    empty = {**EXACT, "all_policies_equal": "nothing can be earned: all rewards are 0"}
    assert str(verdict_rows(empty)["Optimal"]) == "yes, but nothing can be earned: all rewards are 0"
    assert describe_verdict(empty, None).startswith("optimal (but nothing can be earned: all rewards are 0): 1 of 1")


def test_a_policy_that_loses_forever_is_worth_minus_infinity() -> None:
    for value in (None, -math.inf):  # as read back from JSON, and as evaluated
        lost = {**EXACT, "optimal": False, "value": value, "value_gap": None, "normalized_score": None, "discount": 1.0}
        assert str(verdict_rows(lost)["Value"]).startswith("−∞ of 0.951 at discount 1")
        assert "value −∞ of 0.9510 at discount 1.0" in describe_verdict(lost, None)


def test_discounts_are_shown_where_they_differ() -> None:
    assert discount_row({"discount": 0.99, "objective_discount": 1.0}) == {
        "Discount": "learned at 0.99, evaluated at 1"
    }
    assert discount_row({"discount": 0.99, "objective_discount": 0.99}) == {}


def test_equal_episodes_have_no_interval() -> None:
    same = Episodes(
        count=10,
        mean_return=0.0,
        ci95=(0.0, 0.0),
        mean_length=8.5,
        terminated_fraction=1.0,
        standard_error=0.0,
        asked=10,
    ).to_dict()
    assert episode_rows(same)["Episodes: 10"] == "mean return 0 (all the same), mean length 8.5, 100.0% terminated"
    assert describe_episodes(same) == "each of 10 episodes returned 0.0000"
    spread = {**same, "mean_return": 0.5, "ci95": [0.25, 0.75]}
    assert "mean return 0.5 (95 % interval 0.25 to 0.75), " in episode_rows(spread)["Episodes: 10"]
    assert describe_episodes(spread) == "10 episodes returned 0.5000 on average (95 % interval 0.2500 to 0.7500)"
