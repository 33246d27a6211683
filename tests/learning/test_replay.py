from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.learning.replay import Replay
from tests.learning.helpers import rows_of, transitions


def numbered(*numbers):
    """One transition a number, recognisable in each of its parts."""
    return transitions(*((n, n + 1, n / 2, n + 2, n % 2 == 1) for n in numbers))


def kept(replay):
    """Return the numbers of the transitions that can be drawn; 500 draws miss one of ten with a chance of 10⁻²²."""
    return sorted({state for state, *_ in rows_of(replay.sample(500, np.random.default_rng(0)))})


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([[1], [2]], [1, 2], id="only-what-was-added"),
        pytest.param([[1, 2, 3]], [1, 2, 3], id="just-full"),
        pytest.param([[1, 2], [3, 4]], [2, 3, 4], id="round-the-end"),
        pytest.param([[1, 2, 3], [4]], [2, 3, 4], id="the-oldest-goes-first"),
        pytest.param([[1, 2, 3, 4, 5, 6, 7]], [5, 6, 7], id="more-than-fit-at-once"),
        pytest.param([[1], [2, 3, 4, 5, 6], [7]], [5, 6, 7], id="more-than-fit-then-one"),
    ],
)
def test_the_last_transitions_are_kept(chunks, expected):
    replay = Replay(capacity=3)
    for chunk in chunks:
        replay.add(numbered(*chunk))
    assert kept(replay) == expected
    assert len(replay) == len(expected)
    assert replay.added == sum(map(len, chunks))


@given(capacity=st.integers(1, 10), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_the_ring_keeps_what_a_queue_of_that_length_keeps(capacity, sizes):
    replay, queue, first = Replay(capacity), deque(maxlen=capacity), 1
    for size in sizes:
        replay.add(numbered(*range(first, first + size)))
        queue.extend(range(first, first + size))
        first += size
    assert kept(replay) == list(queue)


def test_the_parts_of_a_transition_stay_together():
    replay = Replay(capacity=4)
    replay.add(numbered(*range(6)))
    batch = replay.sample(50, np.random.default_rng(0))
    assert rows_of(batch) == rows_of(numbered(*batch.states))
    assert [column.dtype for column in batch] == [column.dtype for column in numbered(0)]


def test_every_transition_is_drawn_equally_often():
    # 10,000 draws from 10: 1,000 each with a standard deviation of √(10000·0.1·0.9) = 30; 120 is four of them.
    replay = Replay(capacity=10)
    replay.add(numbered(*range(13)))
    draws = replay.sample(10_000, np.random.default_rng(0)).states
    np.testing.assert_allclose(np.bincount(draws, minlength=13)[3:], 1_000, atol=120)


def test_a_minibatch_does_not_change_when_the_ring_moves_on():
    replay = Replay(capacity=2)
    replay.add(numbered(0, 1))
    batch = replay.sample(3, np.random.default_rng(0))
    before = rows_of(batch)
    replay.add(numbered(7, 8))
    assert rows_of(batch) == before
