from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.diagnosis.case import Check, Diagnosis, Finding, NotChecked, Unchecked, can_end, only, the
from tests.diagnosis.cases import case_on, unseen
from tests.problems import build, chain, surely

GO, STAY = [[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3


def finding(name: str, severity: str) -> Finding:
    return Finding(name, severity, "a summary", {"share": 0.5}, "exact", "a cause", "a cure")


def test_a_policy_becomes_choices_with_one_action_a_state():
    assert only(np.array([1, 0]), 3).tolist() == [[False, True, False], [True, False, False]]


def test_an_episode_can_end_where_some_choice_leads_to_the_end():
    # 0 → 1 → end by action 0; action 1 stays; state 2 only comes back to itself.
    table = build([[surely(1, 0), surely(0, 0)], [surely(1, 0, True), surely(1, 0)], [surely(2, 0)] * 2])
    assert can_end(table, np.ones((3, 2), bool)).tolist() == [True, True, False]
    assert can_end(table, only(np.array([1, 0, 0]), 2)).tolist() == [False, True, False]


def test_a_policy_that_stays_is_stuck_and_harmful():
    case = case_on(chain(), STAY)
    assert case.harmful
    assert case.worst == "severe"
    assert case.passed.tolist() == [True, False, False]
    assert case.losing.tolist() == [True, True, True]
    assert case.stuck_starts.tolist() == [True, False, False]
    optimal = case_on(chain(), GO)
    assert optimal.harmful is False
    assert optimal.worst == "warning"
    assert not (optimal.losing | optimal.stuck).any()


def test_q_star_spans_the_values_of_the_pairs_that_can_be_tried():
    # At 0.9: 0.81, 0.9 and 1 for going on, each times 0.9 for staying.
    assert case_on(chain(), GO).span == pytest.approx(1 - 0.9 * 0.81)
    masked = chain(action_mask=np.array([[True, False]] * 3))
    assert case_on(masked, GO).span == pytest.approx(1 - 0.81)


def test_pairs_that_were_never_tried_are_not_held_to_account():
    visits = np.array([[3, 0], [1, 2], [0, 0]])
    assert case_on(chain(), GO, visits=visits).learned_pairs.tolist() == (visits > 0).tolist()
    assert case_on(chain(), GO, visits=np.zeros((3, 2), int)).learned_pairs.all()


def test_q_values_that_are_no_numbers_are_counted_by_state():
    case = unseen(q=np.array([[np.nan, np.inf], [-np.inf, 0.0], [1.0, np.inf]]))
    assert case.broken == 2
    assert case.allowed.tolist() == [[True, True], [False, True], [True, True]]


def test_an_action_has_its_name_beside_its_number():
    case = unseen(action_names=("north", "action 1"))
    assert [case.action(number) for number in range(2)] == ["action 0 (north)", "action 1"]
    assert unseen().action(1) == "action 1"


def test_a_check_says_why_it_cannot_be_run():
    check = Check("any", ("q", "discount"), lambda case: None)
    assert check(unseen(q=np.full((3, 2), np.nan), why={"q": "they are broken"})) == Unchecked("they are broken")
    assert check(unseen(q=np.zeros((3, 2)))) == Unchecked("there is none")  # no Q* without a table
    assert check(case_on(chain(), GO)) is None
    assert Check("log", ("history",), lambda case: None)(unseen()) == Unchecked("the training left no log")
    with pytest.raises(LookupError, match="did not declare to need"):
        the(None)


def test_a_diagnosis_is_severe_if_one_finding_is():
    diagnosis = Diagnosis((finding("first", "warning"), finding("second", "note")), (NotChecked("third", "no log"),))
    assert not diagnosis.severe
    assert diagnosis.named("second") is diagnosis.findings[1]
    assert diagnosis.named("third") is None
    assert diagnosis.to_dict()["not_checked"] == [{"name": "third", "why": "no log"}]
    assert Diagnosis((finding("first", "severe"),)).to_dict()["severe"] is True
