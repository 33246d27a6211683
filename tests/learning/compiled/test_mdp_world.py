from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from deeptaxi.backend import keras_backend, xla
from deeptaxi.learning.compiled.mdp import Sizes, any_state, compile_mdp, outcome, start_state
from deeptaxi.mdp.table import from_arrays
from tests.learning.helpers import alias_shares, numbers
from tests.problems import SOUND, build, chain, random_table, surely
from tests.problems import river_swim as river


def world_of(table, reward_scale=1.0, allowed=None, reachable=None):
    everywhere = np.ones(table.states, np.bool_) if reachable is None else np.array(reachable)
    return compile_mdp(table, reward_scale, allowed, everywhere, 0)


def test_a_world_is_the_table_under_the_numbers_of_outcomes():
    table = from_arrays(**SOUND)
    mdp = world_of(table, reward_scale=2.0)
    assert mdp.next_state.tolist() == [0, 1, 1, 0]
    assert mdp.reward.tolist() == [4, 2, -0.5, 0]
    assert mdp.terminated.tolist() == [True, False, True, True]
    assert alias_shares(mdp.share[:2], mdp.alias[:2]) == [Fraction(1, 4), Fraction(3, 4)]
    assert alias_shares(mdp.share[2:], mdp.alias[2:]) == [1, 0]
    assert (mdp.starts.tolist(), mdp.start_share) == ([0, 1], None)
    assert mdp.allowed is None


def test_where_nothing_is_left_to_chance_there_is_nothing_to_look_up():
    mdp = world_of(chain(start=1), reachable=[False, True, True])
    assert (mdp.share, mdp.alias, mdp.start_share, mdp.start_alias) == (None, None, None, None)
    assert (mdp.starts.tolist(), mdp.anywhere.tolist()) == ([1], [1, 2])
    sizes = Sizes(3, 2, 1, None)
    assert numbers(outcome(mdp, sizes, np.array([0, 2]), np.array([1, 0]), None, None)).tolist() == [1, 4]


def test_outcomes_follow_the_draw_through_the_alias_table():
    # State 0: slot 0 is kept below ¼·2 = ½, else it is outcome 1; slot 1 is outcome 1. State 1 has one outcome.
    mdp, sizes = world_of(from_arrays(**SOUND)), Sizes(2, 1, 2, None)
    pick, uniform = np.array([0, 2, 1, 5, 2**31 - 2]), np.array([0.49, 0.5, 0.0, 0.99, 0.3], np.float32)
    states, actions = np.array([0, 0, 0, 1, 1], np.int32), np.zeros(5, np.int32)
    drawn = numbers(outcome(mdp, sizes, states, actions, pick.astype(np.int32), uniform))
    assert drawn.tolist() == [0, 1, 1, 2, 2]


COUNT = 100_000


def drawn(function, count=COUNT):
    """Return ``function(pick, uniform)`` of random numbers, compiled."""

    def step(index):
        bits = xla.random_bits(7, index, (2, count))
        return function(xla.naturals(bits[0]), xla.fractions(bits[1]))

    return numbers(keras_backend.compiled(step, [])(np.int32(3)))


def assert_frequencies(found, probability):
    """By Hoeffding's inequality a share of n draws is off by √(ln(2/δ)/2n) or more with probability δ at most: 1e−9.

    The seeds are fixed, so what passes once passes always.
    """
    bound = np.sqrt(np.log(2 / 1e-9) / (2 * len(found)))
    shares = np.bincount(found, minlength=len(probability)) / len(found)
    np.testing.assert_allclose(shares, probability, atol=bound)
    assert not shares[np.asarray(probability) == 0].any()


@pytest.mark.parametrize("table", [river(), random_table(3, states=3, actions=2, outcomes=4)], ids=["river", "random"])
def test_outcomes_have_the_frequencies_of_the_table(table):
    mdp = world_of(table)
    sizes = Sizes(*table.probability.shape, None)
    pairs = table.states * table.actions
    per_pair = COUNT // pairs
    states, actions = np.indices((table.states, table.actions)).reshape(2, -1).repeat(per_pair, axis=1).astype(np.int32)
    found = drawn(lambda pick, uniform: outcome(mdp, sizes, states, actions, pick, uniform), len(states))
    assert (found // sizes.outcomes == states * table.actions + actions).all()
    for pair in range(pairs):
        of_pair = found[pair * per_pair : (pair + 1) * per_pair] - pair * sizes.outcomes
        assert_frequencies(of_pair, table.probability.reshape(pairs, -1)[pair])


@pytest.mark.parametrize("start", [[0.0, 0.5, 0.0, 0.5], [0.1, 0.0, 0.2, 0.7], [0.0, 0.0, 1.0, 0.0]])
def test_episodes_start_as_often_as_the_table_says(start):
    mdp = world_of(build([[surely(0, 1)]] * 4, start))
    assert (mdp.start_share is None) == (len(set(start) - {0.0}) == 1)
    assert_frequencies(drawn(lambda pick, uniform: start_state(mdp, pick, uniform)), start)


def test_exploring_starts_are_anywhere_that_can_be_reached():
    mdp = world_of(chain(), reachable=[True, False, True])
    assert_frequencies(drawn(lambda pick, _: any_state(mdp, pick)), [0.5, 0, 0.5])
