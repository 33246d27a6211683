"""Check values that were read from JSON or TOML against types.

A type is Python's own (``int``, ``float | None``, ``list[str]``, ``dict[str, str]``, ``tuple[float, float]``), or a
mapping of keys to types for an object of JSON, or a list of one such mapping for any number of objects. A Boolean is no
number, a whole number is a number too, and numbers are bounded, so that arithmetic on them stays finite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from deeptaxi.errors import printable

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
