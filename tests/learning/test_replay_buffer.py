from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.learning.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer
from tests.learning.helpers import rows_of, summed, transitions


def numbered(*numbers):
    """One transition a number, recognizable in each of its parts; every tenth ends its episode, by turns of both."""
    return transitions(*((n, n + 1, n / 2, n + 2, n % 20 == 9, n % 20 == 19) for n in numbers))


def filled(replay, count, copies=1):
    """Add numbered transitions, in rounds of so many copies."""
    for first in range(0, count, copies):
        replay.add(numbered(*range(first, first + copies)))
    return replay


def drawable(replay):
    """Return the numbers of the transitions that can be drawn; 500 draws miss one of ten with a chance of 10⁻²²."""
    return sorted({state for state, *_ in rows_of(replay.sample(500, np.random.default_rng(0)))})


@pytest.mark.parametrize(
    ("count", "copies", "steps", "expected"),
    [
        pytest.param(2, 1, 1, [0, 1], id="only-what-was-added"),
        pytest.param(7, 1, 1, list(range(7)), id="just-full"),
        pytest.param(8, 1, 1, list(range(1, 8)), id="the-oldest-goes-first"),
        pytest.param(30, 1, 1, list(range(23, 30)), id="several-times-round"),
        pytest.param(4, 2, 1, [0, 1, 2, 3], id="two-copies"),
        pytest.param(8, 2, 1, [2, 3, 4, 5, 6, 7], id="two-copies-in-a-ring-of-six"),
        pytest.param(3, 1, 3, [0], id="the-first-of-three-steps"),
        pytest.param(9, 1, 3, [2, 3, 4, 5, 6], id="the-newest-two-wait"),
        pytest.param(6, 2, 3, [0, 1], id="the-newest-two-rounds-wait"),
        pytest.param(12, 2, 2, [6, 7, 8, 9], id="the-newest-round-waits-when-full"),
    ],
)
def test_a_transition_is_drawn_from_its_last_successor_on_until_it_is_overwritten(count, copies, steps, expected):
    replay = filled(ReplayBuffer(7, copies, steps, 0.5), count, copies)
    assert drawable(replay) == expected
    assert len(replay) == len(expected)
    assert replay.added == count


def test_the_capacity_is_rounded_down_to_a_multiple_of_the_environments():
    assert [ReplayBuffer(capacity, 3, 1, 0.5).capacity for capacity in (9, 10, 11, 12)] == [9, 9, 9, 12]


def test_nothing_can_be_drawn_before_n_steps_are_stored():
    replay = ReplayBuffer(10, 1, 3, 0.5)
    lengths = []
    for n in range(4):
        replay.add(numbered(n))
        lengths.append(len(replay))
    assert lengths == [0, 0, 1, 2]


@given(copies=st.integers(1, 4), rounds=st.integers(1, 8), added=st.integers(1, 30), steps=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_minibatch_agrees_with_a_queue_of_rounds(copies, rounds, added, steps):
    rounds, added = max(rounds, steps), max(added, steps)
    replay, queue = ReplayBuffer(copies * rounds, copies, steps, 0.5), deque(maxlen=rounds)
    for number in range(added):
        first = copies * number
        replay.add(numbered(*range(first, first + copies)))
        queue.append(rows_of(numbered(*range(first, first + copies))))
    expected = {}
    for start in range(len(queue) - steps + 1):
        for copy in range(copies):
            state, action = queue[start][copy][:2]
            sequence = [queue[start + k][copy] for k in range(steps)]
            expected[state] = (state, action, *summed(sequence, 0.5), 1.0)
    drawn = rows_of(replay.sample(400, np.random.default_rng(0)))
    assert drawn == [expected[row[0]] for row in drawn]
    assert len(replay) == len(expected)


@pytest.mark.parametrize("kind", [ReplayBuffer, PrioritizedReplayBuffer])
def test_sums_end_before_the_actions_that_are_not_greedy(kind):
    # Transition n is of state n and action n + 1, and earns n/2; γ = ½. Those of an even number are not greedy.
    replay = filled(kind(12, 2, 3, 0.5, *[0.5] * (2 if kind is PrioritizedReplayBuffer else 0)), 8, 2)
    asked = []

    def greedy(states, actions):
        asked.append((states, actions))
        return states % 2 == 1

    drawn = replay.sample(60, np.random.default_rng(0), 0.0, greedy)
    assert {row[:5] for row in rows_of(drawn)} == {
        (0, 1, 0.0, 2, 0.5),  # cut before transition 2
        (1, 2, 0.5 + 0.75 + 0.625, 7, 0.125),  # then 3 and 5
        (2, 3, 1.0, 4, 0.5),
        (3, 4, 1.5 + 1.25 + 0.875, 9, 0.125),
    }
    ((states, actions),) = asked
    assert states.shape == (60, 2)
    np.testing.assert_array_equal(states, drawn.states[:, None] + [2, 4])
    np.testing.assert_array_equal(actions, states + 1)


def test_a_minibatch_has_the_types_that_networks_expect():
    batch = filled(ReplayBuffer(4, 1, 2, 0.5), 6).sample(5, np.random.default_rng(0))
    kinds = [np.int32, np.int32, np.float32, np.int32, np.float32, np.float32]
    assert [column.dtype for column in batch] == kinds
    assert [column.shape for column in batch] == [(5,)] * 6


def test_every_transition_is_drawn_equally_often():
    # 10,000 draws from 10: 1,000 each with a standard deviation of √(10000·0.1·0.9) = 30; 120 is four of them.
    replay = filled(ReplayBuffer(10, 1, 1, 0.5), 13)
    draws = replay.sample(10_000, np.random.default_rng(0)).states
    np.testing.assert_allclose(np.bincount(draws, minlength=13)[3:], 1_000, atol=120)


def test_a_minibatch_does_not_change_when_transitions_are_added():
    replay = filled(ReplayBuffer(2, 1, 1, 0.5), 2)
    batch = replay.sample(3, np.random.default_rng(0))
    before = rows_of(batch)
    filled(replay, 2)
    assert rows_of(batch) == before


def prioritized(capacity, copies=1, steps=1, priority_exponent=1.0, importance_exponent=0.5):
    return PrioritizedReplayBuffer(capacity, copies, steps, 0.5, priority_exponent, importance_exponent)


def drawn_states(replay, count=1_000, seed=0):
    return replay.sample(count, np.random.default_rng(seed)).states


def rate(replay, errors):
    """Draw until every transition has been rated, by an error that is a function of its number."""
    for seed in range(200):
        states = drawn_states(replay, 64, seed)
        replay.update_priorities(np.array([errors[state] for state in states], np.float32))


# Transitions have numbers; those that can be drawn are the same as by the uniform replay buffer.
@pytest.mark.parametrize(
    ("count", "copies", "steps", "expected"),
    [
        pytest.param(2, 1, 1, [0, 1], id="only-what-was-added"),
        pytest.param(30, 1, 1, list(range(23, 30)), id="several-times-round"),
        pytest.param(8, 2, 1, [2, 3, 4, 5, 6, 7], id="two-copies"),
        pytest.param(3, 1, 3, [0], id="the-first-of-three-steps"),
        pytest.param(30, 1, 3, [23, 24, 25, 26, 27], id="the-newest-two-wait"),
        pytest.param(12, 2, 2, [6, 7, 8, 9], id="the-newest-round-waits"),
        pytest.param(14, 1, 7, [7], id="one-sequence-in-all"),
    ],
)
def test_prioritized_sampling_draws_the_same_transitions_as_uniform_sampling(count, copies, steps, expected):
    replay = filled(prioritized(7, copies, steps), count, copies)
    assert sorted(set(drawn_states(replay).tolist())) == expected
    rate(replay, dict.fromkeys(expected, 1.0))  # a rating brings back nothing that waits
    assert sorted(set(drawn_states(replay).tolist())) == expected


def test_transitions_are_drawn_in_proportion_to_their_td_errors():
    # α = 1: 1 to 2 to 5 of 8. Of 8,000 stratified draws each gets its share but for the strata at the borders.
    replay = filled(prioritized(3), 3)
    rate(replay, {0: 1.0, 1: 2.0, 2: 5.0})
    np.testing.assert_allclose(np.bincount(drawn_states(replay, 8_000)), [1_000, 2_000, 5_000], atol=2)


@pytest.mark.parametrize(("exponent", "shares"), [(0.0, [1 / 2, 1 / 2]), (0.5, [1 / 3, 2 / 3]), (1.0, [1 / 5, 4 / 5])])
def test_the_priority_exponent_weighs_the_td_error(exponent, shares):
    replay = filled(prioritized(2, priority_exponent=exponent), 2)
    rate(replay, {0: 1.0, 1: 4.0})
    np.testing.assert_allclose(np.bincount(drawn_states(replay, 6_000)) / 6_000, shares, atol=1e-3)


def test_a_new_transition_gets_the_largest_priority_so_far():
    # 0 and 1 are rated 8 and then 1; so the third has 8 of 10.
    replay = filled(prioritized(3), 2)
    rate(replay, {0: 8.0, 1: 8.0})
    rate(replay, {0: 1.0, 1: 1.0})
    replay.add(numbered(2))
    np.testing.assert_allclose(np.bincount(drawn_states(replay, 10_000)), [1_000, 1_000, 8_000], atol=2)


def test_a_transition_does_not_inherit_the_priority_of_the_one_it_overwrites():
    replay = filled(prioritized(2), 2)
    rate(replay, {0: 0.25, 1: 0.5})
    replay.add(numbered(2))  # in the place of 0, with the largest so far: that of the start, 1
    np.testing.assert_allclose(np.bincount(drawn_states(replay, 6_000)), [0, 2_000, 4_000], atol=2)


@pytest.mark.parametrize(("progress", "exponent"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_the_importance_weights_rise_to_full_strength(progress, exponent):
    # P = (¼, ¾): by the definition the weights are as (1/P)^β, that of the rarer one being 1.
    replay = filled(prioritized(2), 2)
    rate(replay, {0: 1.0, 1: 3.0})
    batch = replay.sample(400, np.random.default_rng(0), progress)
    assert set(batch.states.tolist()) == {0, 1}
    np.testing.assert_allclose(batch.weights, np.where(batch.states == 0, 1, (1 / 3) ** exponent), rtol=1e-5)


def test_a_prioritized_minibatch_has_the_columns_of_a_uniform_one():
    replay = filled(prioritized(6, copies=2, steps=2), 10, 2)
    batch = replay.sample(50, np.random.default_rng(0))
    uniform = filled(ReplayBuffer(6, 2, 2, 0.5), 10, 2).sample(200, np.random.default_rng(0))
    assert {row[:5] for row in rows_of(batch)} == {row[:5] for row in rows_of(uniform)}
    assert [column.dtype for column in batch] == [column.dtype for column in uniform]


def test_equal_draws_come_from_equal_seeds():
    one, other = (filled(prioritized(5), 8) for _ in range(2))
    assert drawn_states(one, 7, seed=3).tolist() == drawn_states(other, 7, seed=3).tolist()
    assert drawn_states(one, 7, seed=3).tolist() != drawn_states(other, 7, seed=5).tolist()
