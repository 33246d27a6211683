"""Small text files of other people: settings in TOML, facts in JSON.

Both parsers take time and memory by what they are given: the keys of a table that is named by ten thousand words cost
them the square of that. So texts are limited in size, and keys in length, before they are parsed. Whatever is wrong
with a text is a `ValueError` of one line, and with its file an `OSError`.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from deeptaxi.bounds import TOO_LONG, check_lengths, is_of_python

TOML_BYTES = 2**18  # a map of 500 × 500 cells, as an argument of an environment; settings take 2 KB
JSON_BYTES = 2**20  # a card takes 4 KB
MAX_LINE = 2**16  # bytes of a line of a log; a record takes less than 2,000
FIRST = 2**14  # bytes that are read of a file at first, which most are shorter than
LARGEST, LARGEST_COUNT = 1e300, 2**53  # of numbers: there is room for sums, and a count is exact as a float
WORDS = 32  # of a key in TOML; settings have 3
LONG_KEY = re.compile(
    r"""(?<![\w-]) (?: (?: [\w-]+ | "[^"\n]*" | '[^'\n]*' ) [ \t]* \. [ \t]* ){%d}""" % WORDS,  # noqa: UP031  # the braces
    re.VERBOSE | re.ASCII,
)
HALF_LETTERS = re.compile(r"\\u[dD][89a-fA-F]")  # in JSON, two make one; one alone can be neither shown nor written


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a pipe will do.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large, or not TOML.
    """
    return parse_toml(read_text(path, TOML_BYTES))


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file of at most `limit` bytes, no pipe; raises what `read_toml` does."""
    return parse_json(read_text(path, limit, plain=True))


def parse_toml(text: str) -> dict[str, Any]:
    """Return what a TOML text says; one that is not TOML is a `ValueError`."""
    if len(text) > TOML_BYTES:
        raise ValueError(f"it is longer than the {TOML_BYTES:,} letters that are read")
    if LONG_KEY.search(text):
        raise ValueError(f"it has a key of more than {WORDS} words")
    try:
        with digits_limited():
            found = tomllib.loads(text)
            check_lengths(found)
    except RecursionError:
        raise ValueError("its tables and lists are nested too deeply") from None
    return found


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; one that is not JSON, or not text, is a `ValueError`."""
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
    """Let Python's refusal of a number of thousands of digits be ours: it advises to change the interpreter."""
    try:
        yield
    except ValueError as error:
        if is_of_python(error):
            raise ValueError(TOO_LONG) from None
        raise


def read_text(path: Path, limit: int, plain: bool = False) -> str:
    """Return the text of a file of at most `limit` bytes, of no pipe if `plain`; raises what `read_toml` does."""
    with open_plain(path) if plain else path.open("rb") as file:
        content = file.read(min(FIRST, limit + 1))  # to get room for all that may be there takes longer than to read
        if len(content) == FIRST:
            content += file.read(limit + 1 - FIRST)
    if len(content) > limit:
        raise ValueError(f"it is larger than the {limit // 1024:,} KiB that are read")
    return content.decode("utf-8")


def open_plain(path: Path) -> io.BufferedReader:
    """Open a file to read; refuse, with an `OSError`, what is none: a pipe that nobody writes to would never end.

    What is opened is what was looked at, whatever has the name by then.
    """
    return path.open("rb") if os.name == "nt" else io.BufferedReader(io.FileIO(path, opener=plain_descriptor))


def plain_descriptor(name: str, flags: int) -> int:
    """Open a file, as `os.open` does, without waiting for what is none.

    Raises:
        OSError: it is no file, or cannot be opened.
    """
    descriptor = os.open(name, flags | os.O_NONBLOCK)  # which a file knows nothing of
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):  # the latter is refused by who opens it
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a log, as bytes: one may end inside of a letter. Of one that is too long, nothing is left."""
    while line := file.readline(MAX_LINE):
        whole = line.endswith(b"\n") or len(line) < MAX_LINE
        yield line if whole else b""
        while not whole:
            line = file.readline(MAX_LINE)
            whole = line.endswith(b"\n") or len(line) < MAX_LINE


def is_of(value: Any, kind: str, certain: bool = False) -> bool:
    """Whether a value of JSON is of the kind that a field is declared with.

    Args:
        value: it.
        kind: ``int`` (0 or more), ``float``, ``bool``, ``str`` or a mapping, with ``| None`` or without.
        certain: of a ``float``, whether it is always known; else null stands for what is not finite.
    """
    if value is None:
        return kind.endswith("| None") or (kind == "float" and not certain)
    kind = kind.removesuffix(" | None")
    if isinstance(value, bool):
        return kind == "bool"
    if kind == "int":
        return isinstance(value, int) and 0 <= value <= LARGEST_COUNT
    if kind == "float":
        return isinstance(value, int | float) and abs(value) <= LARGEST
    return isinstance(value, {"str": str}.get(kind, dict)) and kind != "bool"
