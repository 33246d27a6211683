from __future__ import annotations

import re

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.errors import UsageError
from deeptaxi.mdp.binning import Bins, View, divide, lacking_options
from deeptaxi.mdp.spaces import ObservationError, state_codec

CART = Box(np.float32([-4.8, -np.inf, -0.4, -np.inf]), np.float32([4.8, np.inf, 0.4, np.inf]))


@pytest.mark.parametrize(
    ("value", "number"), [(-9, 0), (-1, 0), (-0.51, 0), (-0.5, 1), (0, 2), (0.49, 2), (0.5, 3), (1, 3), (9, 3)]
)
def test_bins_are_of_equal_width_and_the_outer_ones_take_what_lies_outside(value, number):
    assert Bins(4, -1, 1).number(value) == number


def test_the_middle_stands_for_a_bin_and_the_bounds_are_levels():
    assert [Bins(4, -1, 1).middle(i) for i in range(4)] == [-0.75, -0.25, 0.25, 0.75]
    assert [Bins(5, -2, 2).level(i) for i in range(5)] == [-2, -1, 0, 1, 2]
    assert Bins(1, -2, 4).level(0) == 1
    assert [Bins(4, -1, 1).interval(i) for i in range(4)] == ["below -0.5", "-0.5 to 0", "0 to 0.5", "above 0.5"]


@given(st.integers(1, 50), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.sampled_from(["middle", "level"]))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_what_stands_for_a_bin_or_a_level_is_in_it(count, low, width, kind):
    bins = Bins(count, low, low + width)
    number = bins.number if kind == "middle" else bins.nearest
    assert [number(getattr(bins, kind)(i)) for i in range(count)] == list(range(count))


@pytest.mark.parametrize(
    ("view", "observation", "state", "states"),
    [
        (View(bins=(4,), ranges=((-1.0, 1.0),)), [-4.8, -5, 0.1, 0.6], 11, 256),  # ((0·4 + 0)·4 + 2)·4 + 3
        (
            View(bins=(1, 2, 3, 4), ranges=((-1.0, 1.0), (-2.0, 2.0))),
            [0, 0.1, -0.4, 2],
            15,
            24,
        ),  # ((0·2 + 1)·3 + 0)·4 + 3
        (View(bins=(2,), ranges=((-2.4, 2.4), (-1.0, 1.0), (), (-1.0, 1.0))), [-0.1, 0, 0, 0], 7, 16),
    ],
)
def test_the_bins_of_all_parts_make_a_state(view, observation, state, states):
    codec = state_codec(CART, "Cart-v0", view)
    assert codec.states == states
    assert codec.encode(np.array(observation, np.float32)) == state
    assert codec.encode(observation) == state
    assert [codec.encode(codec.decode(number)) for number in range(states)] == list(range(states))
    assert codec.space.contains(codec.decode(state))


@pytest.mark.parametrize(
    "observation", [[np.nan, 0, 0, 0], [4.9, 0, 0, 0], [0, 0, 0], np.zeros(4), np.zeros((4, 1), np.float32), 3, None]
)
def test_what_the_box_does_not_contain_is_refused(observation):
    value = np.array(observation, np.float32) if isinstance(observation, list) else observation
    with pytest.raises(ObservationError, match=r"expected (a number from -4.8|an array of numbers of shape \(4,\))"):
        state_codec(CART, "Cart-v0", View(bins=(4,), ranges=((-1.0, 1.0),))).encode(value)


def test_infinity_lies_in_an_outer_bin():
    codec = state_codec(Box(-np.inf, np.inf, (1,)), "Some-v0", View(bins=(3,), ranges=((0.0, 1.0),)))
    assert [codec.encode(np.float32([x])) for x in (-np.inf, 0.5, np.inf)] == [0, 1, 2]


def test_bins_are_only_of_real_parts_wherever_they_are():
    space = Dict(where=Tuple((Box(0, 1, (1,)), Discrete(3))), count=Box(0, 2, (1,), int))
    codec = state_codec(space, "Some-v0", View(bins=(4,)))
    assert codec.layout == ((4, 0), (3, 0), (3, 0))
    state = codec.encode({"where": (np.float32([0.3]), 2), "count": np.array([1])})
    assert state == (1 * 3 + 2) * 3 + 1
    assert codec.name(state) == "where (0.25 to 0.5, 2), count 1"


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (View(bins=(4, 4)), "--bins 4,4: expected 4 numbers, one for each real part of Cart-v0, or one for all"),
        (View(bins=(4,)), "Cart-v0's part [1] is not bounded: give low:high with --bin-range"),
        (
            View(bins=(4,), ranges=((-1.0, 1.0),) * 3),
            "--bin-range: expected 4 ranges, one for each real part, or 2 for",
        ),
        (
            View(bins=(4,), ranges=((-5.0, 1.0),) * 4),
            "--bin-range -5:1: Cart-v0's part [0] takes low:high with -4.8 <= low < high <= 4.8",
        ),
        (View(ranges=((-1.0, 1.0),)), "--bin-range says where bins lie: say with --bins how many there are"),
        (View(bins=(20_000,), ranges=((-1.0, 1.0),)), "--bins 20000 of Cart-v0's part [0]: expected at most 10,000"),
        (
            View(bins=(9_000, 1, 1, 1), ranges=((4.7999, 4.8), (), (), ())),
            "are too narrow for float32: use fewer",
        ),
    ],
)
def test_bins_that_do_not_fit_are_refused(view, said):
    bounded = Box(np.float32([-4.8, -1, -0.4, -1]), np.float32([4.8, 1, 0.4, 1]))
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        state_codec(bounded if "narrow" in said else CART, "Cart-v0", view)
    assert "\n" not in str(caught.value)


def test_where_nothing_is_real_there_are_no_bins():
    with pytest.raises(
        UsageError, match=r"--bins: Some-v0 has no real numbers to divide in Discrete\(3\): leave it out"
    ):
        divide(Discrete(3), View(bins=(4,)), "Some-v0")
    assert divide(Discrete(3), View()) == {}


@pytest.mark.parametrize(
    ("name", "view", "action_bins", "said"),
    [
        (
            "CartPole-v1",
            View(),
            (),
            ["4 real numbers, of which [1], [3] without bounds", "with --bins 8 --bin-range -"],
        ),
        ("CartPole-v1", View(bins=(6,)), (), ["with --bins 6 --bin-range -"]),
        ("MountainCar-v0", View(), (), ["2 real numbers: divide them into bins with --bins 8"]),
        (
            "Pendulum-v1",
            View(),
            (),
            ["and takes actions from Box(-2.0, 2.0, (1,), float32)", "--bins 8 --action-bins 5"],
        ),
        (
            "Pendulum-v1",
            View(bins=(8,)),
            (),
            ["takes actions from Box(-2.0, 2.0, (1,), float32): divide", "--action-bins 5"],
        ),
    ],
)
def test_what_is_lacking_is_told_with_the_options_that_give_it(name, view, action_bins, said):
    with gymnasium.make(name) as env:
        found = lacking_options(env, view, action_bins)
    assert all(text in found for text in said)


def test_nothing_is_lacking_where_there_are_bins_for_all():
    with gymnasium.make("Pendulum-v1") as env:
        assert lacking_options(env, View(bins=(8,)), (5,)) is None
    with gymnasium.make("Taxi-v4") as env:
        assert lacking_options(env, View(), ()) is None
