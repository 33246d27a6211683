"""Settings declared as fields of dataclasses: their help texts and checks, and their forms as nested mappings.

    class ReplayConfig(Checked):
        capacity: int = setting(500_000, "transitions kept", POSITIVE, "--replay-capacity")

What is read from a file or typed is converted here, field by field, and what does not fit is named as it was written.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from deeptaxi.errors import UsageError, nearest
from deeptaxi.io.safe_load import check_lengths, is_a


@dataclass(frozen=True)
class Check:
    """A constraint on a value: in words, as a predicate, and as a list of names if it is a choice."""

    description: str
    passes: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def one_of(names: tuple[str, ...]) -> Check:
    """Check that the value is one of `names`."""
    return Check("one of " + ", ".join(names), lambda x: x in names, names)


def setting(default: Any, help_text: str, check: Check | None = None, option: str | None = None) -> Any:
    """Declare a field with its help text, check and command-line option (``None``: TOML only)."""
    metadata = {"help": help_text, "check": check, "option": option}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def show(value: Any) -> str:
    """Format a value as the user may have typed it."""
    if not isinstance(value, tuple):
        return str(value)
    return ",".join(":".join(map(str, item)) or ":" if isinstance(item, tuple) else str(item) for item in value)


def sort_key(value: Any) -> tuple[int, float, str]:
    """Return what values of a setting are sorted by: numbers first, by size, then texts."""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, show(value))


class Checked:
    """Base class that runs each field's check on construction."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):  # type: ignore[arg-type]  # only dataclasses inherit
            value, check = getattr(self, item.name), item.metadata.get("check")
            if value is None or check is None:
                continue
            if not check.passes(value):
                near = nearest(str(value), check.choices)
                raise UsageError(f"{item.name} = {show(value)}: expected {check.description}{near}")

    def names(self) -> list[str]:
        """Return the names of the settings that have a meaning beside the others, which are written to files."""
        return [item.name for item in dataclasses.fields(self)]  # type: ignore[arg-type]  # as above


@cache
def type_hints(cls: type) -> Mapping[str, Any]:
    """Return the types of a dataclass's fields: reading them takes most of the time that a configuration takes."""
    return get_type_hints(cls)


def leaf_settings(cls: type, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield ``(path, field, type)`` of every leaf setting, e.g. ``(("replay", "capacity"), field, int)``."""
    hints = type_hints(cls)
    for item in dataclasses.fields(cls):
        path = (*prefix, item.name)
        if dataclasses.is_dataclass(hints[item.name]):
            yield from leaf_settings(hints[item.name], path)
        else:
            yield path, item, hints[item.name]


def value_at(settings: Any, path: tuple[str, ...]) -> Any:
    """Return the setting at a path in nested mappings, or in a configuration, or None."""
    for key in path:
        settings = settings.get(key) if isinstance(settings, Mapping) else getattr(settings, key, None)
    return settings


def nest(settings: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Nest settings given by path, omitting those that are None."""
    nested: dict[str, Any] = {}
    for (*sections, key), value in settings.items():
        if value is not None:
            place = nested
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value
    return nested


def from_mapping(cls: type, values: Mapping[str, Any], where: str = "") -> Any:
    """Build the dataclass `cls` from nested mappings; unknown keys and wrong types are usage errors."""
    hints = type_hints(cls)
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
    """Convert `value` to the type `hint`: integers become floats and lists become tuples; nothing else converts."""
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
    if origin is float and is_a(value, int):
        return float(value)
    if origin is float and isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"'{name}' = {value}: expected a finite number")
    accepted = origin if origin is not Mapping and isinstance(origin, type) else Mapping
    if not is_a(value, accepted):
        raise UsageError(f"'{name}' = {value!r}: expected {TYPE_NAMES.get(origin, 'a table')}")
    return value


TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", tuple: "a list"}


def to_mapping(config: Any) -> dict[str, Any]:
    """Convert the configuration to nested plain values; ``None`` is omitted, as TOML has no null."""
    plain: dict[str, Any] = {}
    for name in config.names():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            plain[name] = to_mapping(value)
        elif value is not None:
            plain[name] = to_lists(value)
    return plain


def to_lists(value: Any) -> Any:
    """Convert tuples, also those in tuples, to lists."""
    return [to_lists(item) for item in value] if isinstance(value, tuple) else value
