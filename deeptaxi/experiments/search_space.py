"""The settings that a search varies, and their ranges.

    [learning_rate]
    low = 0.0003
    high = 0.05
    log = true

    [hidden]
    choices = [[64], [128, 64]]

is the form of the file; `search_space.toml`, beside this module, is the default. Imports neither NumPy nor Optuna.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from deeptaxi.config import TrainConfig, known_keys
from deeptaxi.errors import UsageError, nearest
from deeptaxi.experiments.grid import ARGUMENTS, find_setting, format_value
from deeptaxi.io.safe_load import is_a, read_toml
from deeptaxi.schema import coerce, nest, to_lists, value_at

DEFAULT = "search_space.toml"
KEYS = ("low", "high", "log", "choices")


class Suggests(Protocol):
    """What proposes values: a trial of Optuna."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Propose a number."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Propose a whole number."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        """Propose one of these."""


@dataclass(frozen=True)
class Dimension:
    """A setting that is searched.

    Attributes:
        name: as it was written.
        path: in a configuration.
        low: the least value, if it is a number; else None.
        high: the largest value.
        log: whether the scale is logarithmic.
        whole: whether it is a whole number.
        choices: the values to choose from, if it is no number.
    """

    name: str
    path: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Suggests) -> Any:
        """Return the value that a trial proposes, as a file has it."""
        if self.low is None or self.high is None:
            texts = {format_value(choice): choice for choice in self.choices}
            return to_lists(texts[trial.suggest_categorical(self.name, list(texts))])
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def parameter(self, value: Any) -> Any:
        """Return what Optuna calls a value; None if the dimension does not have it."""
        if self.low is None or self.high is None:
            text = format_value(value)
            return text if text in map(format_value, self.choices) else None
        return value if is_a(value, int | float) and self.low <= value <= self.high else None

    def widen(self, value: Any) -> Dimension:
        """Return the dimension with one more value: a choice more, or a range that reaches it."""
        if value is None or self.parameter(value) is not None:
            return self
        if self.low is None or self.high is None:
            choices = (*self.choices, value)
            return replace(self, choices=tuple(sorted(choices)) if all(is_a(one, int) for one in choices) else choices)
        if not is_a(value, int | float) or (self.log and value <= 0):
            return self
        return replace(self, low=min(self.low, value), high=max(self.high, value))

    def to_mapping(self) -> dict[str, Any]:
        """Return its table in a file."""
        if self.low is None:
            return {"choices": to_lists(self.choices)}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}


Space = tuple[Dimension, ...]


def read_space(path: Path) -> Space:
    """Read the file of a search space.

    Raises:
        UsageError: it cannot be read, or a setting or range is wrong.
    """
    try:
        values = read_toml(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    try:
        return space_of(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def default_space(config: TrainConfig) -> Space:
    """Return those dimensions of the packaged file that matter for a configuration, widened to contain its values."""
    text = (resources.files("deeptaxi.experiments") / DEFAULT).read_text(encoding="utf-8")
    return tuple(
        one.widen(to_lists(value_at(config, one.path)))
        for one in space_of(tomllib.loads(text))
        if matters(one.path, config)
    )


def matters(path: tuple[str, ...], config: TrainConfig) -> bool:
    """Return whether a setting may change a training: not the layers of a Q table, say."""
    if path[0] == "network":
        return config.network.kind in ("dueling", "mlp")
    if path == ("target", "n_step"):
        return config.target.backup == "sample"
    if path in (("exploration", "exploring_starts"), ("interaction", "environments")):
        return config.loop == "compiled"
    if path in (("optimizer", "learning_rate"), ("optimizer", "tabular_step")):
        return getattr(config.optimizer, path[1]) is not None
    return True


def space_of(values: Mapping[str, Any]) -> Space:
    """Return the search space of a mapping in the form of the file.

    Raises:
        UsageError: a setting or range is wrong, or there is none.
    """
    found: dict[tuple[str, ...], Dimension] = {}
    for name, table in tables(values):
        dimension = build_dimension(name, table)
        if dimension.path in found:
            raise UsageError(f"[{name}]: {found[dimension.path].name} is the same setting")
        found[dimension.path] = dimension
    if not found:
        raise UsageError("a search space names at least one setting, such as [learning_rate]")
    return tuple(found.values())


def tables(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the tables of settings by their dotted names: TOML reads ``[network.hidden]`` as nested."""
    for key, value in values.items():
        if not isinstance(value, Mapping):
            raise UsageError(f"'{prefix}{key}': expected a table with low and high, or with choices")
        if not value or any(name in KEYS or not isinstance(inner, Mapping) for name, inner in value.items()):
            yield prefix + key, value
        else:
            yield from tables(value, f"{prefix}{key}.")


def build_dimension(name: str, table: Mapping[str, Any]) -> Dimension:
    """Return the dimension of a table.

    Raises:
        UsageError: the setting does not exist, or its range is wrong.
    """
    try:
        path, hint = find_setting(name)
    except UsageError as error:
        raise UsageError(str(error).replace("--grid ", "")) from None
    for key in table:
        if key not in KEYS:
            raise UsageError(f"[{name}]: unknown key '{key}'{nearest(key, KEYS)}")
    if ("choices" in table) == ("low" in table or "high" in table):
        raise UsageError(f"[{name}]: expected low and high, or choices")
    if "choices" in table:
        choices = table["choices"]
        if not isinstance(choices, list) or not choices or "log" in table:
            raise UsageError(f"[{name}]: 'choices' is a list of values, and has no scale")
        if len(set(map(format_value, choices))) < len(choices):
            raise UsageError(f"[{name}]: a choice is given twice")
        check_values(name, path, hint, choices)
        return Dimension(name, path, choices=tuple(choices))
    low, high, log = table.get("low"), table.get("high"), table.get("log", False)
    whole = hint is int or hint == int | None or (hint is None and is_a(low, int) and is_a(high, int))
    numeric = whole or hint in (float, float | None, None)
    number = int if whole else int | float
    if not numeric or not is_a(low, number) or not is_a(high, number) or not low < high:  # type: ignore[operator]
        kind = "whole numbers" if whole else "numbers"
        raise UsageError(
            f"[{name}]: 'low' and 'high' are {kind}, the first below the second"
            if numeric
            else f"[{name}]: this setting is no number: give 'choices'"
        )
    if not is_a(log, bool) or (log and low <= 0):  # type: ignore[operator]
        raise UsageError(f"[{name}]: 'log' is true or false, and a logarithmic scale begins above 0")
    check_values(name, path, hint, [low, high])
    return Dimension(name, path, low, high, log, whole)


def check_values(name: str, path: tuple[str, ...], hint: Any, values: list[Any]) -> None:
    """Check types and ranges of values of a setting.

    Raises:
        UsageError: one is wrong.
    """
    if path[:2] in ARGUMENTS:
        return
    for value in values:
        known_keys(nest({path: to_lists(coerce(value, hint, name))}))


def propose(trial: Suggests, space: Space) -> dict[str, Any]:
    """Return the values that a trial proposes, by the names of their dimensions."""
    return {dimension.name: dimension.suggest(trial) for dimension in space}


def nested_values(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Return values by name as nested settings."""
    return nest({dimension.path: values[dimension.name] for dimension in space})


def parameters_of(config: TrainConfig, space: Space) -> dict[str, Any]:
    """Return those parameters of a configuration that are in the space."""
    found = {}
    for dimension in space:
        value = to_lists(value_at(config, dimension.path))
        if value is not None and (parameter := dimension.parameter(value)) is not None:
            found[dimension.name] = parameter
    return found


def to_space_mapping(space: Space) -> dict[str, Any]:
    """Return the contents of the file of a search space."""
    return {dimension.name: dimension.to_mapping() for dimension in space}
