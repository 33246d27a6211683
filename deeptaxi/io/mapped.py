"""Arrays that stay in their file: mapped into memory, and read only as they are used.

The pages of a mapped file can be dropped at any time, as the file still has them. What passes over all of a large
array takes it in blocks (`in_blocks`) and drops the pages of each, so that the pass takes the memory of a block.
Whoever changes a file in place changes the arrays, so each pass first asks whether that has happened; deeptaxi itself
only ever replaces files.
"""

from __future__ import annotations

import mmap
import os
import struct
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError

ALIGNED = 64  # bytes that the numbers of a mapped array should begin at a multiple of
LOCAL, ZIP64, FIELD = 30, 20, 4  # bytes of a member's header; in it of the sizes of large files, of an empty field
PADDING = 0xD935  # the kind of field that Android's zipalign fills with zeros
BLOCK = 2**20  # entries of an array that are handled at once
MAPPABLE = hasattr(mmap.mmap, "madvise")  # not on Windows, which also could not replace a file that is mapped
DROP = getattr(mmap, "MADV_DONTNEED", None)


def mapping_of(values: Any) -> mmap.mmap | None:
    """Return the mapped file that an array lies in, or None."""
    while isinstance(values, np.ndarray | memoryview):
        values = values.base if isinstance(values, np.ndarray) else values.obj
    return values if isinstance(values, mmap.mmap) else None


def drop_pages(*arrays: Any) -> None:
    """Drop the pages of the files that any of the `arrays` are mapped from; they are read again when needed."""
    for mapped in {id(found): found for found in map(mapping_of, arrays) if found is not None}.values():
        if DROP is not None:
            mapped.madvise(DROP)


def in_blocks(*arrays: NDArray[Any]) -> Iterator[slice]:
    """Yield slices that cover the first axis, alike in all `arrays`, and drop the mapped pages after each.

    Raises:
        ValueError: the arrays differ in length.
        DeepTaxiError: the file that one is mapped from was changed in place.
    """
    for mapped in map(mapping_of, arrays):
        if isinstance(mapped, MappedFile):
            mapped.check()
    if len({len(values) for values in arrays}) > 1:
        raise ValueError("arrays of different lengths")
    length = len(arrays[0])
    step = max(1, BLOCK * length // max(1, *(values.size for values in arrays)))
    for begin in range(0, length, step):
        yield slice(begin, begin + step)
        drop_pages(*arrays)


class MappedFile(mmap.mmap):
    """A file that is mapped for reading, and the checksums of the parts that are used."""

    def watch(self, descriptor: int, path: Path) -> None:
        """Remember the state of the file that is open as `descriptor`, whatever becomes of its name."""
        self.path, self.parts = path, list[tuple[int, int, int]]()
        self.descriptor = os.dup(descriptor)
        self.stamp = self.state()
        weakref.finalize(self, os.close, self.descriptor)

    def state(self) -> tuple[int, int]:
        """Return the size of the file and when it was last written to."""
        found = os.fstat(self.descriptor)
        return found.st_size, found.st_mtime_ns

    def check(self) -> None:
        """Reject a file that was changed: its arrays are other ones, and to read behind its end kills the process.

        Raises:
            DeepTaxiError: it was.
        """
        now = self.state()
        if now == self.stamp:
            return
        for begin, size, expected in self.parts:
            if begin + size > now[0] or checksum(self, begin, size) != expected:
                raise DeepTaxiError(
                    f"{self.path} was written to while it was in use, and its numbers are others now: write a new file "
                    "and give it this name, as TransitionTable.save does"
                )
        self.stamp = now


def map_file(file: Any, path: Path) -> MappedFile:
    """Map the file at a `path` that is open for reading."""
    found = MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)
    found.watch(file.fileno(), path)
    return found


def checksum(mapped: mmap.mmap, begin: int, size: int) -> int:
    """Return the CRC-32 of a part of a mapped file, as zip archives have it."""
    found = 0
    with memoryview(mapped) as whole:
        for at in range(begin, begin + size, 8 * BLOCK):
            found = zlib.crc32(whole[at : min(at + 8 * BLOCK, begin + size)], found)
            if DROP is not None:
                mapped.madvise(DROP)
    return found


def array_in(mapped: mmap.mmap, begin: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array, in C order, that begins at a byte of a mapped file; it cannot be written to."""
    return np.ndarray(shape, dtype, buffer=mapped, offset=begin)


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an uncompressed ``.npz``, block by block, whose arrays can be mapped."""
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, values in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            taken = file.tell() + LOCAL + len(member.filename.encode()) + ZIP64 + FIELD
            padding = -taken % ALIGNED  # the header of an array takes a multiple of it
            member.extra = struct.pack("<HH", PADDING, padding) + bytes(padding)
            with archive.open(member, "w", force_zip64=True) as out:
                shape = values.shape
                npy.write_array_header_1_0(out, {"descr": values.dtype.str, "fortran_order": False, "shape": shape})
                for part in in_blocks(values) if shape else [()]:
                    out.write(np.ascontiguousarray(values[part]).tobytes())
