"""The packaged presets: settings tuned on known problems, one file `presets/*.toml` per problem and network.

A file holds settings in the format of `config.toml`, and its purpose in a table ``[preset]``:

    description    one line for the list
    problems       the problem under all its names: ``{id, kwargs, usual}``. An environment matches if each of `kwargs`
                   is given as written, and every other argument given equals its default in `usual`.
    study          where its settings are from, and what a search for better ones found; see `PresetStudy`

Names that end in ``.q-table`` are for the Q-table network; the others for networks with a hidden layer or a head.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from typing import Any

from deeptaxi.errors import UsageError, nearest

Q_TABLE = ".q-table"
NONE, TABLE = "none", "table"  # not packaged presets: plain defaults, and settings derived from the table
KEYS = ("description", "problems", "study")  # of the table [preset]
PLAIN = "default"  # the file with the network's own defaults; not a preset


@dataclass(frozen=True)
class Problem:
    """An environment under one of its names."""

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)

    def is_meant(self, environment_id: str, kwargs: Mapping[str, Any]) -> bool:
        """Whether an id, with or without its module, and its arguments refer to this problem."""
        known = {**self.usual, **self.kwargs}
        return (
            environment_id.rpartition(":")[2] == self.id
            and all(key in kwargs for key in self.kwargs)
            and all(key in known and same(value, known[key]) for key, value in kwargs.items())
        )


@dataclass(frozen=True)
class PresetStudy:
    """Where the settings of a preset are from, and what the last search for better ones found.

    `python -m benchmarks.presets --tune NAME` searches again, and prints what is here.

    Attributes:
        origin: how they were found.
        date: of the search, such as ``"2026-11-30"``; None if there was none, and so are the following.
        version: of deeptaxi.
        trials: how many the search had, the first with the settings of the preset.
        seeds: those that each trial trained, such as ``"0-9"``.
        unseen_seeds: those on which the preset and what was found were compared.
        objective: by which trials were compared.
        outcome: ``"stands"``, ``"beaten"``, or ``"beaten in updates, not in CPU seconds"``.
        shipped: figures of the preset on the unseen seeds: how many are `optimal`, and the medians of `updates` to the
            optimum and of `cpu_seconds`.
        best: likewise, of what was found, with its `settings`; empty if that is the preset.
    """

    origin: str
    date: str | None = None
    version: str | None = None
    trials: int | None = None
    seeds: str | None = None
    unseen_seeds: str | None = None
    objective: str | None = None
    outcome: str | None = None
    shipped: Mapping[str, Any] = field(default_factory=dict)
    best: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A named set of settings.

    Attributes:
        name: the argument of ``--preset``.
        description: one line.
        problems: the problems it was tuned for; the first is used if only the preset is given.
        settings: nested, as in a configuration.
        study: where they are from; None of those that are no packaged preset.
    """

    name: str
    description: str = ""
    problems: tuple[Problem, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    study: PresetStudy | None = None

    @property
    def network(self) -> str:
        """``"q-table"`` or ``"dueling"``."""
        return "q-table" if self.name.endswith(Q_TABLE) else "dueling"

    @property
    def encoding(self) -> str:
        """The state encoding of its network."""
        return str(self.settings.get("network", {}).get("encoding", "joint"))

    @property
    def environment(self) -> dict[str, Any]:
        """Its environment settings."""
        if not self.problems:
            return {}
        return {"id": self.problems[0].id, "kwargs": dict(self.problems[0].kwargs)}

    def fits(self, environment_id: str, kwargs: Mapping[str, Any]) -> bool:
        """Whether it was tuned for this environment."""
        return any(problem.is_meant(environment_id, kwargs) for problem in self.problems)


def same(one: Any, other: Any) -> bool:
    """Whether two arguments are equal and of one type: 1 is not true."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


@cache
def presets() -> Mapping[str, Preset]:
    """Read all packaged presets, by name."""
    files = (file for file in (resources.files("deeptaxi") / "presets").iterdir() if file.name.endswith(".toml"))
    found = [read(file.name.removesuffix(".toml"), file.read_text(encoding="utf-8")) for file in files]
    return {item.name: item for item in sorted(found, key=lambda item: item.name)}


def read(name: str, text: str) -> Preset:
    """Parse the text of one file."""
    settings = tomllib.loads(text)
    about = settings.pop("preset", {})
    check_keys(name, "preset", about, KEYS)
    problems = tuple(Problem(**problem) for problem in about.get("problems", ()))
    study = about.get("study")
    if study is not None:
        check_keys(name, "preset.study", study, tuple(one.name for one in fields(PresetStudy)))
    return Preset(name, about.get("description", ""), problems, settings, study and PresetStudy(**study))


def check_keys(name: str, table: str, values: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Reject unknown keys of a table in the file of a preset.

    Raises:
        UsageError: there is one.
    """
    for key in values.keys() - set(known):
        raise UsageError(f"preset {name}: unknown key '{table}.{key}'{nearest(key, known)}")


def listed_presets() -> list[Preset]:
    """Return the presets that users can choose from."""
    return [item for item in presets().values() if item.problems]


def plain(kind: str) -> Preset:
    """Return the defaults of this kind of network, without a preset."""
    return presets().get(PLAIN + (Q_TABLE if kind == "q-table" else ""), Preset(PLAIN))


def fitting(environment_id: str, kwargs: Mapping[str, Any], kind: str, encoding: str = "joint") -> Preset | None:
    """Return the preset tuned for an environment and kind of network, or None.

    A preset tuned for the given encoding is preferred, then one for the joint encoding.
    """
    network = "q-table" if kind == "q-table" else "dueling"
    found = [item for item in listed_presets() if item.network == network and item.fits(environment_id, kwargs)]
    ranked = [item for wanted in (encoding, "joint", "factored") for item in found if item.encoding == wanted]
    return next(iter(ranked), None)


def binning_of(environment_id: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bins that a packaged preset sees an environment in, as settings of it; empty if it needs none."""
    fit = (item.settings.get("environment") for item in listed_presets() if item.fits(environment_id, kwargs))
    return dict(next((found for found in fit if found), {}))


def packaged_preset(name: str, others: Iterable[str] = ()) -> Preset:
    """Return a packaged preset.

    Raises:
        UsageError: there is no preset of this name; the message suggests similar names, also among `others`.
    """
    known = {item.name: item for item in listed_presets()}
    if name not in known:
        similar = nearest(name, [*known, *others], count=3)
        raise UsageError(f"unknown preset '{name}'{similar or '; `deeptaxi presets` lists them'}")
    return known[name]


def preset_named(name: str, kind: str | None) -> Preset:
    """Return the preset given by ``--preset``, or its sibling for the requested kind of network.

    Args:
        name: a packaged preset, ``none`` or ``table``.
        kind: the requested kind of network; None if unspecified.

    Raises:
        UsageError: the preset does not exist, or is for another network than requested.
    """
    if name in (NONE, TABLE):
        return Preset(name)
    found = packaged_preset(name, (NONE, TABLE))
    if kind != "q-table" or found.network == kind:
        return found
    sibling = presets().get(name + Q_TABLE)
    if sibling is None:
        raise UsageError(f"--preset {name} has no variant for --q-table: leave one of the two out")
    return sibling
