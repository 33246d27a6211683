"""Untrusted files: settings in TOML, facts in JSON, arrays in zip archives. None of them runs code.

**Texts.** Both parsers take time and memory that depend on their input: a TOML table named by ten thousand words takes
time quadratic in that number. So texts are limited in size, and keys in length, before parsing. Any fault in a text is
a one-line `ValueError`, and any fault of its file an `OSError`.

**Values** are checked against types. A type is Python's own (``int``, ``float | None``, ``list[str]``,
``dict[str, str]``, ``tuple[float, float]``), or a mapping of keys to types for an object of JSON, or a list of one such
mapping for any number of objects. A Boolean is no number, a whole number is a number too, and numbers are bounded, so
that arithmetic on them stays finite.

**Archives**, such as `.npz` and `.keras`, are checked by their directory before anything is unpacked. A few hundred
bytes can claim to be petabytes, a name can point outside the folder, and NumPy allocates what an array *claims* to
hold before it reads it. So sizes are taken from the directory (no more than that is read) and compared with a limit,
and an array's header must match the size of its member.

A zip archive ends with its directory, which is read as a whole, so its size is limited too; its members have limits of
their own.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import stat
import struct
import tokenize
import tomllib
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, BinaryIO, Union, get_args, get_origin

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError, printable

TOML_BYTES = 2**18  # a map of 500 × 500 cells, as an environment argument; settings take 2 KB
JSON_BYTES = 2**20  # a model card takes 4 KB
MAX_LINE = 2**16  # bytes per line of a log; a record takes less than 2,000
FIRST = 2**14  # bytes of a file read at first; most files are shorter
WORDS = 32  # of a TOML key; settings have 3
LONG_KEY = re.compile(
    r"""(?<![\w-]) (?: (?: [\w-]+ | "[^"\n]*" | '[^'\n]*' ) [ \t]* \. [ \t]* ){%d}""" % WORDS,  # noqa: UP031  # the braces
    re.VERBOSE | re.ASCII,
)
HALF_LETTERS = re.compile(r"\\u[dD][89a-fA-F]")  # JSON surrogates; a lone one cannot be shown or written


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; pipes are allowed.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large, or not TOML.
    """
    return parse_toml(read_text(path, TOML_BYTES))


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file of at most `limit` bytes, but no pipe; raises the errors of `read_toml`."""
    return parse_json(read_text(path, limit, plain=True))


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML text; raise a `ValueError` if it is invalid."""
    if len(text) > TOML_BYTES:
        raise ValueError(f"it is longer than the limit of {TOML_BYTES:,} characters")
    if LONG_KEY.search(text):
        raise ValueError(f"it has a key of more than {WORDS} parts")
    try:
        with digits_limited():
            found = tomllib.loads(text)
            check_lengths(found)
    except RecursionError:
        raise ValueError("its tables and lists are nested too deeply") from None
    return found


def parse_json(text: str) -> Any:
    """Parse a JSON text; raise a `ValueError` if it is not JSON or not text."""
    try:
        with digits_limited():
            value = json.loads(text)
    except RecursionError:
        raise ValueError("its objects and lists are nested too deeply") from None
    if HALF_LETTERS.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # raises a UnicodeEncodeError, which is a ValueError
    return value


@contextmanager
def digits_limited() -> Iterator[None]:
    """Replace Python's error for a number with thousands of digits, which advises changing the interpreter."""
    try:
        yield
    except ValueError as error:
        if is_of_python(error):
            raise ValueError(TOO_LONG) from None
        raise


def read_text(path: Path, limit: int, plain: bool = False) -> str:
    """Read a text file of at most `limit` bytes, but no pipe if `plain`; raises the errors of `read_toml`."""
    with open_plain(path) if plain else path.open("rb") as file:
        content = file.read(min(FIRST, limit + 1))  # allocating the maximum takes longer than reading
        if len(content) == FIRST:
            content += file.read(limit + 1 - FIRST)
    if len(content) > limit:
        raise ValueError(f"it is larger than the limit of {limit // 1024:,} KiB")
    return content.decode("utf-8")


def open_plain(path: Path) -> io.BufferedReader:
    """Open a file for reading; raise an `OSError` for anything else: a pipe without a writer would block forever.

    The file that is checked is the file that is opened, even if another gets its name meanwhile.
    """
    return path.open("rb") if os.name == "nt" else io.BufferedReader(io.FileIO(path, opener=plain_descriptor))


def plain_descriptor(name: str, flags: int) -> int:
    """Open a file like `os.open`, without blocking on anything that is not a file.

    Raises:
        OSError: it is not a file, or cannot be opened.
    """
    descriptor = os.open(name, flags | os.O_NONBLOCK)  # no effect on files
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):  # the caller rejects folders
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a log as bytes, since one may end inside a character; overlong lines become empty."""
    while line := file.readline(MAX_LINE):
        whole = line.endswith(b"\n") or len(line) < MAX_LINE
        yield line if whole else b""
        while not whole:
            line = file.readline(MAX_LINE)
            whole = line.endswith(b"\n") or len(line) < MAX_LINE


LONGEST = 1023  # bits of an integer: any integer this short fits in a float
TOO_LONG = "a number is too long: expected at most 307 digits"
LIMIT_OF_PYTHON = "Exceeds the limit"  # start of Python's error message for long decimal numbers


def is_too_long(value: Any) -> bool:
    """Whether the value is an integer too large for a float."""
    return isinstance(value, int) and value.bit_length() > LONGEST


def check_lengths(value: Any) -> None:
    """Check nested lists and mappings for numbers that are too long.

    Raises:
        ValueError: a number is too long.
    """
    if any(map(is_too_long, leaves(value))):
        raise ValueError(TOO_LONG)


def leaves(value: Any) -> Iterator[Any]:
    """Yield every scalar in nested lists, tuples and mappings, including mapping keys."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Mapping):
            waiting += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple):
            waiting += found
        else:
            yield found


def all_finite(value: Any) -> bool:
    """Whether no number in the value is NaN or infinite."""
    return all(math.isfinite(leaf) for leaf in leaves(value) if isinstance(leaf, float))


def is_of_python(error: Exception) -> bool:
    """Whether the error is Python's limit on the number of digits."""
    return LIMIT_OF_PYTHON in str(error)


MAX_MEMBERS = 4_096  # a network has two arrays per layer, a checkpoint several times that
MAX_NAME = 255  # characters; the limit of file systems
MAX_DIRECTORY = 2**22  # bytes: more than members with the longest names need
MAX_HEADER = 1_000  # characters of an array's header; some 100 are enough
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others allocate memory as the file says
ENCRYPTED = 0x1
KINDS = "biufcSU"  # NumPy's types for numbers and text, nothing that needs unpickling
BLOCK = 2**20
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


def read_npz(path: Path, limit: int | None) -> dict[str, NDArray[Any]]:
    """Read the arrays of an `.npz`, without pickle.

    Args:
        path: the file.
        limit: bytes that it may take in memory; None for the size of the file, if nothing is compressed.

    Returns:
        The arrays by name, each with its own memory: of numbers, booleans or text.

    Raises:
        ArchiveError: the file cannot be read, is damaged or too large, or holds something else.
    """
    with open_archive(path, limit) as archive:
        found = arrays_in(archive)
        most = sum(member.file_size for _, member in found) if limit is None else limit
        return {name: read_array(archive, member, most) for name, member in found}


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
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as file:
        shape, fortran, dtype = read_header(file, name)
        size = member.file_size - file.tell()
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


LARGEST, LARGEST_COUNT = 1e300, 2**53  # of numbers: leaves room for sums, and a count is exact as a float
OPTIONAL = "?"  # ends the name of a key that may be missing or null
Seed = Annotated[int, "0 or more"]  # an `int` alone is a count
Line = Annotated[str, "printable, in one line"]

BASIC: Mapping[Any, Callable[[Any], bool]] = {
    Any: lambda _: True,
    NoneType: lambda value: value is None,
    bool: lambda value: isinstance(value, bool),
    int: lambda value: is_a(value, int) and 0 <= value <= LARGEST_COUNT,
    Seed: lambda value: is_a(value, int) and 0 <= value <= LARGEST,
    float: lambda value: is_a(value, int | float) and abs(value) <= LARGEST,
    str: lambda value: isinstance(value, str),
    Line: lambda value: isinstance(value, str) and printable(value) == value,
    dict: lambda value: isinstance(value, dict),
}


def is_a(value: Any, kind: type | UnionType) -> bool:
    """Whether a value is an instance of a type; a Boolean is one of ``bool`` only."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


@cache
def check_of(kind: Any) -> Callable[[Any], bool]:
    """Return the function that tells whether a value is of a type."""
    if kind in BASIC:
        return BASIC[kind]
    origin, checks = get_origin(kind), [check_of(inner) for inner in get_args(kind)]
    if origin in (Union, UnionType):
        return lambda value: any(check(value) for check in checks)
    if origin is list:
        return lambda value: isinstance(value, list) and all(map(checks[0], value))
    if origin is tuple:
        return lambda value: (
            isinstance(value, list)
            and len(value) == len(checks)
            and all(check(item) for check, item in zip(checks, value, strict=True))
        )
    return lambda value: isinstance(value, dict) and all(map(checks[1], value.values()))


def fault_of(value: Any, kind: Any, name: str = "") -> str | None:
    """Return the first entry of a value that is missing or has the wrong type, as a message; None if there is none."""
    if isinstance(kind, Mapping) and isinstance(value, dict):
        for known, inner in kind.items():
            key = known.removesuffix(OPTIONAL)
            if key != known and value.get(key) is None:
                continue
            where = f"{name}.{key}" if name else key
            fault = fault_of(value[key], inner, where) if key in value else wrong(where)
            if fault:
                return fault
        return None
    if isinstance(kind, list) and isinstance(value, list):
        return next(filter(None, (fault_of(item, kind[0], f"{name}.{i}") for i, item in enumerate(value))), None)
    return None if not isinstance(kind, Mapping | list) and check_of(kind)(value) else wrong(name)


def wrong(name: str) -> str:
    """Say that an entry is missing or has the wrong type."""
    return f"'{name}' is missing or of the wrong kind"
