from __future__ import annotations

import io
import os
import stat
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deeptaxi.io.safe_archive import ArchiveError, read_npz, read_shapes

MIB = 2**20


def npy(array=None, **header):
    """Return the bytes of an array, or of a header that says something else than what follows it."""
    out = io.BytesIO()
    if array is not None:
        np.lib.format.write_array(out, np.asarray(array), allow_pickle=True)
    else:
        np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": (1,), **header})
    return out.getvalue()


@pytest.fixture
def archive(tmp_path):
    """Write a zip archive of (name or ZipInfo, bytes); return its path."""

    def write(*members, **how):
        path = tmp_path / "x.npz"
        with zipfile.ZipFile(path, "w", **how) as file:
            for name, content in members:
                file.writestr(name, content)
        return path

    return write


SAVED = arrays.arrays(
    st.sampled_from(["<f4", ">f8", "<i8", "|u1", "|b1", "<U3", "<c8"]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@given(array=SAVED, fortran=st.booleans(), compressed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_arrays_saved_by_numpy_are_read_back_bit_for_bit(tmp_path_factory, array, fortran, compressed):
    path = tmp_path_factory.mktemp("npz") / "x.npz"
    array = np.asfortranarray(array) if fortran else array
    (np.savez_compressed if compressed else np.savez)(path, **{"a": array, "b/c": np.arange(3)})
    found = read_npz(path, MIB)
    assert found["a"].tobytes() == array.tobytes()
    assert (found["a"].dtype, found["a"].shape) == (array.dtype, array.shape)
    assert found["b/c"].tolist() == [0, 1, 2]
    assert read_shapes(path, MIB) == {"a": array.shape, "b/c": (3,)}


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("../a.npy", npy([1]))], "leads out of the folder"),
        ([("a/../../b.npy", npy([1]))], "leads out of the folder"),
        ([("/etc/a.npy", npy([1]))], "leads out of the folder"),
        ([("..\\a.npy", npy([1]))], "leads out of the folder"),
        ([("C:a.npy", npy([1]))], "leads out of the folder"),
        ([(link("a.npy"), "/etc/passwd")], "is a link or a device"),
        ([("\x1b[2Ja.npy", npy([1]))], "an invalid name: '\\[2Ja.npy'"),
        ([("a" * 300 + ".npy", npy([1]))], "an invalid name"),
        ([("code.py", b"import os")], "its member 'code.py' is not an array"),
        ([("a.npy", npy(np.array([None])))], "'a' holds pickled objects, which are never loaded"),
        ([("a.npy", npy(np.zeros(1, "V3")))], "'a' is an array of .*, not of numbers or strings"),
        ([("a.npy", npy(np.zeros(1, "M8[s]")))], "not of numbers or strings"),
        ([("a.npy", npy(shape=(10**12,)))], r"'a' claims to be float64 \[1000000000000\], but holds 0 bytes"),
        ([("a.npy", npy(shape=(0, 10**12)))], "'a' claims to be"),
        ([("a.npy", npy(shape=(-1, -1)) + bytes(8))], "'a' claims to be"),
        ([("a.npy", npy(shape=(10**9,), descr="<U0"))], "not of numbers or strings"),
        ([("a.npy", npy([1.0]) + b"more")], "'a' claims to be"),
        ([("a.npy", npy(shape=(2,), descr="|b1") + b"\x02\x01")], "a boolean that is neither 0 nor 1"),
        ([("a.npy", npy(shape=(1,), descr="<U1") + b"\xff\xff\xff\x7f")], "invalid characters"),
        ([("a.npy", npy(shape=(1,), descr=">U1") + b"\x00\x00\xd8\x00")], "invalid characters"),
        ([("a.npy", b"")], "it is corrupt"),
        ([("a.npy", b"\x93NUMPY\x03\x00" + bytes(100))], "an unsupported version"),
        ([("a.npy", b"\x93NUMPY\x01\x00\xff\xff" + b"-" * 0xFFFF)], "it is corrupt"),
        ([("a.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr':'O4'  }")], "it is corrupt"),
        ([("a.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8',")], "it is corrupt"),  # read as of Python 2
    ],
)  # fmt: skip
def test_members_that_are_not_numbers_are_refused_in_one_line(archive, members, reason):
    with pytest.raises(ArchiveError, match=reason) as caught:
        read_npz(archive(*members), MIB)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_the_same_name_are_refused(archive):
    with pytest.raises(ArchiveError, match=r"it holds 'a\.npy' twice"):
        read_npz(archive(("a.npy", npy([1])), ("a.npy", npy([2]))), MIB)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_with_memory_set_by_the_file_is_refused(archive, method):
    with pytest.raises(ArchiveError, match="compressed in an unusual way"):
        read_npz(archive(("a.npy", npy([1])), compression=method), MIB)


def test_a_decompression_bomb_is_refused_before_anything_is_unpacked(archive):
    path = archive(("a.npy", npy(np.zeros(MIB))), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < MIB / 10
    tracemalloc.start()
    with pytest.raises(ArchiveError, match=r"it claims to unpack to 8\.0 MiB; at most 1\.0 MiB are read"):
        read_npz(path, MIB)
    assert tracemalloc.get_traced_memory()[1] < MIB / 2
    tracemalloc.stop()


def test_a_decompression_bomb_that_hides_its_size_is_refused(archive):
    path = archive(("a.npy", npy(np.zeros(MIB))), compression=zipfile.ZIP_DEFLATED)
    lie, size = struct.pack("<I", 1_000), struct.pack("<I", 8 * MIB + 128)
    path.write_bytes(path.read_bytes().replace(size, lie))
    with pytest.raises(ArchiveError, match="it is corrupt"):
        read_npz(path, MIB)


def test_a_directory_that_is_too_long_is_refused(archive):
    with pytest.raises(ArchiveError, match="it holds 5,000 members; at most 4,096 are read"):
        read_npz(archive(*((f"{number}.npy", b"") for number in range(5_000))), MIB)
    with pytest.raises(ArchiveError, match=r"its directory takes 7\.6 MiB; at most 4\.0 MiB are read"):
        read_npz(archive(*((f"{number:059}.npy", b"") for number in range(73_000))), MIB)


def test_a_changed_value_is_detected_by_its_checksum(archive):
    path = archive(("a.npy", npy(np.arange(8.0))))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<d", 5), struct.pack("<d", 6), 1))
    with pytest.raises(ArchiveError, match="it is corrupt"):
        read_npz(path, MIB)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18)[:-4], b"\x80\x04N."])
def test_a_file_that_is_not_an_archive_is_refused(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="it is corrupt"):
        read_npz(path, MIB)


def test_a_pipe_is_not_read_as_an_archive(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(ArchiveError, match="it is a pipe or a device, not a file"):
        read_npz(tmp_path / "x.npz", MIB)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match="No such file or directory"):
        read_npz(tmp_path / "nowhere.npz", MIB)
