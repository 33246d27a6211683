"""A grid of trainings: environments, values of settings and seeds, each combination a job.

    environments = ["Taxi-v4", "FrozenLake-v1"]
    seeds = "0-9"

    [grid]
    learning_rate = [0.001, 0.003]
    "network.hidden" = [[64], [128, 64]]

    [settings]
    updates = 5000

is the file of a sweep, and the same form is saved in its folder. A *point* is one combination of environment and
values; its jobs differ in their seeds alone. Imports neither NumPy nor Gymnasium.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w

from deeptaxi import arguments
from deeptaxi.config import TrainConfig, known_keys, merge, with_literals, without_literals
from deeptaxi.errors import UsageError, nearest
from deeptaxi.io.safe_load import is_a, read_toml
from deeptaxi.schema import coerce, leaf_settings, nest, show, to_lists, value_at

LARGEST_SEED = 2**63 - 1
MOST_JOBS = 1_000_000
LONGEST_NAME = 80  # characters of a point's folder
# These begin the paths of arguments, which have no type.
ARGUMENTS = (("environment", "kwargs"), ("network", "kwargs"), ("optimizer", "options"))
KEYS = ("environments", "seeds", "grid", "settings", "preset")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds that a text such as ``"0-9"`` or ``"0-3,7"`` names, in its order.

    Raises:
        UsageError: it is no such text, or names a seed twice.
    """
    seeds: list[int] = []
    earlier: set[int] = set()
    for part in text.replace(" ", "").split(","):
        found = re.fullmatch(r"(\d{1,19})(?:-(\d{1,19}))?", part)
        if found is None:
            raise UsageError(f"seeds '{text}': expected whole numbers and ranges, such as 0-9 or 0-3,7")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise UsageError(f"seeds '{part}': a range goes up: write {last}-{first}")
        if last > LARGEST_SEED or last - first >= MOST_JOBS:
            raise UsageError(f"seeds '{part}': expected at most {MOST_JOBS:,} seeds, up to {LARGEST_SEED}")
        named = range(first, last + 1)
        twice = next((seed for seed in named if seed in earlier), None)
        if twice is not None:
            raise UsageError(f"seeds '{arguments.shorten(text)}': {twice} is named twice")
        if len(seeds) + len(named) > MOST_JOBS:
            raise UsageError(f"seeds '{arguments.shorten(text)}': expected at most {MOST_JOBS:,} seeds")
        earlier.update(named)
        seeds.extend(named)
    return tuple(seeds)


def check_seeds(seeds: str | int | Sequence[int]) -> tuple[int, ...]:
    """Return seeds given as a text (`parse_seeds`), one number, or several, such as ``range(64)``.

    Raises:
        UsageError: there are no seeds, or one is repeated or not a whole number of 0 or more.
    """
    if isinstance(seeds, str):
        return parse_seeds(seeds)
    if not isinstance(seeds, int | Iterable):
        raise UsageError(f"seeds: {seeds!r} is no whole number from 0 to {LARGEST_SEED}")
    given: list[Any] = [seeds] if isinstance(seeds, int) else list(seeds)
    plain = [seed.item() if type(seed).__module__ == "numpy" else seed for seed in given]
    for seed in plain:
        if not is_a(seed, int) or not 0 <= seed <= LARGEST_SEED:
            raise UsageError(f"seeds: {seed!r} is no whole number from 0 to {LARGEST_SEED}")
    if not plain or len(plain) > MOST_JOBS:
        raise UsageError(f"seeds: expected 1 to {MOST_JOBS:,}, received {len(plain):,}")
    if len(set(plain)) < len(plain):
        raise UsageError("seeds: one is given twice")
    return tuple(plain)


def format_seeds(seeds: Sequence[int]) -> str:
    """Return seeds as `parse_seeds` reads them, with ranges where they follow each other."""
    ranges: list[list[int]] = []
    for seed in seeds:
        if ranges and seed == ranges[-1][1] + 1:
            ranges[-1][1] = seed
        else:
            ranges.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


@cache
def settings_by_name() -> Mapping[str, tuple[tuple[str, ...], Any]]:
    """Return the path and type of each setting, by its dotted path and by the name of its option."""
    found: dict[str, tuple[tuple[str, ...], Any]] = {}
    for path, item, hint in leaf_settings(TrainConfig):
        found[".".join(path)] = path, hint
        if option := item.metadata["option"]:
            found[option.partition("/")[0].removeprefix("--").replace("-", "_")] = path, hint
    return found


def find_setting(name: str) -> tuple[tuple[str, ...], Any]:
    """Return the path and type of a setting; the type of an argument is None.

    Args:
        name: of an option (``learning_rate``), dotted as in a file (``optimizer.learning_rate``), or of an argument of
            the environment (``environment.kwargs.is_slippery``), of the network's builder (``network.kwargs.width``)
            or of the optimizer (``optimizer.options.beta_1``).

    Raises:
        UsageError: no setting has this name, or it is not varied by a grid.
    """
    known, plain = settings_by_name(), name.strip().removeprefix("--").replace("-", "_")
    if plain in ("seed", "environment.id"):
        option = "--seeds" if plain == "seed" else "--env"
        raise UsageError(
            f"--grid {name}: several {'seeds' if plain == 'seed' else 'environments'} are given by {option}"
        )
    if plain in ("environment.kwargs", "network.kwargs"):
        raise UsageError(f"--grid {name}: expected a single argument, such as environment.kwargs.is_slippery")
    if plain in known:
        return known[plain]
    path = tuple(plain.split("."))
    if path[:2] in ARGUMENTS and len(path) == 3 and path[2].isidentifier():
        return path, None
    raise UsageError(f"--grid {name}: unknown setting{nearest(plain, known)}")


def parse_axis(text: str) -> tuple[str, tuple[Any, ...]]:
    """Return the name and values of ``NAME=VALUE,VALUE``; layers of one network are joined by x, as in ``64,128x64``.

    Raises:
        UsageError: the text has another form, or a value another type than the setting.
    """
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise UsageError(f"--grid {text}: expected NAME=VALUE,VALUE, such as learning_rate=0.001,0.003")
    _, hint = find_setting(name)
    return name.strip(), tuple(parse_value(part, hint, name) for part in values.split(","))


def parse_value(text: str, hint: Any, name: str) -> Any:
    """Return a typed value, as a file has it."""
    text = text.strip()
    if "tuple" in str(hint) and "str" not in str(hint):
        try:
            return [] if text in ("", "none") else [int(part) for part in text.split("x")]
        except ValueError:
            raise UsageError(f"--grid {name}: expected sizes such as 64 or 128x64, received '{text}'") from None
    if hint in (str, str | None):
        return text
    try:
        return arguments.parse(text)
    except ValueError as error:
        raise UsageError(f"--grid {name}={arguments.shorten(text)}: {error}") from None


@dataclass(frozen=True)
class Job:
    """One training of a grid.

    Attributes:
        name: the point and the seed, such as ``taxi-v4-learning_rate=0.001/seed-3``: the run folder, below the grid's.
        point: its environment and values.
        values: nested settings.
        varied: what distinguishes its point from others: values of the grid, and the environment if there are several.
        preset: the name of the preset, or None for the one that fits.
    """

    name: str
    point: str
    seed: int
    values: Mapping[str, Any]
    varied: Mapping[str, Any]
    preset: str | None = None


@dataclass(frozen=True)
class Grid:
    """All combinations of environments, values and seeds.

    Attributes:
        environments: names of environments; empty if the `settings` name it.
        axes: the values of each varied setting, by its name.
        seeds: of each point.
        settings: of all jobs, nested.
        preset: as for a `Job`.
    """

    seeds: tuple[int, ...]
    environments: tuple[str, ...] = ()
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None

    def __post_init__(self) -> None:
        """Check names and types.

        Raises:
            UsageError: one is wrong, or there is nothing to train.
        """
        if not self.environments and not self.settings.get("environment", {}).get("id"):
            raise UsageError("nothing to train: name an environment, such as --env Taxi-v4")
        if not self.seeds:
            raise UsageError("nothing to train: name seeds, such as --seeds 0-9")
        paths: dict[tuple[str, ...], str] = {}
        for name, values in self.axes.items():
            path = check_axis(name, values)
            if path in paths:
                raise UsageError(f"--grid {name}: {paths[path]} is the same setting")
            paths[path] = name
        if len(set(self.environments)) < len(self.environments):
            raise UsageError("--env: an environment is given twice")
        if self.count > MOST_JOBS:
            raise UsageError(f"{self.count:,} jobs: a grid has at most {MOST_JOBS:,}")

    @property
    def count(self) -> int:
        """The number of jobs."""
        points = max(1, len(self.environments))
        for values in self.axes.values():
            points *= len(values)
        return points * len(self.seeds)

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs, those of a point one after the other."""
        names: set[str] = set()
        for environment in self.environments or (None,):
            for values in itertools.product(*self.axes.values()):
                varied = dict(zip(self.axes, map(to_lists, values), strict=True))
                settings = dict(self.settings)
                for name, value in varied.items():
                    settings = with_setting(settings, find_setting(name)[0], value)
                if environment is not None:
                    settings = merge(settings, {"environment": {"id": environment}})
                    if len(self.environments) > 1:
                        varied = {"env": environment, **varied}
                point = name_point(environment if len(self.environments) > 1 else None, varied)
                while point in names:
                    point += "-"
                names.add(point)
                for seed in self.seeds:
                    name = f"{point}/seed-{seed}" if point else f"seed-{seed}"
                    yield Job(name, point, seed, merge(settings, {"seed": seed}), varied, self.preset)


def check_axis(name: str, values: Sequence[Any]) -> tuple[str, ...]:
    """Check the values of a setting; return its path.

    Raises:
        UsageError: there is no such setting, or a value is of the wrong type, out of range, or comes twice.
    """
    path, hint = find_setting(name)
    if not values:
        raise UsageError(f"--grid {name}: no values")
    if any(one == other for one, other in itertools.combinations(values, 2)):
        raise UsageError(f"--grid {name}: a value is given twice")
    for value in values if hint is not None else ():
        try:
            known_keys(nest({path: to_lists(coerce(value, hint, name))}))
        except UsageError as error:
            raise UsageError(f"--grid {error}") from None
    return path


def refuse_varied(axes: Any, settings: Any) -> None:
    """Refuse a setting that is varied and has one value as well: one of the two would be ignored.

    Args:
        axes: the table of a grid, as in a file.
        settings: nested settings that are given beside it.

    Raises:
        UsageError: there is such a setting, or a name of a grid is unknown.
    """
    for name, _ in flatten(axes) if isinstance(axes, Mapping) else ():
        found = value_at(settings, find_setting(name)[0])
        if found is not None:
            raise UsageError(
                f"--grid {name}: it has one value as well, {format_value(found)}: leave out one of the two"
            )


def with_setting(settings: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return nested settings with one more; an argument joins the others."""
    if path[:2] in ARGUMENTS:
        others = settings.get(path[0], {}).get(path[1]) or {}
        return merge(settings, {path[0]: {path[1]: {**others, path[2]: value}}})
    return merge(settings, nest({path: value}))


def program_of(job: Job) -> tuple[Any, ...]:
    """Return what decides which program a job runs: the values that are no real numbers, which are arguments of it."""
    kinds = {name: None if name == "env" else find_setting(name)[1] for name in job.varied}
    return tuple((name, str(value)) for name, value in job.varied.items() if kinds[name] not in (float, float | None))


def name_point(environment: str | None, varied: Mapping[str, Any]) -> str:
    """Return the name of a point, which is the name of its folder: empty if nothing varies."""
    parts = [] if environment is None else [Path(environment).name]
    parts += [f"{name.rpartition('.')[2]}={format_value(value)}" for name, value in varied.items() if name != "env"]
    name = re.sub(r"[^A-Za-z0-9=.,_+-]+", "-", "_".join(parts)).strip("-.")
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: LONGEST_NAME - 9]}-{digest}"
    return name


def format_value(value: Any) -> str:
    """Return a value as it is typed for `parse_axis`."""
    if isinstance(value, list | tuple):
        return "x".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else show(value)


def read_grid(path: Path) -> dict[str, Any]:
    """Read the file of a sweep, for `grid_of`.

    Raises:
        UsageError: it cannot be read, or a key is wrong.
    """
    try:
        values = read_toml(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    for key in values:
        if key not in KEYS:
            raise UsageError(f"{path}: unknown key '{key}'{nearest(key, KEYS)}")
    settings = values.get("settings", {})
    return {**values, "settings": with_literals(settings) if isinstance(settings, Mapping) else settings}


def check_tables(values: Mapping[str, Any]) -> None:
    """Check that a mapping in the form of the file has tables where it should.

    Raises:
        UsageError: it has something else.
    """
    if not isinstance(values.get("grid", {}), Mapping):
        raise UsageError("'grid': expected a table of lists, such as learning_rate = [0.001, 0.003]")
    if not isinstance(values.get("settings", {}), Mapping):
        raise UsageError("'settings': expected a table")


def grid_of(values: Mapping[str, Any]) -> Grid:
    """Return the grid of a mapping in the form of the file.

    Raises:
        UsageError: a key, type or value is wrong.
    """
    for key in values:
        if key not in KEYS:
            raise UsageError(f"unknown key '{key}'{nearest(key, KEYS)}")
    check_tables(values)
    environments, axes, settings = values.get("environments", []), values.get("grid", {}), values.get("settings", {})
    if not isinstance(environments, list) or not all(isinstance(name, str) for name in environments):
        raise UsageError("'environments': expected a list of names")
    flat = dict(flatten(axes))
    if not all(isinstance(one, list) for one in flat.values()):
        raise UsageError("'grid': expected a table of lists, such as learning_rate = [0.001, 0.003]")
    known_keys(settings)
    if "seed" in settings:
        raise UsageError("'settings.seed': a sweep has 'seeds'")
    preset = values.get("preset")
    if preset is not None and not isinstance(preset, str):
        raise UsageError("'preset': expected a name")
    lists = {name: tuple(found) for name, found in flat.items()}
    return Grid(check_seeds(values.get("seeds", "0")), tuple(environments), lists, settings, preset)


def flatten(axes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the lists of nested tables by their dotted names: TOML reads ``network.hidden = [[64]]`` as nested."""
    for key, value in axes.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def dump_grid(grid: Grid) -> str:
    """Return the file of a sweep."""
    axes = {name: [to_lists(value) for value in values] for name, values in grid.axes.items()}
    values: dict[str, Any] = {"environments": list(grid.environments), "seeds": format_seeds(grid.seeds)}
    if grid.preset is not None:
        values["preset"] = grid.preset
    return tomli_w.dumps({**values, "grid": axes, "settings": without_nothing(without_literals(grid.settings))})


def without_nothing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings without those that are None, which TOML cannot hold."""
    return {
        key: without_nothing(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if value is not None
    }
