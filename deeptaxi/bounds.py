"""How long a number may be that somebody has written: none has a meaning here beyond what a float can hold.

Python reads a hexadecimal number of any length, and then can neither print it nor turn it into a float; a decimal one
of more than 4,300 digits it does not read at all. So both are refused where they are read, in the same words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST = 1023  # bits of a whole number: each of so many is a float too
TOO_LONG = "a number is too long: expected at most 307 digits"
LIMIT_OF_PYTHON = "Exceeds the limit"  # how its refusal of a decimal number begins


def is_too_long(value: Any) -> bool:
    """Whether a value is a whole number that no float may hold."""
    return isinstance(value, int) and value.bit_length() > LONGEST


def check_lengths(value: Any) -> None:
    """Look through nested lists and mappings for numbers that are too long.

    Raises:
        ValueError: there is one.
    """
    if any(map(is_too_long, leaves(value))):
        raise ValueError(TOO_LONG)


def leaves(value: Any) -> Iterator[Any]:
    """Yield all that is no list, tuple or mapping within a value, the keys of mappings too."""
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
    """Whether no number within a value is NaN or infinite."""
    return all(math.isfinite(leaf) for leaf in leaves(value) if isinstance(leaf, float))


def is_of_python(error: Exception) -> bool:
    """Whether an error is Python's refusal to read or to write a number of so many digits."""
    return LIMIT_OF_PYTHON in str(error)
