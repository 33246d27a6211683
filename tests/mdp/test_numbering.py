from __future__ import annotations

import hashlib

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.binning import View
from deeptaxi.mdp.environment import environment_over, open_environment
from deeptaxi.mdp.numbering import (
    Numbering,
    NumberingCodec,
    default_capacity,
    digest_of,
    numbering_codec,
    numbers_as_met,
)
from deeptaxi.mdp.spaces import Blocks, ObservationError, StateCodec
from tests.boards import Picture
from tests.problems import chain, registered

DIGITS = MultiDiscrete([10] * 12)  # the index of an observation is the number that its digits write


def digits(number):
    return np.array([int(digit) for digit in f"{number:012}"])


def test_observations_are_numbered_in_the_order_in_which_they_occur():
    codec = NumberingCodec(DIGITS, capacity=4, numbering=Numbering(open=True))
    assert codec.states == 4
    assert codec.combinations == 10**12
    assert [codec.encode(digits(n)) for n in (700, 5, 700, 999_999_999_999, 5)] == [0, 1, 0, 2, 1]
    assert [codec.encode(digits(n)) for n in (1, 2, 1)] == [3, 3, 3]  # all others share the last state
    assert codec.shared_state == 3
    assert codec.decode(0).tolist() == digits(700).tolist()
    assert codec.name(1) == "(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5)"
    assert codec.name(3) == "all other observations"
    assert codec.has_seen(digits(5))
    assert not codec.has_seen(digits(1))


def test_a_numbering_that_is_not_open_stays_as_it_is():
    codec = NumberingCodec(DIGITS, capacity=10, numbering=Numbering([700]))
    assert codec.encode(digits(700)) == 0
    assert [codec.encode(digits(n)) for n in (1, 2)] == [9, 9]
    assert len(codec.numbering) == 1
    assert codec.name(5) == "state 5, not seen"
    for state in (1, 9, -1):
        with pytest.raises(UsageError, match=f"state {state} is no observation: states 0 … 0 are"):
            codec.decode(state)
    with pytest.raises(ObservationError, match=r"expected an integer from 0 to 9"):
        codec.encode(np.full(12, 10))


def test_a_complete_numbering_has_no_state_for_others():
    codec = NumberingCodec(DIGITS).restrict([700, 5, 5])
    assert (codec.states, codec.shared_state, codec.complete) == (2, None, True)
    assert [codec.encode(digits(n)) for n in (5, 700)] == [0, 1]  # in the order of the space
    with pytest.raises(ObservationError, match="expected one of the 2 of its discovered table"):
        codec.encode(digits(6))


def test_observations_are_kept_as_the_bytes_of_their_index():
    codec = NumberingCodec(Box(0, 255, (5,), np.uint8), numbering=Numbering(open=True))
    for pixels in ([1, 2, 3, 4, 5], [0, 0, 0, 0, 255]):
        codec.encode(np.array(pixels, np.uint8))
    kept = codec.observations()
    assert kept.tolist() == [[1, 2, 3, 4, 5], [0, 0, 0, 0, 255]]
    assert digest_of(kept) == hashlib.sha256(b"(2, 5)" + bytes([1, 2, 3, 4, 5, 0, 0, 0, 0, 255])).hexdigest()
    again = codec.restore(kept, complete=False)
    assert (again.digest, again.states, list(again.numbering)) == (codec.digest, 100_000, list(codec.numbering))
    assert not again.numbering.open


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (np.zeros((1, 4), np.uint8), r"uint8 \[1, 4\], expected uint8 \[N, 5\]"),
        (np.zeros(5, np.uint8), "expected uint8"),
        (np.zeros((1, 5), np.int64), "expected uint8"),
        (np.full((1, 5), 255, np.uint8), "an observation outside the 1,000,000,000,000"),
        (np.zeros((2, 5), np.uint8), "an observation twice"),
        (np.arange(20, dtype=np.uint8).reshape(4, 5) // 19, "expected at most 2"),
    ],
)
def test_what_is_no_numbering_of_the_space_is_refused(kept, said):
    with pytest.raises(DeepTaxiError, match=said):
        NumberingCodec(DIGITS, capacity=3).restore(kept, complete=False)


def test_an_array_of_many_parts_has_the_index_of_its_parts():
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 2**20, 50)
    firsts = generator.integers(-(2**30), 2**30, 50)
    blocks = Blocks(tuple(zip(sizes.tolist(), firsts.tolist(), strict=True)))
    for _ in range(20):
        parts, index = generator.integers(0, sizes), 0
        for part, size in zip(parts.tolist(), sizes.tolist(), strict=True):
            index = index * size + part
        assert blocks.number(parts + firsts) == index
    assert blocks.number(sizes + firsts) == -1
    assert blocks.number(firsts - 1) == -1


def test_a_board_is_decoded_as_it_was():
    board = np.random.default_rng(1).integers(0, 3, (10, 10), np.int8)
    codec = NumberingCodec(Box(0, 2, (10, 10), np.int8), numbering=Numbering(open=True))
    assert codec.encode(board) == 0
    assert (codec.decode(0) == board).all()
    assert codec.encode(board.astype(np.int64).tolist()) == 0  # as the space takes it
    with pytest.raises(ObservationError, match=r"whose part \[0\]\[1\] is 3: expected an integer from 0 to 2"):
        codec.encode(np.where(np.arange(100).reshape(10, 10) == 1, 3, board).astype(np.int8))


@pytest.mark.parametrize(
    ("side", "actions", "capacity"), [(3, 4, 100_000), (3, 1_000, 10_000), (3, 10_000, 1_000), (84, 4, 10_000)]
)
def test_the_default_capacity_fits_into_memory(side, actions, capacity):
    assert default_capacity(StateCodec(Box(0, 255, (side, side), np.uint8)), actions) == capacity


@pytest.mark.parametrize(
    ("space", "view", "asked", "expected"),
    [
        (Discrete(10_000_000), View(), None, False),
        (Discrete(10_000_001), View(), None, True),
        (Discrete(5), View(), 3, True),
        (Discrete(10_000_001), View(), 0, False),
        (MultiDiscrete([4] * 12), View(), None, True),
        (Box(-1, 1, (9,)), View(bins=(8,)), None, False),  # 2^27: seen part by part
        (Box(-1, 1, (11,)), View(bins=(8,)), None, True),  # 2^33
        (Tuple((Discrete(2**20), Dict(a=Discrete(2**20)))), View(), None, True),
    ],
)
def test_which_spaces_are_numbered_as_they_are_met(space, view, asked, expected):
    assert numbers_as_met(StateCodec(space, view), asked) == expected


def test_a_capacity_out_of_range_is_refused():
    codec = StateCodec(Box(0, 255, (84, 84), np.uint8))
    with pytest.raises(UsageError, match="--state-capacity 50000: expected 2 to 38,043 states, as an observation of X"):
        numbering_codec(codec, 50_000, 4, "X")


def test_an_environment_of_too_many_observations_is_opened_with_a_numbering():
    with registered("Picture-v0", Picture) as name:
        environment = open_environment(EnvironmentConfig(name))
        assert environment.states == environment.config.state_capacity == 100_000
        assert environment.numbering is not None
        assert len(environment.numbering.numbering) == 0  # its first look at the environment left no trace
        assert environment.numbering_note == (
            "Picture-v0 has more than 10^20 combinations of observations: they are numbered as they are first seen, up "
            "to 99,999 (--state-capacity). Each is learned by itself, without generalization, and without a discovered "
            "table there is no exact verdict"
        )
        with pytest.raises(UsageError, match="--encoding factored and --state-capacity 0 would number all of them"):
            open_environment(EnvironmentConfig(name, state_capacity=0))


def test_an_ordinary_environment_has_no_capacity():
    for capacity in (None, 0):
        environment = open_environment(EnvironmentConfig("FrozenLake-v1", state_capacity=capacity))
        assert environment.numbering is environment.config.state_capacity is environment.numbering_note is None
        assert environment.states == 16


def test_a_table_takes_no_capacity():
    with pytest.raises(UsageError, match="--state-capacity: the states and actions of a transition table are numbers"):
        environment_over(chain(), EnvironmentConfig("t.npz", state_capacity=5))
