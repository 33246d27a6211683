from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.io.mapped import mapping_of
from deeptaxi.mdp import table as table_module
from deeptaxi.mdp.planning import value_iteration
from deeptaxi.mdp.table import (
    ARRAYS,
    OPTIONAL,
    TABLE_BYTES,
    TableError,
    TransitionTable,
    from_arrays,
    from_rows,
    load_table,
    save_table,
)
from deeptaxi.storage.checkpoints import table_digest
from tests.problems import SOUND, bandit, build, chain, opened, random_table, rows_of, surely


def test_expected_rewards_and_continuations_follow_from_the_outcomes():
    table = from_arrays(**SOUND)
    assert (table.states, table.actions) == (2, 1)
    np.testing.assert_array_equal(table.expected_reward, [[5.0], [-1.0]])  # 0.25·8 + 0.75·4 = 5
    np.testing.assert_array_equal(table.continuation, [[[0.0, 0.75]], [[0.0, 0.0]]])


def test_sums_off_by_rounding_are_corrected():
    table = from_arrays(**{**SOUND, "probability": [[[0.25, 0.75 + 4e-7]], [[1, 0]]], "start": [0.5, 0.5 - 4e-7]})
    assert table.probability.sum(-1).tolist() == [[1.0], [1.0]]
    assert table.start.sum() == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": [[[0.25, np.nan]], [[1, 0]]]}, "probability holds nan at [0, 0, 1]: all numbers must be"),
        ({"probability": [[[0.25, 0.7]], [[1, 0]]]}, "probability of state 0, action 0 sums to 0.95, not to 1"),
        ({"probability": [[[0.25, 0.75]], [[2, -1]]]}, "probability holds -1.0 at [1, 0, 1]: probabilities are at"),
        ({"probability": [0.25, 0.75]}, "probability: expected numbers in 3 dimensions, received float64 [2]"),
        ({"probability": np.ones((0, 1, 1))}, "probability: expected a shape [S, A, K] without zeros"),
        ({"probability": [[["a"]]]}, "probability: expected numbers in 3 dimensions, received <U1 [1, 1, 1]"),
        ({"next_state": [[[0, 2]], [[1, 0]]]}, "next_state holds 2 at [0, 0, 1]: expected 0 to 1"),
        ({"next_state": [[[0, 1]], [[-1, 0]]]}, "next_state holds -1 at [1, 0, 0]: expected 0 to 1"),
        ({"next_state": [[[0, 0.5]], [[1, 0]]]}, "next_state holds 0.5 at [0, 0, 1]: expected int64 values"),
        ({"next_state": [[[0, 1e300]], [[1, 0]]]}, "next_state holds 1e+300 at [0, 0, 1]"),
        ({"next_state": [[[0, np.nan]], [[1, 0]]]}, "next_state holds nan at [0, 0, 1]"),
        ({"next_state": [[[0, 1]]]}, "next_state: expected shape [2, 1, 2], received [1, 1, 2]"),
        ({"reward": [[[8, np.inf]], [[0, 0]]]}, "reward holds inf at [0, 0, 1]: all numbers must be finite"),
        ({"reward": [[[8]], [[0]]]}, "reward: expected shape [2, 1, 2], received [2, 1, 1]"),
        ({"terminated": [[[2, 0]], [[1, 1]]]}, "terminated holds 2 at [0, 0, 0]: expected bool values"),
        ({"start": [0.5, 0.4]}, "start sums to 0.9, not to 1"),
        ({"start": [1.5, -0.5]}, "start holds -0.5 at [1]: probabilities are at least 0"),
        ({"start": [1.0]}, "start: expected shape [2], received [1]"),
        ({"time_limit": 0}, "time_limit: expected 1 or more, received 0"),
        ({"discount": 1.5}, "discount: expected a number between 0 and 1, received 1.5"),
        ({"action_mask": np.ones((1, 2), bool)}, "action_mask: expected shape [2, 1], received [1, 2]"),
        ({"action_mask": np.array([[True], [False]])}, "action_mask excludes every action of state 1"),
        ({"factors": (3, 2)}, "factors [3, 2] make 6 states, not 2"),
        ({"factors": (-1, -2)}, "factors"),
        ({"state_names": ("here",)}, "state_names: expected 2 names, received 1"),
        ({"action_names": ("go", "stay")}, "action_names: expected 1 names, received 2"),
    ],
)
def test_an_invalid_decision_process_is_refused(change, message):
    with pytest.raises(TableError, match=re.escape(message)):
        from_arrays(**{**SOUND, **change})


def test_rows_are_merged_where_next_state_reward_and_end_agree():
    rows = [(0.25, 0, 1, False), (0.25, 0, 2, False), (0.125, 0, 1, True), (0.125, 0, 1, False), (0.25, 0, 1, True)]
    table = from_rows([[[*rows, (0.0, 0, 99, True)]]], [1.0])
    outcomes = np.stack([table.probability, table.next_state, table.reward, table.terminated], axis=-1)[0, 0]
    assert outcomes.tolist() == [[0.375, 0, 1, 0], [0.25, 0, 2, 0], [0.375, 0, 1, 1]]


def test_slippery_cliff_walking_returns_to_its_start_in_two_ways():
    table = opened("CliffWalkingSlippery-v1").table
    # Down in the lower left corner: it slips right off the cliff (−100), or bumps into the border below or left (−1).
    outcomes = {
        (int(s), float(r)): float(p)
        for p, s, r in zip(table.probability[36, 2], table.next_state[36, 2], table.reward[36, 2], strict=True)
        if p > 0
    }
    assert outcomes == pytest.approx({(36, -100): 1 / 3, (36, -1): 2 / 3})


def test_actions_with_fewer_outcomes_are_padded_with_impossible_ones():
    table = bandit()
    assert table.probability.tolist() == [[[1.0, 0.0], [0.5, 0.5]]]
    assert table.expected_reward.tolist() == [[1.0, 1.5]]


def test_rows_may_be_arrays():
    table = from_rows(np.array([[[[0.5, 1, 2, 1], [0.5, 0, 3, 0]]], [[[1, 1, 0, 1], [0, 0, 0, 0]]]]), [1, 0])
    assert table.next_state.tolist() == [[[1, 0]], [[1, 0]]]
    assert table.terminated.tolist() == [[[True, False]], [[True, True]]]


@pytest.mark.parametrize(
    "p",
    [
        {},
        0.5,
        {1: {0: surely(0, 0)}},
        {0: {1: surely(0, 0)}},
        {0: {0: [(1.0, 0, 0)]}},
        {0: {0: 1.0}},
        {0: {0: surely("next", 0)}},
        {0: {0: surely(0.7, 0)}},
        [[[]]],
    ],
)
def test_rows_of_another_form_are_refused(p):
    with pytest.raises(TableError, match=r"P is not of the form"):
        from_rows(p, [1.0])


@pytest.mark.parametrize(
    "p",
    [
        {0: {0: surely(1, 0), 1: surely(0, -1)}, 1: {1: surely(1, 5, True)}},
        {0: {0: surely(1, 0), 1: surely(0, -1)}, 1: {0: [], 1: surely(1, 5, True)}},
        [[surely(1, 0), surely(0, -1)], {1: surely(1, 5, True)}],
    ],
)
def test_an_action_that_a_state_lacks_is_excluded(p):
    table = from_rows(p, [1, 0])
    assert table.action_mask.tolist() == [[True, True], [False, True]]
    assert table.reward[:, :, 0].tolist() == [[0, -1], [0, 5]]
    assert value_iteration(table, 0.5, table.action_mask).value.tolist() == [2.5, 5]  # on, then the end for 5


def test_a_row_of_a_list_may_be_shorter():
    table = from_rows([[surely(1, 0), surely(0, -1)], [surely(1, 5, True)]], [1, 0])
    assert table.action_mask.tolist() == [[True, True], [True, False]]


def test_a_state_without_actions_is_the_end():
    table = from_rows({0: {0: surely(1, 3), 1: surely(0, 0)}, 1: {}}, [1, 0])
    assert table.action_mask is None
    assert table.terminated[1].all()
    assert value_iteration(table, 0.5, None).value.tolist() == [3, 0]


def test_a_given_mask_is_kept_beside_the_missing_actions():
    rows = [[surely(0, 1), surely(0, 2), surely(0, 3)], [surely(0, 1)]]
    table = from_rows(rows, [1, 0], action_mask=[[1, 1, 0], [1, 1, 1]])
    assert table.action_mask.tolist() == [[True, True, False], [True, False, False]]


MINUS = float("-inf")


@pytest.mark.parametrize("how", ["reward", "mask", "nan"])
def test_a_reward_of_minus_infinity_excludes_an_action_as_a_mask_does(how):
    # QuantEcon's example: s = 0, a = 0 gives 5, a = 1 gives 10 and leads to state 1 for good, where a = 0 costs 1.
    probability = [[[0.5, 0.5], [1, 0]], [[1, 0], [1 if how == "reward" else float("nan") if how == "nan" else 0, 0]]]
    arrays = {
        "probability": probability,
        "next_state": [[[0, 1], [1, 0]], [[1, 0], [0, 0]]],
        "reward": [[[5, 5], [10, 10]], [[-1, -1], [MINUS if how == "reward" else 0] * 2]],
        "terminated": np.zeros((2, 2, 2), bool),
        "start": [1, 0],
    }
    mask = {} if how == "reward" else {"action_mask": [[True, True], [True, False]]}
    table = from_arrays(**arrays, **mask)
    assert table.action_mask.tolist() == [[True, True], [True, False]]
    value = value_iteration(table, 0.95, table.action_mask).value
    assert value == pytest.approx([-8.5714286, -20])  # Puterman (2005), section 3.1
    assert np.isfinite(table.expected_reward).all()


def test_only_minus_infinity_at_pairs_that_may_be_is_a_mask():
    with pytest.raises(TableError, match="reward of state 0, action 0 is −∞ in some outcomes only"):
        build([[[(0.5, 0, MINUS, False), (0.5, 0, 1, False)]]])
    with pytest.raises(TableError, match=r"reward holds inf at \[0, 0, 0\]"):
        build([[surely(0, float("inf"))]])
    with pytest.raises(TableError, match="probability of state 0, action 1 sums to 0, not to 1"):
        from_arrays([[[1], [0]]], [[[0], [0]]], [[[0], [0]]], [[[1], [1]]], [1])


EVERYTHING = {
    "time_limit": 7,
    "discount": 0.9,
    "action_mask": np.array([[True], [True]]),
    "factors": (1, 2),
    "state_names": ("here", "dört"),
    "action_names": ("go",),
}


@pytest.fixture
def archive(tmp_path):
    """Write a sound ``.npz`` with some arrays changed or, where None, left out; return its path."""

    def write(**change):
        path = tmp_path / "table.npz"
        np.savez(path, **{name: array for name, array in {**SOUND, **change}.items() if array is not None})
        return path

    return write


@pytest.mark.parametrize("optional", [{}, EVERYTHING])
def test_a_table_is_read_back_as_it_was_saved(tmp_path, optional):
    table, path = from_arrays(**SOUND, **optional), tmp_path / "no ending"
    save_table(table, path)
    copy = load_table(path)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(copy, name), getattr(table, name), strict=True)
    for name in OPTIONAL:
        assert np.array_equal(getattr(copy, name), optional.get(name))
        assert type(getattr(copy, name)) is type(optional.get(name))


@pytest.mark.parametrize("letters", [5, 6])
def test_names_are_written_up_to_the_limit_of_reading(tmp_path, monkeypatch, letters):
    monkeypatch.setattr("deeptaxi.mdp.table.REST", 80 - from_arrays(**SOUND).probability.size * (100 - TABLE_BYTES))
    table, path = from_arrays(**SOUND, state_names=("a", "b" * letters)), tmp_path / "table.npz"
    if letters == 5:
        save_table(table, path)
        monkeypatch.undo()
        assert load_table(path).state_names == table.state_names
        return
    with pytest.raises(
        TableError, match=r"the state names take too much room in an \.npz, which stores each with the 6 characters"
    ):
        save_table(table, path)


def test_numbers_of_another_type_are_read_if_nothing_is_lost(archive):
    table = load_table(archive(next_state=np.array([[[0.0, 1.0]], [[1.0, 0.0]]]), terminated=[[[1, 0]], [[1, 1]]]))
    assert table.next_state.dtype == np.int64
    assert table.terminated.tolist() == SOUND["terminated"]


@pytest.mark.parametrize("name", ARRAYS)
def test_a_file_that_lacks_an_array_is_refused(archive, name):
    with pytest.raises(TableError, match=rf"table.npz lacks '{name}'; a table holds probability, next_state, reward"):
        load_table(archive(**{name: None}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_limits": 3}, "holds an unknown array 'time_limits'; did you mean 'time_limit'?"),
        ({"zzz": 3}, "holds an unknown array 'zzz'"),
        ({"time_limit": 2.5}, "table.npz: time_limit holds 2.5 at []: expected int64 values"),
        ({"time_limit": [2]}, "time_limit: expected numbers in 0 dimensions"),
        ({"discount": np.nan}, "discount holds nan"),
        ({"reward": [[[8, np.nan]], [[0, 0]]]}, "table.npz: reward holds nan at [0, 0, 1]"),
        ({"reward": np.array([[[8, None]], [[0, 0]]])}, "is not a readable .npz file"),  # pickled, so never loaded
    ],
)
def test_a_file_with_a_wrong_array_is_refused(archive, change, message):
    with pytest.raises(TableError, match=re.escape(message)):
        load_table(archive(**change))


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_a_table_file_that_is_not_an_archive_is_refused(tmp_path, content):
    (tmp_path / "table.npz").write_bytes(content)
    with pytest.raises(TableError, match=r"table.npz is not a readable .npz file"):
        load_table(tmp_path / "table.npz")


def test_a_single_array_is_refused(tmp_path):
    with (tmp_path / "table.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(TableError, match=r"is a single array, not an \.npz of probability, next_state"):
        load_table(tmp_path / "table.npz")


def test_a_truncated_file_is_refused(archive):
    path = archive()
    whole = path.read_bytes()
    for length in range(0, len(whole), 100):
        path.write_bytes(whole[:length])
        with pytest.raises(TableError, match="is not a readable"):
            load_table(path)


def test_a_file_damaged_anywhere_is_refused_or_read_unharmed(tmp_path):
    table, path = from_arrays(**SOUND), tmp_path / "table.npz"
    save_table(table, path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            copy = load_table(path)
        except TableError:
            refused += 1
        else:
            assert all(np.array_equal(getattr(copy, name), getattr(table, name)) for name in ARRAYS)
    assert refused > len(whole) / 6


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"no transition table at .*nowhere\.npz"):
        load_table(tmp_path / "nowhere.npz")
    with pytest.raises(UsageError, match="no transition table at"):
        load_table(tmp_path)


def declare(path, shape):
    """Write an .npz whose array 'probability' says that it has `shape`, and holds nothing."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("probability.npy", header.getvalue())


def test_a_table_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    declare(tmp_path / "huge.npz", (10**7, 1_000, 50))
    with pytest.raises(TableError, match=r"10,000,000 × 1,000 × 50 outcomes takes 46,566.1 GiB, and this machine has"):
        load_table(tmp_path / "huge.npz")


def test_names_that_take_more_memory_than_the_table_are_refused(tmp_path, archive):
    path = archive(state_names=np.array(["here" * 5_000_000, "there"]))
    with pytest.raises(TableError, match=r"it claims to unpack to 152\.6 MiB; at most 64\.0 MiB are read"):
        load_table(path)


def test_a_table_is_made_of_lists_of_rows_or_of_a_file(tmp_path):
    table, path = chain(state_names=("first", "second", "last")), tmp_path / "three.npz"
    made = TransitionTable(**SOUND)
    assert repr(made) == "TransitionTable(2 states, 1 action, 2 outcomes, 2 start states)"
    again = TransitionTable.from_rows(rows_of(table), table.start)
    np.testing.assert_array_equal(again.next_state, table.next_state)
    table.save(path)
    assert TransitionTable.load(path).state_names == ("first", "second", "last")
    with pytest.raises(UsageError, match="exists"):
        table.save(path)
    with pytest.raises(DeepTaxiError, match="different lengths"):
        TransitionTable(**{**SOUND, "reward": [[[1.0], [2.0, 3.0]]]})


def test_a_reward_of_minus_infinity_means_the_same_through_every_door():
    chance = np.array([[[1.0, 0.0], [0.5, 0.5]]])
    arrays = (chance, np.zeros((1, 2, 2), int), np.array([[[1.0, -np.inf], [-np.inf, -np.inf]]]))
    ends, start = np.ones((1, 2, 2), bool), np.ones(1)
    for door in (from_arrays, TransitionTable):
        table = door(*arrays, ends, start)
        assert table.action_mask.tolist() == [[True, False]]
        assert np.isfinite(table.reward).all()
        wrong = np.array([[[1.0, 0.0], [1.0, -np.inf]]])
        with pytest.raises(TableError, match="reward of state 0, action 1 is −∞ in some outcomes only"):
            door(chance, arrays[1], wrong, ends, start)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a | {"gamma": 0.9}, "holds an unknown array 'gamma'; the discount of a table is named 'discount'"),
        (
            lambda a: {k: v for k, v in a.items() if k != "terminated"},
            "terminated, start; if no outcome ends an episode, it is np.zeros(probability.shape, bool)",
        ),
        (
            lambda a: a | {"reward": a["reward"][..., 0]},
            "[3, 2]; if it is that of every outcome, np.broadcast_to(reward[..., None], probability.shape) repeats it",
        ),
    ],
)
def test_what_a_table_nearly_is_says_what_is_missing(change, said, tmp_path):
    arrays = {
        "probability": np.full((3, 2, 3), 1 / 3),
        "next_state": np.broadcast_to(np.arange(3), (3, 2, 3)),
        "reward": np.ones((3, 2, 3)),
        "terminated": np.zeros((3, 2, 3), bool),
        "start": np.eye(3)[0],
    }
    np.savez(tmp_path / "t.npz", **change(arrays))
    with pytest.raises(TableError, match=re.escape(said)):
        load_table(tmp_path / "t.npz")


@pytest.fixture
def _large(monkeypatch):
    """Treat every table as one of a million states."""
    monkeypatch.setattr(table_module, "LARGE", 1)
    monkeypatch.setattr("deeptaxi.io.safe_archive.MAPPED", 1)
    monkeypatch.setattr("deeptaxi.io.mapped.BLOCK", 3)


@pytest.mark.usefixtures("_large")
def test_a_large_table_stays_in_its_file(tmp_path):
    table = from_arrays(**SOUND, **EVERYTHING)
    table.save(tmp_path / "table.npz")
    copy = load_table(tmp_path / "table.npz")
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(copy, name), getattr(table, name), strict=True)
    assert copy.next_state.dtype == np.int32
    assert all(mapping_of(getattr(copy, name)) is not None for name in ("probability", "next_state", "terminated"))
    assert np.array_equal(copy.expected_reward, table.expected_reward)
    table.save(tmp_path / "table.npz", force=True)  # replaced, not overwritten
    assert np.array_equal(copy.reward, table.reward)


@pytest.mark.usefixtures("_large")
def test_a_large_table_is_checked_as_a_small_one_is(tmp_path):
    for change, message in [
        ({"reward": [[[8, 0]], [[0, np.nan]]]}, "reward holds nan at [1, 0, 1]: all numbers must be finite"),
        ({"reward": [[[8, 0]], [[0, 1e31]]]}, "reward holds 1e+31 at [1, 0, 1]"),
        ({"next_state": np.array([[[0, 1]], [[2, 0]]], np.int32)}, "next_state holds 2 at [1, 0, 0]: expected 0 to 1"),
        ({"next_state": [[[0, 1.5]], [[1, 0]]]}, "next_state holds 1.5 at [0, 0, 1]: expected int64 values"),
        ({"probability": [[[0.5, 0.5]], [[2.0, -1.0]]]}, "probability holds -1.0 at [1, 0, 1]"),
        ({"probability": [[[0.5, 0.5]], [[0.5, 0.2]]]}, "probability of state 1, action 0 sums to 0.7, not to 1"),
    ]:
        np.savez(tmp_path / "table.npz", **{**SOUND, **change})
        with pytest.raises(TableError, match=re.escape(message)):
            load_table(tmp_path / "table.npz")


@pytest.mark.usefixtures("_large")
def test_sums_off_by_rounding_are_corrected_in_a_large_table_too(tmp_path):
    np.savez(tmp_path / "table.npz", **{**SOUND, "probability": np.array([[[0.3, 0.7 + 1e-9]], [[1.0, 0.0]]])})
    assert abs(load_table(tmp_path / "table.npz").probability.sum(-1) - 1).max() < 1e-15


@pytest.mark.parametrize("seed", range(8))
def test_a_table_that_is_saved_and_read_again_is_the_same_to_the_last_bit(tmp_path, seed):
    table = random_table(seed, states=30, outcomes=1 + seed)
    table.save(tmp_path / "table.npz")
    copy = load_table(tmp_path / "table.npz")
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(copy, name), getattr(table, name), strict=True)
    assert table_digest(copy) == table_digest(table)


@pytest.mark.usefixtures("_large")
def test_sums_off_by_the_rounding_of_their_division_leave_a_large_table_in_its_file(tmp_path):
    table = random_table(0, states=30, outcomes=8)
    assert (table.probability.sum(-1) != 1).any()
    table.save(tmp_path / "table.npz")
    assert mapping_of(load_table(tmp_path / "table.npz").probability) is not None


def test_the_probabilities_of_a_table_are_its_own():
    given = {name: np.array(values) for name, values in SOUND.items()}
    table = from_arrays(**given)
    given["probability"][:], given["start"][:] = 0, 0
    assert table.probability.sum() == 2
    assert table.start.sum() == 1


def test_a_table_for_which_the_memory_is_too_small_is_refused_unread(tmp_path, monkeypatch):
    from_arrays(**SOUND).save(tmp_path / "table.npz")
    monkeypatch.setattr("deeptaxi.machine.physical_memory", lambda: 100.0)
    monkeypatch.setattr(table_module, "read_npz", None)  # not called
    with pytest.raises(
        TableError, match=r"^a table of 2 × 1 × 2 outcomes takes .* GiB, and this machine has 0\.0 GiB$"
    ):
        load_table(tmp_path / "table.npz")
