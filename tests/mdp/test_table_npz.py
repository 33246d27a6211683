from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest

from deeptaxi.errors import UsageError
from deeptaxi.mdp.table import ARRAYS, OPTIONAL, TABLE_BYTES, TableError, from_arrays, load_table, save_table
from tests.problems import SOUND

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
def test_names_are_written_up_to_what_is_read(tmp_path, monkeypatch, letters):
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


def test_numbers_of_another_type_are_read_where_nothing_is_lost(archive):
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
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
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


def test_a_missing_file_is_a_wrong_use(tmp_path):
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


def test_a_table_that_says_it_is_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    declare(tmp_path / "huge.npz", (10**7, 1_000, 50))
    with pytest.raises(TableError, match=r"10,000,000 × 1,000 × 50 outcomes takes 46,566.1 GiB, and this machine has"):
        load_table(tmp_path / "huge.npz")


def test_names_that_take_more_memory_than_the_table_are_refused(tmp_path, archive):
    path = archive(state_names=np.array(["here" * 5_000_000, "there"]))
    with pytest.raises(TableError, match=r"it claims to unpack to 152\.6 MiB; at most 64\.0 MiB are read"):
        load_table(path)
