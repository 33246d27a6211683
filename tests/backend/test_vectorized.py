"""Tasks that take turns, and the programs that they call at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from deeptaxi.backend import vectorized
from deeptaxi.backend.program import borrow_program
from deeptaxi.backend.vectorized import Task, current_task, run_together


def pausing(name: str, times: int, seen: list[str]) -> Callable[[], str]:
    def function() -> str:
        task = current_task.get()
        assert task is not None
        for number in range(times):
            seen.append(f"{name}{number}")
            task.pause()
        return name

    return function


def test_tasks_take_turns_and_end_in_their_own_time() -> None:
    seen: list[str] = []
    together = run_together([pausing("a", 2, seen), pausing("b", 1, seen), pausing("c", 3, seen)])
    assert list(together) == ["b", "a", "c"]
    assert seen == ["a0", "b0", "c0", "a1", "c1", "c2"]


def test_an_error_is_that_of_its_task() -> None:
    def fail() -> str:
        raise ValueError("of this one")

    together = run_together([pausing("a", 1, []), fail])
    with pytest.raises(ValueError, match="of this one"):
        list(together)
    assert threading.active_count() == 1 or not [one for one in threading.enumerate() if one.name.startswith("task")]


def test_what_is_not_wanted_any_more_is_ended() -> None:
    ended: list[str] = []

    def function() -> str:
        task = current_task.get()
        assert task is not None
        try:
            task.pause()
            return "never"
        finally:
            ended.append("closed its files")

    before = threading.active_count()
    together: Iterator[str] = run_together([lambda: "first", function, function])
    assert next(together) == "first"
    together.close()  # before the others had their turn
    task = Task(function)
    task.resume()
    task.abandon()
    assert ended == ["closed its files"]
    assert threading.active_count() == before


def test_a_task_sees_the_context_that_it_was_made_in() -> None:
    assert current_task.get() is None
    assert list(run_together([lambda: current_task.get() is not None])) == [True]
    assert current_task.get() is None


def add(state: tuple[np.ndarray, None], shared: np.ndarray, seed: np.ndarray, times: np.ndarray) -> tuple[object, None]:
    """Add the seed and what all have in common, `times` times."""
    return state[0] + times * (shared.sum() + seed), None


def count(seed: int, calls: int) -> tuple[int, list[int]]:
    """Call a program; return the seed, and the state after each call."""
    program = borrow_program(None, {"add": add}, (np.zeros(2, np.int32), None), object())
    assert program.in_step
    shared, own = program.arguments((np.array([1, 2], np.int32), np.int32(seed)))
    found: list[int] = [int(program.state[0][0])]
    for number in range(calls):
        program("add", shared, own, program.arguments(np.int32(number)))
        found.append(int(program.state[0][1]))
    return seed, found


def check_calls() -> None:
    """On JAX: each task has the state that it would have alone, also after others have ended."""
    ends = {0: 4, 1: 1, 2: 1, 3: 6, 4: 0}
    found = dict(run_together([partial(count, seed, calls) for seed, calls in ends.items()]))
    for seed, calls in ends.items():
        expected = np.cumsum([0, *(number * (3 + seed) for number in range(calls))])
        assert found[seed] == expected.tolist()
    assert not vectorized.on_accelerator()


def check_different_calls() -> None:
    """On JAX: a task that calls something else is an error, not a wrong result."""

    def other() -> None:
        program = borrow_program(None, {"add": add, "sub": add}, (np.zeros(2, np.int32), None), object())
        program("sub", np.zeros(1, np.int32), np.int32(0), np.int32(0))

    with pytest.raises(RuntimeError, match="different calls"):
        list(run_together([partial(count, 0, 2), other]))  # type: ignore[list-item]
