from __future__ import annotations

import numpy as np
from keras import ops

from deeptaxi.program import Program

ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


def numbers(x):
    return ops.convert_to_numpy(x)


def check_compiled():
    """Change a state in place by two functions, and read it in between, on this backend."""

    def add(state, amount):
        sums, hole, nested = state
        return sums + amount, hole, (nested[0] + 1,)

    program = Program({"add": add, "clear": lambda state: (0.0 * state[0], *state[1:])}, (ROWS, None, (np.int32(0),)))
    for _ in range(3):
        program("add", program.arguments(np.float32(2)))
    sums, hole, nested = program.state
    np.testing.assert_array_equal(numbers(sums), ROWS + 6)
    assert (hole, int(nested[0])) == (None, 3)
    program("clear")
    assert not numbers(program.state[0]).any()
    assert ROWS.any()  # what it began with is not its own


def test_a_state_is_changed_in_place_and_can_be_read_in_between():
    check_compiled()
