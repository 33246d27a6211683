from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.spaces import StateCodec, check_actions, state_codec

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
    assert codec.encode(observation).shape == ()
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
def test_every_observation_has_a_state_number_of_its_own_singly_and_in_batches(space):
    codec, every = StateCodec(space), list(observations(space))
    assert all(observation in space for observation in every)
    assert [int(codec.encode(observation)) for observation in every] == list(range(codec.states))
    batch = concatenate(space, every, create_empty_array(space, len(every)))
    np.testing.assert_array_equal(codec.encode(batch), np.arange(codec.states))


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (Discrete(5, start=3), 2),
        (Discrete(5, start=3), 8),
        (Discrete(5), np.array([0, 4, 5])),  # a batch
        (MultiDiscrete([3, 4]), [0, 4]),
        (MultiDiscrete([3, 4]), [[0, 3], [-1, 0]]),  # a batch
        (NESTED, (1, ([3, 0], 2))),
        (NESTED, (1, ([2, 0], 0))),
    ],
)
def test_an_observation_outside_of_its_space_is_refused(space, observation):
    with pytest.raises(DeepTaxiError, match=re.escape(f", outside of {space}")):
        StateCodec(space).encode(observation)


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
