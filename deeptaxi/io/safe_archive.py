"""Untrusted zip archives, such as `.npz` and `.keras`: checked by their directory before anything is unpacked.

A few hundred bytes can claim to be petabytes, a name can point outside the folder, and NumPy allocates what an array
*claims* to hold before it reads it. So sizes are taken from the directory (no more than that is read) and compared
with a limit, and an array's header must match the size of its member.

A zip archive ends with its directory, which is read as a whole, so its size is limited too; its members have limits of
their own. This module stands apart from `safe_load` because it imports NumPy, which a usage error must not wait for.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError, printable
from deeptaxi.io import mapped as mapping
from deeptaxi.io.safe_load import open_plain

MAX_MEMBERS = 4_096  # a network has two arrays per layer, a checkpoint several times that
MAX_NAME = 255  # characters; the limit of file systems
MAX_DIRECTORY = 2**22  # bytes: more than members with the longest names need
MAX_HEADER = 1_000  # characters of an array's header; some 100 are enough
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others allocate memory as the file says
ENCRYPTED = 0x1
KINDS = "biufcSU"  # NumPy's types for numbers and text, nothing that needs unpickling
BLOCK = 2**20
MAPPED = 2**22  # bytes from which an array may stay in its file
LOCAL = struct.Struct("<26xHH")  # the header before a member, up to the lengths of its name and its extra field
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

DAMAGE = (  # what zipfile, zlib and NumPy raise, depending on the damaged part
    zipfile.BadZipFile, zlib.error, struct.error, ArithmeticError, EOFError, LookupError, NotImplementedError,
    RuntimeError, SyntaxError, TypeError, ValueError, Warning, tokenize.TokenError,
)  # fmt: skip


class ArchiveError(DeepTaxiError):
    """An archive is damaged or not what it should be. The message is only the reason: add the file's name."""


class Archive(io.BufferedReader):
    """An archive's file. While its directory is read, a single read is limited to a directory's maximum size."""

    directory = True

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, or raise if that is too many."""
        if self.directory and size is not None and size > MAX_DIRECTORY:
            raise ArchiveError(
                f"its directory takes {format_bytes(size)}; at most {format_bytes(MAX_DIRECTORY)} are read"
            )
        return super().read(size)


@contextmanager
def open_archive(path: Path, limit: int | None) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for reading after validating it.

    Args:
        path: the file.
        limit: bytes that all its members together may take when unpacked; None for the size of the file, if
            nothing is compressed.

    Raises:
        ArchiveError: the file cannot be read, is damaged, or should not be unpacked; also if reading a member in
            the block fails.
    """
    try:
        with Archive(open_plain(path).detach()) as file, zipfile.ZipFile(file) as archive:
            file.directory = False
            check_members(archive.infolist(), os.fstat(file.fileno()).st_size if limit is None else limit)
            yield archive
    except OSError as error:
        raise ArchiveError(error.strerror or str(error)) from None
    except MemoryError:  # because of this file or of everything else that runs: unknown
        raise ArchiveError("there is not enough memory to read it") from None
    except RecursionError:
        raise ArchiveError("it is corrupt (it is nested too deeply)") from None
    except DAMAGE as error:
        raise ArchiveError(f"it is corrupt ({printable(' '.join(str(error).split()))[:200]})") from None


def check_members(members: list[zipfile.ZipInfo], limit: int) -> None:
    """Validate an archive by its directory.

    Raises:
        ArchiveError: too many members, too large ones, duplicate names, or one that is not a plain file.
    """
    if len(members) > MAX_MEMBERS:
        raise ArchiveError(f"it holds {len(members):,} members; at most {MAX_MEMBERS:,} are read")
    names = set()
    for member in members:
        name = member.filename
        shown = repr(printable(name)[:80])
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":":
            raise ArchiveError(f"its member {shown} leads out of the folder")
        if len(name) > MAX_NAME or printable(name) != name or "\x00" in member.orig_filename:
            raise ArchiveError(f"it has a member with an invalid name: {shown}")
        if name in names:
            raise ArchiveError(f"it holds {shown} twice")
        names.add(name)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) and not (member.is_dir() and kind == stat.S_IFDIR):
            raise ArchiveError(f"its member {shown} is a link or a device, not a file")
        if member.compress_type not in METHODS or member.flag_bits & ENCRYPTED:
            raise ArchiveError(f"its member {shown} is encrypted or compressed in an unusual way")
    size = sum(member.file_size for member in members)
    if size > limit:
        raise ArchiveError(f"it claims to unpack to {format_bytes(size)}; at most {format_bytes(limit)} are read")


def read_npz(path: Path, limit: int | None, mapped: bool = False) -> dict[str, NDArray[Any]]:
    """Read the arrays of an `.npz`, without pickle.

    Args:
        path: the file.
        limit: bytes that it may take in memory; None for the size of the file, if nothing is compressed.
        mapped: whether large arrays of numbers stay in the file, where it is not compressed; they are read-only.

    Returns:
        The arrays by name, each with its own memory: of numbers, booleans or text.

    Raises:
        ArchiveError: the file cannot be read, is damaged or too large, or holds something else.
    """
    with open_archive(path, limit) as archive:
        found = arrays_in(archive)
        most = sum(member.file_size for _, member in found) if limit is None else limit
        stays = [member for _, member in found if mapped and is_mappable(member)]
        whole = mapping.map_file(archive.fp, path) if stays else None
        arrays = {}
        for name, member in found:
            mapped_array = map_array(archive, member, whole) if whole is not None and member in stays else None
            arrays[name] = read_array(archive, member, most) if mapped_array is None else mapped_array
        return arrays


def is_mappable(member: zipfile.ZipInfo) -> bool:
    """Whether a member is large enough to be mapped, and stored as it is."""
    return mapping.MAPPABLE and member.compress_type == zipfile.ZIP_STORED and member.file_size >= MAPPED


def map_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, whole: mapping.MappedFile) -> NDArray[Any] | None:
    """Return an array of an archive mapped as a `whole`; None if it must be read: it is text, or laid out otherwise.

    Raises:
        ArchiveError: it does not match its header or its checksum, or has an unsupported type.
    """
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as file:
        shape, fortran, dtype = read_header(file, name)
        header = file.tell()
    if fortran or dtype.kind not in "biuf" or not dtype.isnative or math.prod(shape) == 0:
        return None
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != member.file_size - header:
        return None  # `read_array` says so
    names, extra = LOCAL.unpack_from(whole, member.header_offset)
    begin = member.header_offset + LOCAL.size + names + extra
    if begin + member.file_size > len(whole) or mapping.checksum(whole, begin, member.file_size) != member.CRC:
        raise ArchiveError(f"Bad CRC-32 for file {member.filename!r}")
    whole.parts.append((begin, member.file_size, member.CRC))
    found = mapping.array_in(whole, begin + header, shape, dtype)
    for part in mapping.in_blocks(found) if dtype.kind == "b" and found.ndim else ():
        check_values(found[part].reshape(-1).view(np.uint8), dtype, name)
    return found


def read_shapes(path: Path, limit: int) -> dict[str, tuple[int, ...]]:
    """Read only the shapes in the array headers of an `.npz`; raises the errors of `read_npz`.

    The `limit` applies to the unpacked size that the file claims; a shape may claim more than that.
    """
    shapes = {}
    with open_archive(path, limit) as archive:
        for name, member in arrays_in(archive):
            with archive.open(member) as file:
                shapes[name] = read_header(file, name)[0]
    return shapes


def arrays_in(archive: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
    """Return the members of an `.npz`, with the names of their arrays.

    Raises:
        ArchiveError: a member is not an array.
    """
    for member in archive.infolist():
        if not member.filename.endswith(".npy"):
            raise ArchiveError(f"its member {member.filename!r} is not an array")
    return [(member.filename.removesuffix(".npy"), member) for member in archive.infolist()]


def read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> NDArray[Any]:
    """Read one array of an archive after comparing its header with its size.

    Raises:
        ArchiveError: it does not match its header, or has an unsupported type. `open_archive` converts other
            errors to this one.
    """
    with archive.open(member) as file:
        return parse_array(file, member.filename.removesuffix(".npy"), member.file_size, limit)


def read_npy(path: Path, limit: int) -> NDArray[Any]:
    """Read the array of an `.npy`, without pickle.

    Args:
        path: the file.
        limit: bytes that it may take.

    Raises:
        ArchiveError: the file cannot be read, is damaged or too large, or holds anything but numbers or text.
    """
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise ArchiveError(f"it takes {format_bytes(size)}, where at most {format_bytes(limit)} are read")
            return parse_array(file, path.name, size, limit)
    except OSError as error:
        raise ArchiveError(error.strerror or str(error)) from None
    except DAMAGE as error:
        raise ArchiveError(f"it is not sound ({printable(' '.join(str(error).split()))[:200]})") from None


def parse_array(file: Any, name: str, file_size: int, limit: int) -> NDArray[Any]:
    """Read the `.npy` of `file_size` bytes that `file` is at the start of; raises the errors of `read_array`."""
    shape, fortran, dtype = read_header(file, name)
    size = file_size - file.tell()
    # An array without entries can still have a dimension of billions, and a loop over it would never end.
    sides = math.prod(max(1, side) for side in shape) * dtype.itemsize
    if min(shape, default=0) < 0 or sides > max(limit, 1) or math.prod(shape) * dtype.itemsize != size:
        raise ArchiveError(f"{name!r} claims to be {dtype} {list(shape)[:8]}, but holds {format_bytes(size)}")
    raw = np.empty(size, np.uint8)
    for first in range(0, size, BLOCK):
        block = file.read(min(BLOCK, size - first))
        raw[first : first + BLOCK] = np.frombuffer(block, np.uint8)
    if file.read(1):  # at the end, the checksum is compared
        raise ArchiveError(f"{name!r} holds more than it claims")
    check_values(raw, dtype, name)
    return raw.view(dtype).reshape(shape, order="F" if fortran else "C")


def read_header(file: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the shape, Fortran order and dtype of an array from its header.

    Raises:
        ArchiveError: it is an array of objects or of another unsupported type.
    """
    read = HEADERS.get(npy.read_magic(file))
    if read is None:
        raise ArchiveError(f"{name!r} is an array of an unsupported version")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an outdated header is not ours
        shape, fortran, dtype = read(file, max_header_size=MAX_HEADER)
    if dtype.hasobject:
        raise ArchiveError(f"{name!r} holds pickled objects, which are never loaded")
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise ArchiveError(f"{name!r} is an array of {dtype}, not of numbers or strings")
    return shape, fortran, dtype


def check_values(raw: NDArray[np.uint8], dtype: np.dtype[Any], name: str) -> None:
    """Reject booleans other than 0/1 and invalid code points.

    Raises:
        ArchiveError: there are some.
    """
    if dtype.kind == "b" and raw.size and raw.max() > 1:
        raise ArchiveError(f"{name!r} holds a boolean that is neither 0 nor 1")
    if dtype.kind == "U":
        letters = raw.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if ((letters > 0x10FFFF) | ((letters >= 0xD800) & (letters < 0xE000))).any():
            raise ArchiveError(f"{name!r} holds invalid characters")


def format_bytes(size: float) -> str:
    """Format a number of bytes for people, e.g. ``1.5 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
