from __future__ import annotations

import numpy as np
import pytest

import deeptaxi
from deeptaxi.errors import DeepTaxiError
from deeptaxi.mdp import successors as module
from deeptaxi.mdp import table as table_module
from deeptaxi.mdp.table import TableError, from_rows, from_successors

STATES, ACTIONS = 5, 2
START = [1.0, 0, 0, 0, 0]


def walk(state, action):
    """Left or right on a line of five; a step fails one time in four, and the right end is worth 3."""
    target = max(state - 1, 0) if action == 0 else state + 1
    if target == STATES - 1:
        return [(0.75, target, 3.0, True), (0.25, state, -1.0, False)]
    return [(0.75, target, -1.0, False), (0.25, state, -1.0, False)]


def replaced(returned, where=(3, 1)):
    """The same walk, but for what one pair returns."""
    return lambda state, action: returned if (state, action) == where else walk(state, action)


def assert_same(found, expected):
    for name in ("probability", "next_state", "reward", "terminated", "start"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.action_mask is None) == (expected.action_mask is None)
    if expected.action_mask is not None:
        np.testing.assert_array_equal(found.action_mask, expected.action_mask)


def test_a_table_is_what_the_same_rows_make():
    found = deeptaxi.TransitionTable.from_successors(
        STATES, ACTIONS, lambda s, a: () if s == 4 else walk(s, a), START, discount=0.9, action_names=("l", "r")
    )
    rows = [[() if s == 4 else walk(s, a) for a in range(ACTIONS)] for s in range(STATES)]
    assert_same(found, from_rows(rows, START))
    assert (found.discount, found.action_names) == (0.9, ("l", "r"))


def test_outcomes_that_agree_are_merged_and_impossible_ones_dropped():
    rows = [(0.5, 0, 1.0, False), (0.25, 0, 1.0, False), (0.0, 99, np.nan, False), (0.25, 0, 1.0, True)]
    found = from_successors(1, 1, lambda _s, _a: iter(rows), [1.0])
    assert found.probability.tolist() == [[[0.75, 0.25]]]
    assert found.terminated.tolist() == [[[False, True]]]


def test_a_pair_without_outcomes_is_excluded_beside_a_given_mask():
    mask = np.ones((STATES, ACTIONS), bool)
    mask[1, 0] = False
    found = from_successors(STATES, ACTIONS, lambda s, a: [] if (s, a) == (0, 0) or s == 4 else walk(s, a), START)
    assert np.argwhere(~found.action_mask).tolist() == [[0, 0]]
    found = from_successors(
        STATES, ACTIONS, lambda s, a: [] if (s, a) == (0, 0) or s == 4 else walk(s, a), START, action_mask=mask
    )
    assert np.argwhere(~found.action_mask).tolist() == [[0, 0], [1, 0]]


def test_a_reward_of_minus_infinity_excludes_its_action():
    end = replaced([(1.0, 2, -np.inf, False)])
    found = from_successors(STATES, ACTIONS, lambda s, a: [] if s == 4 else end(s, a), START)
    assert np.argwhere(~found.action_mask).tolist() == [[3, 1]]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([(0.5, 2, 0.0, False), (0.4, 3, 0.0, False)], "has probabilities that sum to 0.9, not to 1"),
        ([(np.nan, 2, 0.0, False)], "has probabilities that sum to nan, not to 1"),
        ([(1.5, 2, 0.0, False), (-0.5, 2, 0.0, False)], "holds the probability -0.5: probabilities are at least 0"),
        ([(1.0, 5, 0.0, False)], "leads to state 5: expected 0 to 4"),
        ([(1.0, -1, 0.0, False)], "leads to state -1: expected 0 to 4"),
        ([(1.0, 2.5, 0.0, False)], "leads to state 2.5: expected 0 to 4"),
        ([(1.0, 2, np.nan, False)], "holds the reward nan: expected at most 1e+30 in magnitude"),
        ([(1.0, 2, np.inf, False)], "holds the reward inf: expected at most 1e+30 in magnitude"),
        ([(1.0, 2, -1e31, False)], "holds the reward -1e+31: expected at most 1e+30 in magnitude"),
        ([(1.0, 2, 0.0)], "is [(1.0, 2, 0.0)]: expected [(probability, next_state, reward, terminated), …]"),
        ([("x", 2, 0.0, False)], "is [('x', 2, 0.0, False)]: expected [(probability, next_state,"),
        ([(1.0, "x", 0.0, False)], "is [(1.0, 'x', 0.0, False)]: expected [(probability, next_state,"),
        (None, "is None: expected [(probability, next_state, reward, terminated), …]"),
        ((1.0, 2, 0.0, False), "is (1.0, 2, 0.0, False): expected [(probability,"),
    ],
)
def test_unfit_outcomes_are_refused_with_their_state_and_action(returned, message):
    with pytest.raises(TableError) as caught:
        from_successors(STATES, ACTIONS, replaced(returned), START)
    assert str(caught.value).startswith(f"successors(3, 1) {message}")


def test_what_the_function_raises_is_passed_on_with_its_pair():
    def broken(state, action):
        return {}[state] if state == 2 else walk(state, action)

    with pytest.raises(KeyError) as caught:
        from_successors(STATES, ACTIONS, broken, START)
    assert caught.value.__notes__ == ["in successors(2, 0)"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": 0}, "states: expected a number of 1 or more, received 0"),
        ({"states": 2.5}, "states: expected a number of 1 or more, received 2.5"),
        ({"actions": True}, "actions: expected a number of 1 or more, received True"),
        ({"start": [0.5] + [0.0] * 4}, "start sums to 0.5, not to 1"),
        ({"start": [1.0]}, "start: expected shape [5], received [1]"),
        ({"factors": (2, 2)}, "factors [2, 2] make 4 states, not 5"),
        ({"discount": 2}, "discount: expected a number between 0 and 1, received 2"),
        ({"action_names": ["l"]}, "action_names: expected 2 names, received 1"),
    ],
)
def test_what_no_outcomes_could_mend_is_refused_before_the_first_call(change, message):
    def never(_state, _action):
        pytest.fail("was called")

    with pytest.raises(DeepTaxiError) as caught:
        from_successors(**{"states": STATES, "actions": ACTIONS, "successors": never, "start": START, **change})
    assert str(caught.value) == message


def test_an_unknown_field_is_refused_before_the_first_call():
    with pytest.raises(TypeError, match="'discont'; did you mean 'discount'"):
        from_successors(STATES, ACTIONS, walk, START, discont=0.9)


def test_a_table_larger_than_memory_is_refused_as_soon_as_that_is_known(monkeypatch):
    with pytest.raises(TableError, match=r"a table of 1,000,000,000,000 × 4 × 1 outcomes takes 372,529.0 GiB, and"):
        from_successors(10**12, 4, walk, START)
    monkeypatch.setattr(table_module, "memory_exceeded", lambda size: "no" if size > STATES * ACTIONS * 100 else None)
    called = []

    def widening(state, action):
        called.append((state, action))
        return [(0.5, 0, 0.0, False), (0.5, 1, 0.0, False)] if state == 2 else [(1.0, 0, 0.0, False)]

    with pytest.raises(TableError, match="a table of 5 × 2 × 2 outcomes takes"):
        from_successors(STATES, ACTIONS, widening, START)
    assert called[-1] == (2, 0)


def test_progress_tells_states_done_and_of_all(monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.0)
    told = []
    from_successors(STATES, ACTIONS, lambda s, a: [] if s == 4 else walk(s, a), START, lambda *c: told.append(c))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (5, 5)]
