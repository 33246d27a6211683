"""Frozen dataclasses as configuration: fields that carry their help, check and option, and nested mappings in and out.

A mapping is what TOML and the command line give. Unknown keys, wrong types and failed checks are usage errors that
name the key as the user wrote it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from deeptaxi.bounds import check_lengths
from deeptaxi.errors import UsageError, nearest


@dataclass(frozen=True)
class Check:
    """What a value must be: in words, as a test, and as names to choose from where there are such."""

    description: str
    passes: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


POSITIVE = Check("above 0", lambda x: x > 0)
COUNT = Check("from 1 to 1,000,000,000", lambda x: 1 <= x <= 10**9)  # compiled programs count in 32 bits
NOT_NEGATIVE = Check("0 or more", lambda x: x >= 0)
FRACTION = Check("between 0 and 1", lambda x: 0 <= x <= 1)
RATE = Check("above 0 and at most 1", lambda x: 0 < x <= 1)
SIZES = Check("of whole numbers above 0, such as 128,64", lambda sizes: all(x > 0 for x in sizes))


def one_of(names: tuple[str, ...]) -> Check:
    """Check that a value is among `names`."""
    return Check("one of " + ", ".join(names), lambda x: x in names, names)


def setting(default: Any, help_text: str, check: Check | None = None, option: str | None = None) -> Any:
    """Declare a field with its help text, its check and its command-line option (``None``: TOML only)."""
    metadata = {"help": help_text, "check": check, "option": option}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def show(value: Any) -> str:
    """Return a value as the user may have typed it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


class Checked:
    """Runs each field's check on construction."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):  # type: ignore[arg-type]  # only dataclasses inherit
            value, check = getattr(self, item.name), item.metadata.get("check")
            if value is None or check is None:
                continue
            if not check.passes(value):
                near = nearest(str(value), check.choices)
                raise UsageError(f"{item.name} = {show(value)}: expected a value {check.description}{near}")


def leaf_settings(cls: type, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield ``(path, field, type)`` of every leaf setting, e.g. ``(("replay", "capacity"), field, int)``."""
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        path = (*prefix, item.name)
        if dataclasses.is_dataclass(hints[item.name]):
            yield from leaf_settings(hints[item.name], path)
        else:
            yield path, item, hints[item.name]


def from_mapping(cls: type, values: Mapping[str, Any], where: str = "") -> Any:
    """Build the dataclass `cls` from nested mappings; unknown keys and wrong types are usage errors."""
    hints = get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        if key not in hints:
            elsewhere = {path[-1]: ".".join(path) for path, _, _ in leaf_settings(cls)}
            near = nearest(key, hints) or nearest(key, elsewhere)
            for name, full in elsewhere.items():
                near = near.replace(f"'{name}'", f"'{where}{full}'") if name not in hints else near
            raise UsageError(f"unknown key '{where}{key}'{near}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise UsageError(f"'{where}{key}' is a table of settings: write [{where}{key}]")
            arguments[key] = from_mapping(hints[key], value, f"{where}{key}.")
        else:
            arguments[key] = coerce(value, hints[key], where + key)
    try:
        return cls(**arguments)
    except UsageError as error:
        raise UsageError(f"[{where[:-1]}] {error}" if where else str(error)) from None


def coerce(value: Any, hint: Any, name: str) -> Any:
    """Return `value` as the type `hint`: whole numbers pass as floats and lists as tuples, nothing else bends."""
    if isinstance(hint, UnionType):
        if value is None:
            return None
        hint = next(option for option in get_args(hint) if option is not NoneType)
    try:
        check_lengths(value)
    except ValueError as error:
        raise UsageError(f"'{name}': {error}") from None
    origin = get_origin(hint) or hint
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(coerce(item, get_args(hint)[0], name) for item in value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is float and isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"'{name}' = {value}: expected a finite number")
    accepted = origin if origin is not Mapping and isinstance(origin, type) else Mapping
    if not isinstance(value, accepted) or (isinstance(value, bool) and origin is not bool):
        raise UsageError(f"'{name}' = {value!r}: expected {TYPE_NAMES.get(origin, 'a table')}")
    return value


TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", tuple: "a list"}


def to_mapping(config: Any) -> dict[str, Any]:
    """Return the configuration as nested plain values; what is ``None`` is left out, as TOML has no null."""
    plain: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            plain[item.name] = to_mapping(value)
        elif value is not None:
            plain[item.name] = list(value) if isinstance(value, tuple) else value
    return plain
