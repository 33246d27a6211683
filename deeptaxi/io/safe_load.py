"""Untrusted texts: settings in TOML, facts in JSON, and the types of what they hold.

**Texts.** Both parsers take time and memory that depend on their input: a TOML table named by ten thousand words takes
time quadratic in that number. So texts are limited in size, and keys in length, before parsing. Any fault in a text is
a one-line `ValueError`, and any fault of its file an `OSError`.

**Values** are checked against types. A type is Python's own (``int``, ``float | None``, ``list[str]``,
``dict[str, str]``, ``tuple[float, float]``), or a mapping of keys to types for an object of JSON, or a list of one such
mapping for any number of objects. A Boolean is no number, a whole number is a number too, and numbers are bounded, so
that arithmetic on them stays finite.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, BinaryIO, Union, get_args, get_origin

from deeptaxi.errors import printable

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
    """Return the first entry of a value that is missing or has the wrong type, as a message, or None."""
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
