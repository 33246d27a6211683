from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.mdp import planning, remembered_values, sparse_rows, stopping
from deeptaxi.mdp.stopping import StopPlanning, check_stop, stop_planning_when
from tests.problems import build, surely

COUNT = 400  # states of a corridor


def corridor():
    """Return a corridor that is left at its end, with one action that goes on and one that goes back."""
    return build(
        [[surely(min(s + 1, COUNT - 1), -1, s == COUNT - 1), surely(max(s - 1, 0), -1, False)] for s in range(COUNT)]
    )


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Ask at every check, and give no time to end in."""
    monkeypatch.setattr(stopping, "EVERY", 0.0)
    monkeypatch.setattr(stopping, "GRACE", 0.0)


def test_nothing_is_asked_outside_and_nothing_happens_until_asked_to_stop():
    check_stop()
    with stop_planning_when(lambda: False):
        check_stop()
    with stop_planning_when(lambda: True), pytest.raises(StopPlanning):
        check_stop()
    check_stop()


def test_the_question_is_asked_from_time_to_time_and_some_time_is_left_to_end_in(monkeypatch):
    monkeypatch.setattr(stopping, "EVERY", 10.0)
    monkeypatch.setattr(stopping, "GRACE", 1.0)
    clock, asked = [100.0], []
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    with stop_planning_when(lambda: asked.append(clock[0]) or len(asked) > 1):
        for moment in (100.0, 105.0, 110.0, 110.9):
            clock[0] = moment
            check_stop()
        clock[0] = 111.0
        with pytest.raises(StopPlanning):
            check_stop()
    assert asked == [100.0, 110.0]


WORK = {
    "value iteration": lambda table: planning.value_iteration(table, 0.99),
    "at discount 1": lambda table: planning.value_iteration(table, 1.0),
    "horizon": lambda table: planning.optimal_horizon(table, 50),
    "policy": lambda table: planning.evaluate_policy(table, np.zeros(COUNT, np.int64), 0.99),
    "returns": lambda table: planning.evaluate_returns(table, np.zeros(COUNT, np.int64), 50),
    "lengths": lambda table: planning.evaluate_lengths(table, np.zeros(COUNT, np.int64), 50),
    "improvement": lambda table: planning.improve_policy(table, 0.99, np.ones(COUNT, np.int64)),
    "reachable": planning.reachable,
}


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_all_planning_ends_when_asked_to_and_leaves_nothing_half_done(work, sparse, monkeypatch):
    monkeypatch.setattr(sparse_rows, "SPARSE_FROM", 0 if sparse else 10**9)
    monkeypatch.setattr(planning, "DIRECT", 0)
    monkeypatch.setattr(planning, "FEW", 0)
    monkeypatch.setattr(remembered_values, "folder_of_values", lambda: None)
    table, whole, calls = corridor(), work(corridor()), 0
    ends = 0
    while True:  # at the first check, at the second, and so on

        def stop(at=ends):
            nonlocal calls
            calls += 1
            return calls > at

        calls = 0
        try:
            with stop_planning_when(stop):
                found = work(table)
            break
        except StopPlanning:
            ends = ends + 1 if ends < 20 else 2 * ends
    assert ends > 0
    for name in ("value", "returns", "q"):
        if hasattr(whole, name):
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    if isinstance(whole, np.ndarray):
        np.testing.assert_array_equal(found, whole)
