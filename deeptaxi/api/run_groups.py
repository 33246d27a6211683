"""Group runs by their settings, and say what else they differ in, so that a comparison compares what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeptaxi import schema
from deeptaxi.api.settings import paths
from deeptaxi.errors import UsageError, nearest, one_line
from deeptaxi.storage.run_results import RunResult

FEW = 5  # names that a remark lists
SAME = 1e-6  # relative difference of two optima of the same problem
ENV, NETWORK = "env", "network"
OTHERS: dict[str, Callable[[RunResult], Any]] = {  # keys that are no settings
    ENV: lambda run: run.environment,
    NETWORK: lambda run: "{} ({})".format(*run.network.split(", ", 1)) if ", " in run.network else run.network,
    "preset": lambda run: run.preset,
    "folder": lambda run: "." if run.folder is None else str(run.folder.parent),
}


@dataclass(frozen=True)
class Key:
    """What runs are grouped by.

    Attributes:
        label: its name for people.
        name: one of `OTHERS`, or the dotted name of a setting.
    """

    label: str
    name: str

    def value(self, run: RunResult) -> Any:
        """Return the value of a run."""
        return OTHERS[self.name](run) if self.name in OTHERS else run.settings.get(self.name)

    @property
    def of_environment(self) -> bool:
        """Whether runs with other values are on other problems."""
        return self.name == ENV or self.name.startswith("environment.")


@dataclass(frozen=True, eq=False)
class RunGroup:
    """Runs with the same values of all keys.

    Attributes:
        settings: the values, by the labels of the keys.
        label: the same in a few words, without the environment if there is anything else.
        runs: the runs.
    """

    settings: Mapping[str, Any]
    label: str
    runs: Sequence[RunResult]

    @property
    def environment(self) -> str:
        """The problem that all of them are on."""
        return self.runs[0].environment

    @property
    def name(self) -> str:
        """Its label, with the environment if groups are on several."""
        on_several = ENV in self.settings and self.label != self.environment
        return f"{self.label} on {self.environment}" if on_several else self.label


def short_label(name: str) -> str:
    """Return the name of a setting as its option has it, without dashes; else its dotted name."""
    options = {".".join(path): option for option, path in paths().items()}
    return options.get(name) or re.sub(r"^(environment|network)\.kwargs\.", "", name)


def find_keys(names: Sequence[str], runs: Sequence[RunResult]) -> list[Key]:
    """Return the keys of that name.

    Raises:
        UsageError: a name is unknown, ambiguous, or given twice.
    """
    known = list(dict.fromkeys(name for run in runs for name in run.settings))
    keys = [Key(name, find_setting(name, known)) for name in names]
    for key in keys:
        if [other.name for other in keys].count(key.name) > 1:
            raise UsageError(f"--by {key.label}: it is given twice")
    return keys


def find_setting(name: str, known: Sequence[str]) -> str:
    """Return the dotted name of a setting, or the name of another key.

    Args:
        name: dotted, as its option is named, or its last part.
        known: the dotted names of all settings of the runs.

    Raises:
        UsageError: it is unknown or ambiguous.
    """
    plain = name.removeprefix("--").replace("-", "_")
    options = {option: ".".join(path) for option, path in paths().items()}
    for place in (name, plain, options.get(plain, "")):
        if place in OTHERS or place in known:
            return place
    ends = [full for full in known if full.rpartition(".")[2] == plain]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise UsageError(f"--by {name}: it may be {' or '.join(ends)}; write one of them")
    near = nearest(plain, [*options, *OTHERS, *known, *(full.rpartition(".")[2] for full in known)])
    raise UsageError(f"--by {name}: there is no such setting{near or '; `deeptaxi train --help` lists them'}")


def check_problems(runs: Sequence[RunResult], keys: Sequence[Key] | None) -> None:
    """Reject runs on different problems, unless they are grouped by what makes them different.

    Raises:
        UsageError: their environments or objective discounts differ, or optima of the same name.
    """
    first: dict[str, RunResult] = {}
    for run in runs:
        other = first.setdefault(run.environment, run)
        if run.objective_discount != other.objective_discount:
            raise UsageError(
                f"{run.name} is evaluated at discount {run.objective_discount}, {other.name} at "
                f"{other.objective_discount}, so that optimal is not the same: leave one of them out"
            )
        if run.exact and other.exact:
            one, two = run.exact["optimal_value"], other.exact["optimal_value"]
            if abs(one - two) > SAME * (1 + abs(one)):
                raise UsageError(
                    f"{other.name} and {run.name} are both on {run.environment}, but their optimal values are {two:g} "
                    f"and {one:g}: it is not the same problem; leave one of them out"
                )
    if len(first) > 1 and not any(key.of_environment for key in keys or ()):
        (one, run), (two, other) = list(first.items())[:2]
        by = " ".join(f"--by {key.label}" for key in keys_on_each_problem(runs, keys))
        raise UsageError(
            f"{run.name} is on {one}, {other.name} on {two}: name runs on one problem, or compare those on each, "
            f"`deeptaxi compare … {by}`; with `-o FILE`, it writes a page too"
        )


def keys_on_each_problem(runs: Sequence[RunResult], keys: Sequence[Key] | None) -> list[Key]:
    """Return keys that compare runs on each of their problems: by these, or by what differs on any of them."""
    if keys is None:
        places = dict.fromkeys(run.environment for run in runs)
        found = [name for place in places for name in differing([run for run in runs if run.environment == place])]
        keys = [Key(short_label(name), name) for name in dict.fromkeys(found)]
    return [*find_keys([ENV], runs), *keys]


def differing(runs: Sequence[RunResult]) -> list[str]:
    """Return the settings in which runs differ, besides the seed and the environment's."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [
        name
        for name in names
        if name != "seed" and not name.startswith("environment.") and len(values_of(name, runs)) > 1
    ]


def values_of(name: str, runs: Iterable[RunResult]) -> set[str]:
    """Return the values of a setting, as text."""
    return {repr(run.settings.get(name)) for run in runs}


def default_keys(runs: Sequence[RunResult]) -> list[Key]:
    """Return keys that tell apart all runs whose settings differ, leaving out those that go along with earlier ones."""
    keys: list[Key] = []
    groups = 1
    for name in differing(runs):
        key = Key(short_label(name), name)
        found = len({tuple(repr(one.value(run)) for one in [*keys, key]) for run in runs})
        if found > groups:
            keys, groups = [*keys, key], found
    return keys


def group(runs: Sequence[RunResult], keys: Sequence[Key]) -> list[RunGroup]:
    """Group runs by the values of the keys, ascending where they are numbers."""
    found: dict[tuple[str, ...], list[RunResult]] = {}
    for run in runs:
        found.setdefault(tuple(repr(key.value(run)) for key in keys), []).append(run)
    groups = []
    for members in found.values():
        settings = {key.label: key.value(members[0]) for key in keys}
        groups.append(RunGroup(settings, label_of(settings), members))
    return sorted(groups, key=lambda one: [schema.sort_key(value) for value in one.settings.values()])


def label_of(settings: Mapping[str, Any]) -> str:
    """Describe the values of a group: a single number or word stands for itself."""
    if not settings:
        return "all runs"
    if len(settings) > 1:
        settings = {name: value for name, value in settings.items() if name != ENV}
    shown = {name: show(value) for name, value in settings.items()}
    name, value = next(iter(settings.items()))
    if len(settings) == 1 and (name in OTHERS or (value is not None and not isinstance(value, bool | tuple))):
        return shown[name]
    return " ".join(f"{name}={value}" for name, value in shown.items())


def show(value: Any) -> str:
    """Format a value in one line."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return one_line(schema.show(value)) or "none"


def without_copies(runs: Sequence[RunResult]) -> tuple[list[RunResult], list[tuple[RunResult, RunResult]]]:
    """Return the runs but those that are the same training again, and the latter, each with the one it repeats.

    The same settings and seed lead to the same weights: such runs say no more than one of them.
    """
    kept: dict[str, RunResult] = {}
    copies = []
    for run in runs:
        training = f"{run.environment} {sorted(run.settings.items())!r} {run.digest}"
        if training in kept:
            copies.append((run, kept[training]))
        kept.setdefault(training, run)
    return list(kept.values()), copies


def describe_differences(groups: Sequence[RunGroup], keys: Sequence[Key], chosen: bool) -> list[str]:
    """Say what the runs differ in besides the keys: what is said of a key may be due to that.

    Args:
        groups: the groups.
        keys: what they are grouped by.
        chosen: whether the user chose the keys.
    """
    names = {key.name for key in keys}
    within: dict[str, None] = {}
    along: dict[str, None] = {}
    for place in dict.fromkeys(one.environment for one in groups):
        here = [one for one in groups if one.environment == place]
        for name in differing([run for one in here for run in one.runs]):
            if name not in names and not (NETWORK in names and name.startswith("network.")):
                inside = any(len(values_of(name, one.runs)) > 1 for one in here)
                (within if inside else along)[name] = None
    remarks = []
    if not chosen and keys:
        remarks.append(f"The runs are grouped by {listed(key.label for key in keys)}, in which they differ.")
    if within:
        remarks.append(f"Runs of the same group differ in {listed(map(short_label, within))}, and not in seeds alone.")
    if along:
        remarks.append(
            f"The groups differ in {listed(map(short_label, along))} too: a difference may be due to "
            f"{'that' if len(along) == 1 else 'any of these'}."
        )
    return remarks


def listed(names: Iterable[str]) -> str:
    """Join names in a sentence; of many, the first."""
    known = list(names)
    more = len(known) - FEW
    if more > 0:
        return f"{', '.join(known[:FEW])} and {more} more"
    return " and ".join(filter(None, [", ".join(known[:-1]), known[-1]]))
