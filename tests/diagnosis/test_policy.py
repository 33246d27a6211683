from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.diagnosis.case import Sample, Unchecked, can_end, only
from tests.diagnosis.cases import case_on, checked, history, snapshot, unseen
from tests.problems import build, chain, loop, surely

GO, STAY = [1.0, 0.0], [0.0, 1.0]


def test_an_agent_that_always_stays_takes_one_action_and_loops():
    case = case_on(chain(), [STAY, STAY, STAY])
    finding = checked("one-action-collapse", case)
    assert finding.severity == "severe"
    assert finding.evidence["action"] == 1
    assert finding.evidence["share"] == 1
    assert finding.evidence["optimal_share"] == 0
    loops = checked("policy-loops", case)
    assert loops.severity == "severe"
    assert loops.evidence["start_states"] == 1
    assert loops.evidence["states"] == 3


def test_one_action_is_fine_where_an_optimal_policy_takes_it_too():
    assert checked("one-action-collapse", case_on(chain(), [GO, GO, GO])) is None


def test_ties_are_broken_in_favor_of_the_agent():
    table = build([[surely(1, 0), surely(1, 0)], [surely(1, 1, True), surely(1, 1, True)]])
    assert checked("one-action-collapse", case_on(table, [STAY, STAY])) is None


def test_actions_are_named():
    case = case_on(chain(), [STAY] * 3, action_names=("go", "stay"))
    assert "action 1 (stay) in 100%" in checked("one-action-collapse", case).summary


def test_unreachable_states_do_not_count():
    stray = [surely(3, 0), surely(3, 0)]
    table = build([*[[surely(s + 1, 0), surely(s, 0)] for s in range(2)], [surely(2, 1, True), surely(2, 0)], stray])
    finding = checked("one-action-collapse", case_on(table, [STAY, STAY, STAY, GO]))
    assert finding.evidence["states"] == 3
    assert finding.evidence["share"] == 1


def test_a_problem_that_never_ends_is_no_loop():
    assert checked("policy-loops", case_on(loop(1), [[1.0]])) is None


def test_an_unreachable_loop_does_not_count():
    assert checked("policy-loops", case_on(chain(start=1), [STAY, GO, GO])) is None


def test_random_termination_is_no_loop():
    table = build([[[(0.01, 0, 0, True), (0.99, 0, 0, False)], surely(0, 1, True)]])
    assert can_end(table, only(np.array([0]), 2)).all()
    assert checked("policy-loops", case_on(table, [GO])) is None


@pytest.mark.parametrize(("visits", "share"), [([[1, 0], [0, 1], [0, 0]], 1.0), ([[1, 0], [0, 1], [1, 1]], None)])
def test_without_a_table_the_visited_states_count(visits, share):
    found = checked("one-action-collapse", unseen(q=np.array([GO, GO, STAY]), visits=np.array(visits)))
    if share is None:
        assert found is None
    else:
        assert (found.severity, found.source, found.evidence["share"]) == ("warning", "log", share)


def test_a_log_alone_reveals_one_action_collapse_too():
    found = checked("one-action-collapse", unseen(history=history(snapshot(10, action=1, share=1.0))))
    assert (found.source, found.evidence["action"]) == ("log", 1)
    assert isinstance(checked("one-action-collapse", unseen(history=history())), Unchecked)


def sampled(terminated, greedy):
    n = len(terminated)
    zeros = np.zeros(n, int)
    truncated = ~np.array(terminated)
    marks = np.array(greedy)
    counts = (int(marks.sum()), int((~marks).sum()))
    return Sample(zeros, zeros, zeros.astype(float), zeros, np.array(terminated), truncated, zeros + 1, marks, counts)


def test_without_a_table_greedy_episodes_are_compared_with_random_ones():
    bad = sampled([False, False, True, True], [True, True, False, False])
    found = checked("policy-loops", unseen(q=np.array([GO] * 3), sample=bad))
    assert (found.severity, found.source) == ("warning", "episodes")
    good = sampled([True, True, True, True], [True, True, False, False])
    assert checked("policy-loops", unseen(q=np.array([GO] * 3), sample=good)) is None
    assert isinstance(checked("policy-loops", unseen(q=np.array([GO] * 3))), Unchecked)


def test_without_a_table_a_policy_whose_episodes_never_end_is_found_by_its_steps():
    """More steps than are played pass before a time limit of 5,000 ends an episode."""
    endless = replace(sampled([False, False, True, True], [True, True, False, False]), episodes=(0, 2))
    found = checked("policy-loops", unseen(q=np.array([GO] * 3), sample=endless))
    assert found.summary == "none of its episodes ended in 2 steps; 0% of random ones do not"
    nothing = replace(sampled([False] * 4, [True, True, False, False]), episodes=(0, 0))
    assert checked("policy-loops", unseen(q=np.array([GO] * 3), sample=nothing)).why == "no episode ended in 4 steps"


def test_a_policy_that_earns_by_going_on_is_no_loop():
    """As on CartPole, where every step earns 1."""
    balanced = sampled([False, False, True, True], [True, True, False, False])
    balanced = replace(balanced, reward=np.ones(4))
    assert checked("policy-loops", unseen(q=np.array([GO] * 3), sample=balanced)) is None


def test_where_random_episodes_end_by_the_time_limit_too_nothing_is_said_of_loops():
    found = checked(
        "policy-loops", unseen(q=np.array([GO] * 3), sample=sampled([False] * 4, [True, True, False, False]))
    )
    assert found == Unchecked("random episodes do not end by themselves either")
