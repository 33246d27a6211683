"""Check the arguments of an environment against its constructor.

Every non-empty string is true in Python: ``is_slippery="False"`` makes the lake slippery. So each argument is checked
against the annotation and the type of the default of the constructor's parameter before the environment is made.
"""

from __future__ import annotations

import collections.abc
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import gymnasium
from gymnasium.envs.registration import find_highest_version, get_env_id, load_env_creator, parse_env_id
from gymnasium.envs.toy_text.frozen_lake import MAPS, FrozenLakeEnv

from deeptaxi.arguments import shorten, show
from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.io.safe_load import all_finite
from deeptaxi.mdp.contract import quiet

WORDS = {
    "bool": "true or false", "number": "a number", "text": "a string", "list": "a list", "table": "a table",
    "None": "None",
}  # fmt: skip
KINDS: Mapping[Any, tuple[str, ...]] = {
    bool: ("bool",), int: ("number",), float: ("number",), str: ("text",), list: ("list",), tuple: ("list",),
    dict: ("table",), NoneType: ("None",), None: ("None",), collections.abc.Mapping: ("table",),
    collections.abc.Sequence: ("list", "text"), collections.abc.Iterable: ("list", "text"),
}  # fmt: skip


def check_arguments(config: EnvironmentConfig) -> None:
    """Reject arguments that do not fit the environment's constructor.

    An environment that cannot be found or imported is skipped: making it reports the reason.

    Raises:
        UsageError: an argument has the wrong type, or a map is invalid.
    """
    if not config.kwargs:
        return
    creator, registered = constructor_of(config.id)
    if creator is None:
        return
    for key, value in config.kwargs.items():
        expected = expected_kinds(creator, key, registered)
        if expected is not None and not fits(value, expected):
            wanted = " or ".join(WORDS[kind] for kind in WORDS if kind in expected)
            raise UsageError(f"{key}={shorten(show(value))}: {config.id} expects {wanted}{list_hint(value, expected)}")
        if not all_finite(value) and str(getattr(creator, "__module__", "")).startswith("gymnasium.envs.toy_text"):
            raise UsageError(f"{key}={shorten(show(value))}: {config.id} expects finite numbers")
    if isinstance(creator, type) and getattr(creator, "__init__") is FrozenLakeEnv.__init__:  # noqa: B009  # mypy
        check_lake(config)


def constructor_of(name: str) -> tuple[Callable[..., Any] | None, Mapping[str, Any]]:
    """Return the constructor of an environment and its registered arguments; None if it is not found."""
    module, colon, known = name.rpartition(":")
    try:
        with quiet():
            if colon:
                importlib.import_module(module)
            spec = gymnasium.registry[registered_id(known)]
            entry = spec.entry_point
            return load_env_creator(entry) if isinstance(entry, str) else entry, spec.kwargs
    except (Exception, SystemExit):  # the environment's own code may raise anything
        return None, {}


def registered_id(name: str) -> str:
    """Return the id that Gymnasium resolves a name to: itself, or its highest version if it has none.

    The id need not be registered: ``Taxi-v04`` is not ``Taxi-v4``.
    """
    try:
        space, word, version = parse_env_id(name)
        highest = find_highest_version(space, word) if version is None else None
    except gymnasium.error.Error:  # not a valid id
        return name
    return name if highest is None or name in gymnasium.registry else get_env_id(space, word, highest)


def expected_kinds(creator: Callable[..., Any], name: str, registered: Mapping[str, Any]) -> set[str] | None:
    """Return the kinds of value that a parameter accepts, or None if unknown.

    Args:
        creator: a class or a function.
        name: the parameter.
        registered: arguments that take precedence over its defaults.
    """
    parameter = parameter_of(creator, name)
    default = registered.get(name, parameter.default if parameter else inspect.Parameter.empty)
    by_default = kind_of(default)
    annotated = kinds_of(parameter.annotation) if parameter else None
    if annotated is not None:
        return annotated | ({by_default} if by_default else set())
    return {by_default} if by_default in ("bool", "number") else None


def parameter_of(creator: Callable[..., Any], name: str) -> inspect.Parameter | None:
    """Return a parameter; for a class that forwards ``**kwargs``, also search the class that receives them."""
    for function in functions_of(creator):
        parameters = signature(function)
        if name in parameters:
            found = parameters[name]
            return found.replace(annotation=annotation_of(function, found))
        if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            return None
    return None


def functions_of(creator: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Yield the functions that receive the arguments."""
    if not isinstance(creator, type):
        yield creator
        return
    for cls in creator.__mro__:
        if "__init__" in vars(cls):
            yield vars(cls)["__init__"]


def signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function; empty if it has no signature."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def annotation_of(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the annotation of a parameter as an object, or as text if it cannot be evaluated."""
    hint = parameter.annotation
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, getattr(inspect.unwrap(function), "__globals__", {}))  # noqa: S307  # of imported code
    except Exception:  # it may be any expression
        return hint


def kinds_of(hint: Any) -> set[str] | None:
    """Return the kinds of value that an annotation allows; None if any part of it is unknown."""
    if get_origin(hint) in (Union, UnionType):
        parts = [kinds_of(part) for part in get_args(hint)]
        return None if None in parts else set().union(*(part for part in parts if part))
    try:
        found = KINDS.get(get_origin(hint) or hint)
    except TypeError:  # unhashable
        return None
    return set(found) if found else None


def kind_of(value: Any) -> str | None:
    """Return the kind of a value, or None if it is not a plain one."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return next((KINDS[cls][0] for cls in (str, list, tuple, dict, NoneType) if isinstance(value, cls)), None)


def fits(value: Any, expected: set[str]) -> bool:
    """Whether a value is of one of the kinds; 0 and 1 also count as booleans."""
    kind = kind_of(value)
    return kind is None or kind in expected or ("bool" in expected and kind == "number" and value in (0, 1))


def list_hint(value: Any, expected: set[str]) -> str:
    """Explain how to write a list if text was given instead."""
    return ', such as ["AB", "CD"]' if isinstance(value, str) and "list" in expected else ""


def check_lake(config: EnvironmentConfig) -> None:
    """Reject maps that FrozenLake cannot use.

    Raises:
        UsageError: the map's name is unknown, its rows differ in length, or it has no start.
    """
    rows, name = config.kwargs.get("desc"), config.kwargs.get("map_name")
    if rows is None:
        if name is not None and name not in MAPS:
            raise UsageError(
                f"map_name={show(name)}: {config.id} knows {' and '.join(MAPS)}; give a map of your own as desc"
            )
        return
    given = f"desc={shorten(show(rows))}"
    if not isinstance(rows, list | tuple):
        return
    if not rows or not all(isinstance(row, str | list | tuple) and row for row in rows):
        raise UsageError(f'{given}: expected rows of letters, such as ["SFFF", "HFFG"]')
    lengths = [len(row) for row in rows]
    if len(set(lengths)) > 1:
        odd = next(i for i, length in enumerate(lengths) if length != lengths[0])
        raise UsageError(
            f"{given}: row {odd + 1} has {lengths[odd]} cells and row 1 has {lengths[0]}; give all rows the same length"
        )
    if not any("S" in row for row in rows):
        raise UsageError(f"{given}: the map has no start; write S in the cell where episodes begin")
