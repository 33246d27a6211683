"""The numbers in a `.mat` of MATLAB, version 5 to 7.

SciPy's reader trusts the file: a changed byte can make it read outside of its memory. This one reads arrays of numbers,
sparse matrices and cells of both, nothing else, and compares every size with what is there. (MathWorks, *MAT-File
Format*, 2.1: "Level 5 MAT-file format".)

A file is a header of 128 bytes and elements. An element is a tag, of a type and a number of bytes, and data, padded to
8 bytes; up to 4 bytes of data may stand in the tag itself. An array is an element of the elements flags, dimensions,
name and data; a compressed element unpacks to another.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import UsageError, printable
from deeptaxi.io.safe_archive import format_bytes
from deeptaxi.io.safe_load import open_plain
from deeptaxi.mdp.table import TableError

HEADER = 128  # bytes
ORDERS = {b"IM": "<", b"MI": ">"}  # of bytes, in the header's last two
KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, COMPRESSED = 14, 15  # other types of elements
CELL, SPARSE, NUMBERS = 1, 5, range(6, 16)  # classes of arrays
COMPLEX = 0x0800  # flag of an array
HDF5 = b"\x89HDF\r\n\x1a\n"
NEWEST = "save it with save(…, '-v7')"


class DamagedError(Exception):
    """The file is not what it says. The message is the reason."""


@dataclass(frozen=True)
class Element:
    """The type of an element, and its data."""

    kind: int
    data: memoryview


def read_mat_arrays(path: Path, limit: int) -> dict[str, Any]:
    """Read the arrays of a `.mat` by name.

    Args:
        path: the file.
        limit: bytes that it may take, packed and unpacked.

    Returns:
        Dense arrays, SciPy's sparse arrays, or lists of both for cells; None for what holds no numbers.

    Raises:
        UsageError: there is no such file.
        TableError: it is damaged, too large, or of another version.
    """
    try:
        with open_plain(path) as file:
            content = memoryview(file.read(limit + 1))
    except FileNotFoundError:
        raise UsageError(f"no file at {path}") from None
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > limit:
        raise TableError(f"{path} is larger than the {format_bytes(limit)} that are read")
    if bytes(content[:8]) == HDF5 or b"MATLAB 7.3" in bytes(content[:20]):
        raise TableError(f"{path} is of MATLAB 7.3 (HDF5), which is not read: {NEWEST}")
    order = ORDERS.get(bytes(content[HEADER - 2 : HEADER]))
    if order is None:
        raise TableError(f"{path} is no readable .mat file: it does not begin like one of version 5 to 7; {NEWEST}")
    found: dict[str, Any] = {}
    try:
        for element in elements(content[HEADER:], order):
            limit -= len(element.data)
            if element.kind == COMPRESSED:
                element = unpack(element, order, limit)
                limit -= len(element.data)
            if element.kind == MATRIX:
                name, value = array_of(element, order)
                found[name] = value
    except DamagedError as error:
        raise TableError(f"{path} is no readable .mat file: {error}") from None
    return found


def elements(data: memoryview, order: str) -> Iterator[Element]:
    """Yield the elements that data holds.

    Raises:
        DamagedError: one says that it is larger than what is left.
    """
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise DamagedError("it ends within an element")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        begin = at + 8
        if kind >> 16:  # up to 4 bytes within the tag
            kind, size, begin = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
            if size > 4:
                raise DamagedError("an element within its tag says that it has more than 4 bytes")
        else:
            at = begin + size + (-size % 8 if kind != COMPRESSED else 0)
        if begin + size > len(data):
            raise DamagedError(
                f"an element says that it has {size:,} bytes, and {max(len(data) - begin, 0):,} are left"
            )
        yield Element(kind, data[begin : begin + size])


def unpack(element: Element, order: str, limit: int) -> Element:
    """Unpack a compressed element.

    Raises:
        DamagedError: it is damaged, or unpacks to more than `limit` bytes.
    """
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(element.data, max(limit, 1))
    except zlib.error as error:
        raise DamagedError(f"a compressed element is damaged ({error})") from None
    if unpacking.unconsumed_tail or not unpacking.eof:
        over = len(data) >= max(limit, 1)
        raise DamagedError("it unpacks to more than is read" if over else "a compressed element ends too early")
    inner = next(elements(memoryview(data), order), None)
    if inner is None or inner.kind == COMPRESSED:
        raise DamagedError("a compressed element holds no array")
    return inner


def array_of(element: Element, order: str, within: bool = False) -> tuple[str, Any]:
    """Return name and value of an array; None for one that holds no numbers.

    Raises:
        DamagedError: its parts do not fit together.
    """
    parts = elements(element.data, order)
    flags = numbers_of(next(parts, None), order, "flags")
    kind, is_complex = (int(flags[0]) & 0xFF, bool(int(flags[0]) & COMPLEX)) if len(flags) else (0, False)
    sizes = tuple(int(size) for size in numbers_of(next(parts, None), order, "dimensions"))
    written = next(parts, None)
    name = printable(bytes(written.data[:200]).decode("latin-1")) if written else ""
    if kind not in (CELL, SPARSE, *NUMBERS) or is_complex or (kind == CELL and within):
        return name, None
    if len(sizes) < 2 or len(sizes) > 8 or min(sizes) < 0:
        raise DamagedError(f"the array '{name}' has the dimensions {list(sizes)[:8]}")
    if kind == CELL:
        return name, [array_of(part, order, within=True)[1] for part in parts if part.kind == MATRIX]
    values = [numbers_of(part, order, name) for part in parts]
    if kind == SPARSE:
        return name, sparse_of(name, sizes, values)
    if len(values) != 1 or len(values[0]) != math.prod(sizes):
        raise DamagedError(f"the array '{name}' of {list(sizes)} holds {sum(map(len, values)):,} numbers")
    return name, values[0].astype(np.float64).reshape(sizes, order="F")


def numbers_of(element: Element | None, order: str, name: str) -> NDArray[Any]:
    """Return the numbers of an element.

    Raises:
        DamagedError: it holds none.
    """
    kind = None if element is None else KINDS.get(element.kind)
    if element is None or kind is None or len(element.data) % np.dtype(kind).itemsize:
        raise DamagedError(f"'{name}' holds no numbers")
    return np.frombuffer(element.data, np.dtype(f"{order}{kind}"))


def sparse_of(name: str, sizes: tuple[int, ...], values: list[NDArray[Any]]) -> Any:
    """Return a sparse matrix of its rows, the ends of its columns, and its entries.

    Raises:
        DamagedError: these do not fit together.
    """
    from scipy import sparse

    if len(values) != 3 or len(sizes) != 2:
        raise DamagedError(f"the sparse matrix '{name}' has no rows, columns and entries")
    rows, ends, entries = values[0].astype(np.int64), values[1].astype(np.int64), values[2].astype(np.float64)
    if (
        len(ends) != sizes[1] + 1
        or ends[0] != 0
        or (np.diff(ends) < 0).any()
        or ends[-1] > min(len(rows), len(entries))
    ):
        raise DamagedError(f"the columns of the sparse matrix '{name}' do not fit")
    count = int(ends[-1])
    rows, entries = rows[:count], entries[:count]
    if count and (rows.min() < 0 or rows.max() >= sizes[0]):
        raise DamagedError(f"a row of the sparse matrix '{name}' is outside")
    return sparse.csc_array((entries, rows, ends), shape=sizes)
