from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.learning.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer
from tests.learning.helpers import rows_of
from tests.learning.test_replay_buffer import filled, numbered


def memory(capacity, copies=1, steps=1, priority_exponent=1.0, importance_exponent=0.5):
    return PrioritizedReplayBuffer(capacity, copies, steps, 0.5, priority_exponent, importance_exponent)


def drawn_states(replay, count=1_000, seed=0):
    return replay.sample(count, np.random.default_rng(seed)).states


def rate(replay, errors):
    """Draw until every transition has been rated, by an error that is a function of its number."""
    for seed in range(200):
        states = drawn_states(replay, 64, seed)
        replay.update_priorities(np.array([errors[state] for state in states], np.float32))


# Transitions have numbers; those that can be drawn are the same as by the uniform memory.
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
def test_what_has_its_successors_is_drawn_as_long_as_it_is_kept(count, copies, steps, expected):
    replay = filled(memory(7, copies, steps), count, copies)
    assert sorted(set(drawn_states(replay).tolist())) == expected
    rate(replay, dict.fromkeys(expected, 1.0))  # a rating brings back nothing that waits
    assert sorted(set(drawn_states(replay).tolist())) == expected


def test_transitions_are_drawn_in_proportion_to_their_td_errors():
    # α = 1: 1 to 2 to 5 of 8. Of 8,000 stratified draws each gets its share but for the strata at the borders.
    replay = filled(memory(3), 3)
    rate(replay, {0: 1.0, 1: 2.0, 2: 5.0})
    np.testing.assert_allclose(np.bincount(drawn_states(replay, 8_000)), [1_000, 2_000, 5_000], atol=2)


@pytest.mark.parametrize(("exponent", "shares"), [(0.0, [1 / 2, 1 / 2]), (0.5, [1 / 3, 2 / 3]), (1.0, [1 / 5, 4 / 5])])
def test_the_exponent_says_how_much_the_td_error_counts(exponent, shares):
    replay = filled(memory(2, priority_exponent=exponent), 2)
    rate(replay, {0: 1.0, 1: 4.0})
    np.testing.assert_allclose(np.bincount(drawn_states(replay, 6_000)) / 6_000, shares, atol=1e-3)


def test_a_new_transition_gets_the_largest_priority_there_has_been():
    # 0 and 1 are rated 8 and then 1; so the third has 8 of 10.
    replay = filled(memory(3), 2)
    rate(replay, {0: 8.0, 1: 8.0})
    rate(replay, {0: 1.0, 1: 1.0})
    replay.add(numbered(2))
    np.testing.assert_allclose(np.bincount(drawn_states(replay, 10_000)), [1_000, 1_000, 8_000], atol=2)


def test_a_transition_that_takes_the_place_of_another_does_not_inherit_its_priority():
    replay = filled(memory(2), 2)
    rate(replay, {0: 0.25, 1: 0.5})
    replay.add(numbered(2))  # in the place of 0, with the largest so far: that of the start, 1
    np.testing.assert_allclose(np.bincount(drawn_states(replay, 6_000)), [0, 2_000, 4_000], atol=2)


@pytest.mark.parametrize(("progress", "exponent"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_the_importance_weights_rise_to_full_strength(progress, exponent):
    # P = (¼, ¾): by the definition the weights are as (1/P)^β, that of the rarer one being 1.
    replay = filled(memory(2), 2)
    rate(replay, {0: 1.0, 1: 3.0})
    batch = replay.sample(400, np.random.default_rng(0), progress)
    assert set(batch.states.tolist()) == {0, 1}
    np.testing.assert_allclose(batch.weights, np.where(batch.states == 0, 1, (1 / 3) ** exponent), rtol=1e-5)


def test_a_minibatch_has_the_parts_of_a_uniform_one():
    replay = filled(memory(6, copies=2, steps=2), 10, 2)
    batch = replay.sample(50, np.random.default_rng(0))
    uniform = filled(ReplayBuffer(6, 2, 2, 0.5), 10, 2).sample(200, np.random.default_rng(0))
    assert {row[:5] for row in rows_of(batch)} == {row[:5] for row in rows_of(uniform)}
    assert [column.dtype for column in batch] == [column.dtype for column in uniform]


def test_equal_draws_come_from_equal_seeds():
    one, other = (filled(memory(5), 8) for _ in range(2))
    assert drawn_states(one, 7, seed=3).tolist() == drawn_states(other, 7, seed=3).tolist()
    assert drawn_states(one, 7, seed=3).tolist() != drawn_states(other, 7, seed=4).tolist()
