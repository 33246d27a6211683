"""Limits on the length of numbers in user input: no setting needs more than a float can hold.

Python parses hexadecimal numbers of any length, but can then neither print them nor convert them to float; decimal
numbers of more than 4,300 digits it does not parse at all. Both are rejected on input, with the same message.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

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
