from __future__ import annotations

import zipfile

import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.io import mapped, safe_archive
from deeptaxi.io.mapped import ALIGNED, in_blocks, mapping_of, write_npz
from deeptaxi.io.safe_archive import ArchiveError, read_npz

pytestmark = pytest.mark.skipif(not mapped.MAPPABLE, reason="Windows has no madvise")
RNG = np.random.default_rng(0)
ARRAYS = {
    "numbers": RNG.normal(size=(50, 3, 2)), "targets": np.arange(300, dtype=np.int32).reshape(50, 6),
    "ends": RNG.random((50, 3)) < 0.5, "names": np.array(["here", "there"]), "limit": np.array(7),
}  # fmt: skip
SPREAD = np.broadcast_to(np.array([0.8, 0.2]), (50, 4, 2))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(safe_archive, "MAPPED", 64)
    monkeypatch.setattr(mapped, "BLOCK", 100)


def test_arrays_written_in_blocks_begin_aligned_and_are_mapped_unchanged(tmp_path):
    write_npz(tmp_path / "x.npz", ARRAYS | {"spread": SPREAD})
    found = read_npz(tmp_path / "x.npz", 2**20, mapped=True)
    with np.load(tmp_path / "x.npz") as expected:
        for name, values in (ARRAYS | {"spread": SPREAD}).items():
            np.testing.assert_array_equal(found[name], values, strict=True)
            np.testing.assert_array_equal(expected[name], values, strict=True)
    for name in ("numbers", "targets", "ends", "spread"):
        assert mapping_of(found[name][1:]) is not None
        assert found[name].ctypes.data % ALIGNED == 0
        assert not found[name].flags.writeable
    assert mapping_of(found["names"]) is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy_are_mapped_where_they_are_not_compressed(tmp_path, save):
    save(tmp_path / "x.npz", **ARRAYS, fortran=np.asfortranarray(ARRAYS["numbers"]))
    found = read_npz(tmp_path / "x.npz", 2**20, mapped=True)
    assert (mapping_of(found["numbers"]) is not None) is (save is np.savez)
    assert mapping_of(found["fortran"]) is None
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values, strict=True)


@pytest.mark.parametrize("name", ["numbers", "ends"])
def test_a_changed_byte_is_found_before_an_array_is_used(tmp_path, name):
    write_npz(tmp_path / "x.npz", ARRAYS)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        at = archive.getinfo(f"{name}.npy").header_offset
    content[content.index(ARRAYS[name].tobytes(), at) + 5] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ArchiveError, match=f"Bad CRC-32 for file '{name}.npy'"):
        read_npz(tmp_path / "x.npz", 2**20, mapped=True)


def test_a_mapped_boolean_is_0_or_1(tmp_path):
    write_npz(tmp_path / "x.npz", {"ends": np.full(200, 2, np.uint8).view(np.bool_)})
    with pytest.raises(ArchiveError, match="'ends' holds a boolean that is neither 0 nor 1"):
        read_npz(tmp_path / "x.npz", 2**20, mapped=True)


def test_blocks_cover_every_entry_once_and_no_pages_are_lost(tmp_path):
    write_npz(tmp_path / "x.npz", ARRAYS)
    found = read_npz(tmp_path / "x.npz", 2**20, mapped=True)
    parts = list(in_blocks(found["numbers"], found["ends"]))
    assert len(parts) > 2
    np.testing.assert_array_equal(np.concatenate([found["numbers"][part] for part in parts]), ARRAYS["numbers"])
    with pytest.raises(ValueError, match="arrays of different lengths"):
        list(in_blocks(np.zeros(3), np.zeros(4)))


def test_a_file_that_is_written_to_while_it_is_mapped_is_noticed_before_a_pass(tmp_path):
    path = tmp_path / "x.npz"
    for change in (lambda: write_npz(path, {"numbers": -ARRAYS["numbers"]}), lambda: path.write_bytes(b"short")):
        write_npz(path, {"numbers": ARRAYS["numbers"]})
        found = read_npz(path, 2**20, mapped=True)["numbers"]
        change()  # in place, where the second would kill the process
        with pytest.raises(DeepTaxiError, match=r"x\.npz was written to while it was in use"):
            next(in_blocks(found))


def test_a_file_that_is_replaced_or_written_anew_with_the_same_numbers_stays_in_use(tmp_path):
    path = tmp_path / "x.npz"
    write_npz(path, {"numbers": ARRAYS["numbers"]})
    found = read_npz(path, 2**20, mapped=True)["numbers"]
    write_npz(path, {"numbers": ARRAYS["numbers"]})
    for _ in range(2):
        assert sum(found[part].sum() for part in in_blocks(found)) == pytest.approx(ARRAYS["numbers"].sum())
    write_npz(tmp_path / "y.npz", {"numbers": -ARRAYS["numbers"]})
    (tmp_path / "y.npz").replace(path)
    assert sum(found[part].sum() for part in in_blocks(found)) == pytest.approx(ARRAYS["numbers"].sum())
