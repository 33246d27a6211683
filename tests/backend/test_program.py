from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from deeptaxi.backend import program
from deeptaxi.backend.program import Program

ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


def numbers(x):
    return ops.convert_to_numpy(x)


def check_compiled():
    """Change a state in place by two functions, and read it in between, on this backend."""

    def add(state, amount):
        sums, hole, nested = state
        return sums + amount, hole, (nested[0] + 1,)

    made = Program({"add": add, "clear": lambda state: (0.0 * state[0], *state[1:])}, (ROWS, None, (np.int32(0),)))
    for _ in range(3):
        made("add", made.arguments(np.float32(2)))
    sums, hole, nested = made.state
    np.testing.assert_array_equal(numbers(sums), ROWS + 6)
    assert (hole, int(nested[0])) == (None, 3)
    assert int(made.read(lambda state: state[2][0])) == 3
    hole, (count,) = made.read(lambda state: state[1:])
    assert (hole, int(count)) == (None, 3)
    made("clear")
    assert not numbers(made.state[0]).any()
    assert ROWS.any()  # what it began with is not its own


def test_a_state_is_updated_in_place_and_can_be_read_between_calls():
    check_compiled()


class Owner:
    """Somebody who uses a program."""


@pytest.fixture
def idle(monkeypatch):
    """The programs that are idle, none at first."""
    monkeypatch.setattr(program, "_idle", {})
    return program._idle


def lent(owner, state=ROWS, kind="doubling"):
    return program.borrow_program(kind, {"double": lambda state: (state[0] * 2.0,)}, (state,), owner)


def test_a_program_is_reused_once_its_owner_is_gone(idle):
    owner = Owner()
    one = lent(owner)
    one("double")
    del owner
    another = Owner()
    again = lent(another, ROWS + 1)
    assert again is one
    np.testing.assert_array_equal(numbers(again.state[0]), ROWS + 1)
    again("double")
    np.testing.assert_array_equal(numbers(again.state[0]), 2 * ROWS + 2)


def test_a_program_in_use_or_of_another_kind_is_not_reused(idle):
    owners = [Owner() for _ in range(2)]
    one, two = (lent(owner) for owner in owners)
    assert one is not two
    owners.clear()
    assert list(idle.values()) in ([one], [two])
    for other in ({"kind": "other"}, {"state": ROWS[:2]}, {"state": ROWS.astype(np.int32)}):
        assert lent(Owner(), **other) not in (one, two)


def test_a_program_of_no_kind_is_never_reused(idle):
    one, two = (lent(Owner(), kind=None) for _ in range(2))
    assert one is not two
    assert not idle


def test_an_owner_in_a_reference_cycle_releases_its_program_when_another_asks_for_it(idle):
    owner = Owner()
    owner.itself = owner  # as the frames of a traceback do
    one = lent(owner)
    del owner
    assert lent(Owner()) is one


def test_few_programs_are_kept_and_no_large_ones(idle, monkeypatch):
    monkeypatch.setattr(program, "IDLE", 4)
    for number in range(program.IDLE + 2):
        lent(Owner(), kind=number)
    assert [kind for kind, _ in idle] == list(range(2, program.IDLE + 2))
    monkeypatch.setattr(program, "LARGEST", ROWS.nbytes - 1)
    idle.clear()
    lent(Owner())
    assert not idle
