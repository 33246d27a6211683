from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.errors import UsageError
from deeptaxi.mdp.spaces import ObservationError, StateCodec, check_actions, contains, state_codec

GRID = MultiDiscrete([[2, 3], [4, 5]])
NESTED = Tuple((Discrete(2), Tuple((MultiDiscrete([3, 2]), Discrete(2, start=1)))))


def observations(space):
    """Yield every observation of a space, the last part running fastest."""
    if isinstance(space, Tuple):
        yield from itertools.product(*map(observations, space.spaces))
    elif isinstance(space, MultiDiscrete):
        for parts in itertools.product(*map(range, space.nvec.ravel())):
            yield (np.array(parts).reshape(space.nvec.shape) + space.start).astype(space.dtype)
    else:
        yield from (space.start + i for i in range(space.n))


@pytest.mark.parametrize(
    ("space", "observation", "state", "states"),
    [
        (Discrete(5), 4, 4, 5),
        (Discrete(5, start=3), 3, 0, 5),
        (Discrete(5, start=-2), np.int8(2), 4, 5),
        (MultiDiscrete([3, 4], start=[1, -1]), [2, 1], 6, 12),  # (2 − 1)·4 + (1 + 1)
        (GRID, [[1, 2], [3, 4]], 119, 120),  # the last one
        (GRID, [[1, 0], [2, 3]], 73, 120),  # ((1·3 + 0)·4 + 2)·5 + 3
        (NESTED, (1, ([2, 0], 2)), 21, 24),  # ((1·3 + 2)·2 + 0)·2 + (2 − 1)
        (Tuple((Discrete(32), Discrete(11), Discrete(2))), (20, 5, 1), 451, 704),  # Blackjack: (20·11 + 5)·2 + 1
    ],
)
def test_a_state_number_is_the_row_major_index_of_the_observations_parts(space, observation, state, states):
    codec = state_codec(space, "Some-v0")
    assert codec.states == states
    assert type(codec.encode(observation)) is int
    assert codec.encode(observation) == state


DISCRETE = st.builds(lambda n, start: Discrete(n, start=start), st.integers(1, 3), st.integers(-3, 3))
MULTI = st.builds(
    lambda nvec, start, rows: MultiDiscrete(np.reshape(nvec * rows, (rows, -1)), start=[[start] * len(nvec)] * rows),
    st.lists(st.integers(1, 3), min_size=1, max_size=2),
    st.integers(-2, 2),
    st.integers(1, 2),
)
SPACES = st.recursive(
    DISCRETE | MULTI, lambda inner: st.lists(inner, min_size=1, max_size=3).map(Tuple), max_leaves=4
).filter(lambda space: StateCodec(space).states <= 500)


@given(SPACES)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_every_observation_has_a_state_number_of_its_own(space):
    codec, every = StateCodec(space), list(observations(space))
    assert all(observation in space for observation in every)
    assert [codec.encode(observation) for observation in every] == list(range(codec.states))


NUMBERS = (
    st.integers(-4, 6)
    | st.booleans()
    | st.sampled_from([np.True_, 1.0, np.float64(2), 0.5, None, "1", 2**70, np.uint64(1), np.int8(1), np.array(1)])
    | st.builds(
        lambda kind, value: np.dtype(kind).type(value), st.sampled_from(["i1", "u1", "i4", "i8"]), st.integers(0, 3)
    )
    | st.builds(
        lambda kind, values: np.array(values, kind), st.sampled_from("?bBilLf"), st.lists(st.integers(0, 3), max_size=3)
    )
)
ANYTHING = st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple))
NARROW = (
    Discrete(4, dtype=np.int8),
    Tuple((Discrete(3, dtype=np.uint8), Discrete(2))),
    MultiDiscrete([2, 3], dtype=np.int8),
)


def other_forms(space, observation):
    """Yield an observation of `space` in the forms that Python and NumPy have for it, right and nearly right ones."""
    if isinstance(space, Tuple):
        parts = [list(other_forms(*pair)) for pair in zip(space.spaces, observation, strict=True)]
        mixed = [[forms[turn % len(forms)] for forms in parts] for turn in range(max(map(len, parts)))]
        yield from (form for values in mixed for form in (tuple(values), values, [*values, 0], values[:-1]))
    elif isinstance(space, MultiDiscrete):
        array = np.asarray(observation)
        yield from (array, array.tolist(), array.astype(float), array.astype(np.int8), array + 1, array - 1, [array])
        yield from (array.astype(bool), array.ravel(), array.astype(np.uint64), tuple(array.tolist()))
    else:
        value = int(observation)
        yield from (
            value,
            np.int64(value),
            np.int32(value),
            np.array(value),
            np.array([value]),
            float(value),
            value + 1,
        )
        yield from (np.float32(value), bool(value), np.bool_(value), value - 1, str(value), [value], None)


@given(SPACES | st.sampled_from(NARROW), st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_an_observation_has_a_state_number_exactly_if_its_space_contains_it(space, data):
    codec, every = StateCodec(space), list(observations(space))
    number = data.draw(st.integers(0, codec.states - 1))
    for form in [*other_forms(space, every[number]), data.draw(ANYTHING)]:
        if contains(space, form):
            state = codec.encode(form)
            assert type(state) is int
            assert same(form, every[state])
        else:
            with pytest.raises(ObservationError, match=": expected ") as caught:
                codec.encode(form)
            assert "\n" not in str(caught.value)


def same(one, other):
    """Whether two observations are equal, part by part."""
    if isinstance(other, tuple):
        return all(map(same, one, other))
    return np.array_equal(one, other)


@pytest.mark.parametrize(
    ("space", "observation", "said"),
    [
        (Discrete(5, start=3), 2, "the observation 2: expected an integer from 3 to 7"),
        (Discrete(5), np.array([4]), "the observation array([4]): expected an integer from 0 to 4"),
        (Discrete(2), 1.0, "the observation 1.0: expected an integer from 0 to 1"),
        (Discrete(9), np.uint64(3), "np.uint64(3): expected an integer from 0 to 8 of a type that int64 has room for"),
        (Discrete(9), np.eye(9)[2], "0., 0.]): expected an integer from 0 to 8"),
        (MultiDiscrete([3, 4]), [0, 4], "[0, 4], whose part [1] is 4: expected an integer from 0 to 3"),
        (MultiDiscrete([3, 4]), [0, 1, 1], "[0, 1, 1]: expected an array of integers of shape (2,)"),
        (MultiDiscrete([3, 4]), [[0], [1, 2]], "[[0], [1, 2]]: expected an array of integers of shape (2,)"),
        (NESTED, (1, ([3, 0], 2)), "whose part [1][0][0] is 3: expected an integer from 0 to 2"),
        (NESTED, (1, ([2, 0], 0)), "whose part [1][1] is 0: expected an integer from 1 to 2"),
        (NESTED, (1,), "the observation (1,): expected a tuple of 2 values"),
    ],
)
def test_of_an_observation_outside_of_its_space_the_one_wrong_value_is_named(space, observation, said):
    with pytest.raises(ObservationError) as caught:
        StateCodec(space).encode(observation)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_observation_is_shortened():
    with pytest.raises(ObservationError) as caught:
        StateCodec(Discrete(5)).encode(np.zeros(1_000))
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (Box(0, 1, (2,)), "Box(0.0, 1.0, (2,), float32)"),
        (Dict(a=Discrete(2)), "Dict('a': Discrete(2))"),
        (MultiBinary(3), "MultiBinary(3)"),
        (Tuple((Discrete(2), Box(0, 1, (2,)))), "Tuple(Discrete(2), Box(0.0, 1.0, (2,), float32))"),
    ],
)
def test_other_observations_are_refused_with_their_space_and_what_to_use(space, named):
    with pytest.raises(UsageError, match=re.escape(f"Some-v0 observes {named}; ") + ".*use Stable-Baselines3"):
        state_codec(space, "Some-v0")


def test_more_states_than_a_one_hot_input_can_have_are_refused():
    assert state_codec(Discrete(10_000_000), "Some-v0").states == 10_000_000
    with pytest.raises(UsageError, match="Some-v0 has 20,000,000 states"):
        state_codec(MultiDiscrete([10_000_000, 2]), "Some-v0")


@pytest.mark.parametrize("space", [Box(-2, 2, (1,)), MultiDiscrete([2, 2])])
def test_other_actions_are_refused_with_their_space(space):
    with pytest.raises(UsageError, match=re.escape(f"Some-v0 takes actions from {space}; ")):
        check_actions(space, "Some-v0")
    assert check_actions(Discrete(3, start=1), "Some-v0") == Discrete(3, start=1)
