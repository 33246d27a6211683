from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Text, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.errors import UsageError
from deeptaxi.mdp.binning import View
from deeptaxi.mdp.spaces import ObservationError, StateCodec, action_codec, bounds_of, contains, state_codec

AGENT = Dict(agent=Box(0, 4, (2,), int), target=Box(0, 4, (2,), int))  # the GridWorld of Gymnasium's tutorial
GRID = MultiDiscrete([[2, 3], [4, 5]])
NESTED = Tuple((Discrete(2), Tuple((MultiDiscrete([3, 2]), Discrete(2, start=1)))))


def observations(space):
    """Yield every observation of a space, the last part running fastest."""
    if isinstance(space, Tuple):
        yield from itertools.product(*map(observations, space.spaces))
    elif isinstance(space, Dict):
        for parts in itertools.product(*map(observations, space.spaces.values())):
            yield dict(zip(space.spaces, parts, strict=True))
    elif isinstance(space, Discrete):
        yield from (space.start + i for i in range(space.n))
    else:
        low, high = bounds_of(space)
        for parts in itertools.product(*map(range, low.ravel().tolist(), (high.ravel().astype(int) + 1).tolist())):
            yield np.array(parts).reshape(space.shape).astype(space.dtype)


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
        (AGENT, {"agent": np.array([1, 2]), "target": np.array([0, 3])}, 178, 625),  # ((1·5 + 2)·5 + 0)·5 + 3
        (AGENT, {"target": np.array([0, 3]), "agent": np.array([1, 2])}, 178, 625),  # whatever the order of the keys
        (Box(-1, 2, (2,), np.int8), np.array([0, 2], np.int8), 7, 16),  # (0 + 1)·4 + (2 + 1)
        (Box(np.uint8(3), np.uint8(5), (), np.uint8), np.array(4, np.uint8), 1, 3),
        (MultiBinary(3), [1, 0, 1], 5, 8),
        (MultiBinary((2, 2)), np.array([[True, False], [True, True]]), 11, 16),
        (Dict(b=Discrete(2), a=Tuple((Discrete(3), MultiBinary(2)))), {"a": (2, [0, 1]), "b": 1}, 21, 24),  # b, then a
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
BINARY = st.builds(MultiBinary, st.integers(1, 3) | st.just((2, 2)))
BOX = st.builds(
    lambda low, size, shape, kind: Box(low, low + size, shape, kind),
    *(st.integers(0, 2), st.integers(0, 2), st.sampled_from([(), (1,), (2,), (2, 1)])),
    st.sampled_from([np.int64, np.uint8, np.int16]),
)
SPACES = st.recursive(
    DISCRETE | MULTI | BINARY | BOX,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(Tuple)
        | st.lists(inner, min_size=1, max_size=3).map(lambda spaces: Dict(dict(zip("cab", spaces, strict=False))))
    ),
    max_leaves=4,
).filter(lambda space: StateCodec(space).states <= 500)


@given(SPACES)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_every_observation_has_a_state_number_of_its_own(space):
    codec, every = StateCodec(space), list(observations(space))
    assert all(observation in space for observation in every)
    assert [codec.encode(observation) for observation in every] == list(range(codec.states))
    for state, observation in enumerate(every):
        decoded = codec.decode(state)
        assert contains(space, decoded)
        assert same(decoded, observation)
    assert len({codec.name(state) for state in range(codec.states)}) == codec.states


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
ANYTHING = st.recursive(
    NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
)
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
    elif isinstance(space, Dict):
        parts = {key: list(other_forms(space.spaces[key], value)) for key, value in observation.items()}
        for turn in range(max(map(len, parts.values()))):
            form = {key: forms[turn % len(forms)] for key, forms in parts.items()}
            yield from (form, dict(reversed(form.items())), {**form, "more": 0}, dict(list(form.items())[1:]))
        yield list(observation.values())
    elif not isinstance(space, Discrete):
        array = np.asarray(observation)
        yield from (array, array.tolist(), array.astype(float), array.astype(np.int8), array + 1, array - 1, [array])
        yield from (array.astype(bool), array.ravel(), array.astype(np.uint64), tuple(array.ravel().tolist()))
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
            assert same(form, every[state]) or has_box(space)  # a Box casts a list of 1.5 to 1, and contains it
        else:
            with pytest.raises(ObservationError, match=": expected ") as caught:
                codec.encode(form)
            assert "\n" not in str(caught.value)


def same(one, other):
    """Whether two observations are equal, part by part."""
    if isinstance(other, dict):
        return all(same(one[key], value) for key, value in other.items())
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
        (AGENT, {"agent": np.array([1, 2])}, "expected a dict of 'agent', 'target', of Dict("),
        (AGENT, np.zeros(4, int), "the observation array([0, 0, 0, 0]): expected a dict of 'agent', 'target'"),
        (
            AGENT,
            {"agent": np.array([1, 5]), "target": np.array([0, 3])},
            "whose part ['agent'][1] is 5: expected an integer from 0 to 4",
        ),
        (
            AGENT,
            {"agent": "here", "target": np.array([0, 3])},
            "whose part ['agent'] is 'here': expected an array of in",
        ),
        (MultiBinary(2), [0, 2], "[0, 2], whose part [1] is 2: expected an integer from 0 to 1"),
        (
            Box(0, 3, (2,), np.int8),
            np.array([0, 1]),
            "of shape (2,), of Box(0, 3, (2,), int8), and int64 does not fit into int8",
        ),
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


def has_box(space):
    """Whether a space is or holds a Box."""
    inner = space.spaces.values() if isinstance(space, Dict) else space.spaces if isinstance(space, Tuple) else ()
    return isinstance(space, Box) or any(map(has_box, inner))


@pytest.mark.parametrize("space", [Text(3), Sequence(Discrete(2)), Tuple((Discrete(2), Text(3)))])
def test_other_observations_are_refused_with_their_space_and_what_to_use(space):
    with pytest.raises(UsageError, match=r"Some-v0 observes (Text|Sequence|Tuple)\(.*use Stable-Baselines3"):
        state_codec(space, "Some-v0")
    with pytest.raises(UsageError, match=r"Some-v0 takes actions from (Text|Sequence|Tuple)\(.*use Stable-Baselines3"):
        action_codec(space, "Some-v0")


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (Discrete(20_000_000), "Some-v0 has 20,000,000 states; a one-hot network here takes at most 10,000,000"),
        (
            MultiDiscrete([2**16, 2**16]),
            "Some-v0 has 4,294,967,296 states; their numbers have 32 bits, for at most 2,147,",
        ),
        (Box(0, 255, (84, 84, 4), np.uint8), "Some-v0 has more than 10^67969 states"),  # 256^28224 ≈ 10^67970.6
    ],
)
def test_more_states_than_a_one_hot_input_can_have_are_refused(space, said):
    assert state_codec(Discrete(10_000_000), "Some-v0").states == 10_000_000
    with pytest.raises(UsageError, match=re.escape(said)):
        state_codec(space, "Some-v0")


HOT = View(one_hot=True)


@pytest.mark.parametrize(
    ("space", "observation", "state", "states"),
    [
        (Box(0, 1, (6,)), np.eye(6, dtype=np.float32)[4], 4, 6),
        (Box(0, 1, (2, 3), np.uint8), np.eye(6, dtype=np.uint8)[4].reshape(2, 3), 4, 6),
        (MultiBinary(6), np.eye(6)[4].tolist(), 4, 6),
        (Dict(where=Box(0, 1, (6,)), flag=Discrete(2)), {"where": np.eye(6, dtype=np.float32)[4], "flag": 1}, 9, 12),
    ],
)
def test_a_one_hot_vector_is_the_place_of_its_one(space, observation, state, states):
    codec = state_codec(space, "Some-v0", HOT)
    assert codec.states == states
    assert codec.encode(observation) == state
    assert [codec.encode(codec.decode(number)) for number in range(states)] == list(range(states))


@pytest.mark.parametrize("vector", [[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0], [0, 0.5, 1]])
def test_a_vector_that_is_not_one_hot_is_refused(vector):
    with pytest.raises(ObservationError, match="expected a one-hot vector, with a single 1"):
        state_codec(Box(0, 1, (3,)), "Some-v0", HOT).encode(np.array(vector, np.float32))


def test_one_hot_vectors_are_only_asked_for_where_there_are_some():
    with pytest.raises(UsageError, match="--observation one-hot: Some-v0 has no vector of zeros and ones in Discrete"):
        state_codec(Discrete(3), "Some-v0", HOT)


@pytest.mark.parametrize(
    ("space", "bins", "actions"),
    [
        (Discrete(3, start=1), (), [1, 2, 3]),
        (MultiDiscrete([2, 2]), (), [[0, 0], [0, 1], [1, 0], [1, 1]]),
        (MultiBinary(2), (), [[0, 0], [0, 1], [1, 0], [1, 1]]),
        (Tuple((Discrete(2), Discrete(2, start=5))), (), [(0, 5), (0, 6), (1, 5), (1, 6)]),
        (Dict(gas=Discrete(2)), (), [{"gas": 0}, {"gas": 1}]),
        (Box(-2, 2, (1,)), (5,), [[-2], [-1], [0], [1], [2]]),  # the strongest ones are among them
        (Box(-1, 1, (2,)), (3, 1), [[-1, 0], [0, 0], [1, 0]]),
    ],
)
def test_an_action_number_becomes_the_environments_own_action(space, bins, actions):
    codec = action_codec(space, "Some-v0", bins)
    assert codec.actions == len(actions)
    for number, action in enumerate(actions):
        decoded = codec.decode(number)
        assert contains(space, decoded)
        assert same(decoded, action)
        assert type(decoded) in (int, tuple, dict, np.ndarray)
        assert codec.encode(decoded) == number


def test_actions_of_several_parts_have_names():
    assert action_codec(MultiDiscrete([2, 3]), "Some-v0").name(5) == "(1, 2)"
    assert action_codec(Dict(gas=Discrete(2), wheel=Discrete(3, start=-1)), "Some-v0").name(5) == "gas 1, wheel 1"
    assert [action_codec(Box(-2, 2, (1,)), "Some-v0", (3,)).name(i) for i in range(3)] == ["-2", "0", "2"]


def test_more_actions_than_a_network_can_have_outputs_are_refused():
    with pytest.raises(
        UsageError, match="Some-v0 has 16,384 actions; the network has one output each, and at most 10,0"
    ):
        action_codec(MultiBinary(14), "Some-v0")


def test_states_are_named_by_the_keys_of_a_dict():
    codec = state_codec(Dict(agent=Box(0, 4, (2,), int), key=Discrete(2)), "Some-v0")
    assert codec.name(codec.encode({"agent": np.array([3, 1]), "key": 1})) == "agent (3, 1), key 1"


def test_the_part_that_is_not_finite_is_named():
    space = Dict({"image": Box(0, 1, (2,), np.uint8), "mission": Text(9)})
    with pytest.raises(UsageError, match=r"Some-v0 observes Dict\(.*\), with a part of Text; deeptaxi trains on"):
        state_codec(space, "Some-v0")
