"""Cures: settings of a training, as options to type.

A cure is the text of options, such as ``--polyak 0.02 --target-period 1``, or a sentence where no option helps. Options
are read back here, so that what is printed can be typed, compared with the configuration, and tried.

The surest value of a setting is the *usual* one: what `deeptaxi train` takes for this problem and kind of network, from
the preset that fits or from the table. So a cure returns to it wherever that is a step in the right direction, and goes
beyond it only otherwise.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, get_args

from deeptaxi.arguments import show as argument
from deeptaxi.config import EnvironmentConfig, TrainConfig, check_together, merge
from deeptaxi.errors import UsageError
from deeptaxi.schema import from_mapping, leaf_settings, nest, show, to_mapping, value_at

Path = tuple[str, ...]
Changes = Mapping[Path, Any]  # settings by their path in a configuration

UPDATES, SCHEDULE_UPDATES, DISCOUNT = ("updates",), ("schedule_updates",), ("discount",)
RATE, TABULAR_STEP = ("optimizer", "learning_rate"), ("optimizer", "tabular_step")
STEP = (
    ("optimizer", "name"), RATE, TABULAR_STEP, ("optimizer", "schedule"), ("optimizer", "final_fraction"),
    ("optimizer", "loss"), ("optimizer", "clip_norm"),
)  # fmt: skip
SCHEDULE = (("optimizer", "schedule"), ("optimizer", "final_fraction"))
EXPLORATION = tuple(("exploration", name) for name in ("start", "end", "fraction", "schedule", "exploring_starts"))
CAPACITY, BATCH, COPIES = ("replay", "capacity"), ("replay", "batch_size"), ("interaction", "environments")
POLYAK, PERIOD = ("target", "polyak"), ("target", "period")
N_STEP, CORRECTION, BACKUP = ("target", "n_step"), ("target", "n_step_correction"), ("target", "backup")
SCALE, DOUBLE = ("target", "reward_scale"), ("target", "double")
HIDDEN, ACTIVATION, INITIAL = ("network", "hidden"), ("network", "activation"), ("network", "initial_value")
MASK = ("exploration", "action_mask")
LEFT_ALONE = ("seed", "loop", "environment", "evaluation")  # settings that are no cause of a bad policy
IN_MEMORY = "transition-table"  # the id of a table that has no file
CLEARLY = 1.5  # times: a difference in step size that matters
ENOUGH = 100  # samples of a pair, which mostly suffice


@cache
def known_options() -> Mapping[str, tuple[Path, Any, bool | None]]:
    """Return the path, the type, and the value of a switch, of every setting that can be typed, by option."""
    found: dict[str, tuple[Path, Any, bool | None]] = {}
    for path, item, hint in leaf_settings(TrainConfig):
        option = item.metadata["option"]
        if option is None:
            continue
        for name, value in zip(option.split("/"), (True, False), strict=False):
            found[name] = (path, hint, value if "/" in option else None)
    return found


@cache
def option_names() -> Mapping[Path, str]:
    """Return the option of every setting that can be typed, by its path."""
    return {path: option for option, (path, _, value) in known_options().items() if value is not False}


def format_options(changes: Changes) -> str:
    """Format settings as options to type; those that have no option are left out."""
    words = []
    for path, value in changes.items():
        option = option_names().get(path)
        if option is None or value is None:
            continue
        if isinstance(value, bool):
            words.append(next(name for name, known in known_options().items() if known[0::2] == (path, value)))
        else:
            words.append(f"{option} {f'{value:.4g}' if isinstance(value, float) else show(value)}")
    return " ".join(words)


def parse_options(text: str) -> dict[Path, Any] | None:
    """Return the settings that a cure consists of, by path; None if it is a sentence."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    found: dict[Path, Any] = {}
    while words:
        known = known_options().get(words.pop(0))
        if known is None:
            return None
        path, hint, value = known
        if value is None:
            if not words:
                return None
            try:
                value = parse_value(words.pop(0), hint)
            except ValueError:
                return None
        found[path] = value
    return found or None


def parse_value(word: str, hint: Any) -> Any:
    """Convert a typed value to its type; raises `ValueError` if it is not of that type."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kind = kinds[0]
    if kind in (int, float, str):
        return kind(word)
    return tuple(int(item) for item in word.split(","))


def same(one: Any, other: Any) -> bool:
    """Whether two values of a setting are equal, but for the digits that are not printed."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-3)
    return bool(one == other)


def differing(config: TrainConfig, changes: Changes) -> dict[Path, Any]:
    """Return the settings that a configuration does not have already."""
    return {path: value for path, value in changes.items() if not same(value_at(config, path), value)}


def change(config: TrainConfig, changes: Changes) -> TrainConfig:
    """Return a configuration with other settings.

    Raises:
        UsageError: they exclude each other.
    """
    settings = merge(to_mapping(TrainConfig()), to_mapping(config))  # of the two ways to set the step, its own
    changed: TrainConfig = from_mapping(TrainConfig, merge(settings, nest(changes)))
    check_together(changed)
    return changed


def applies(config: TrainConfig, changes: Changes) -> bool:
    """Whether a training could be made with these settings, and would be another one."""
    try:
        return bool(differing(config, changes)) and change(config, changes) != config
    except UsageError:
        return False


def to_usual(config: TrainConfig, usual: TrainConfig | None, *paths: Path) -> dict[Path, Any]:
    """Return the usual values of the settings that differ from them; all that can be typed, if no path is given."""
    if usual is None:
        return {}
    asked = paths or tuple(path for path in option_names() if path[0] not in LEFT_ALONE)
    values = {path: value_at(usual, path) for path in asked}
    return differing(config, {path: value for path, value in values.items() if value not in (None, ())})


def toward(
    config: TrainConfig, usual: TrainConfig | None, path: Path, right: Callable[[Any, Any], bool], otherwise: Any
) -> dict[Path, Any]:
    """Return the usual value of one setting if that is a step in the right direction, else another value."""
    there = value_at(usual, path) if usual is not None else None
    better = there is not None and right(there, value_at(config, path))
    return differing(config, {path: there if better else otherwise})


def more_updates(config: TrainConfig, usual: TrainConfig | None, at_least: int = 0) -> dict[Path, Any]:
    """Return a longer training: the usual one, at least `at_least` updates, or else four times as many."""
    there = max(at_least, usual.updates if usual is not None else 0)
    found: dict[Path, Any] = {UPDATES: there if there > CLEARLY * config.updates else 4 * config.updates}
    if config.schedule_updates is not None and config.schedule_updates < found[UPDATES]:
        found[SCHEDULE_UPDATES] = found[UPDATES]
    return found


def whole_schedule(config: TrainConfig, usual: TrainConfig | None) -> dict[Path, Any]:
    """Return a schedule of the learning rate that lasts as long as the training, of the usual shape."""
    return {SCHEDULE_UPDATES: config.updates} | to_usual(config, usual, *SCHEDULE)


def with_usual_length(config: TrainConfig, changes: Changes, usual: TrainConfig | None, pairs: int) -> dict[Path, Any]:
    """Return a cure with what a training of usual length has besides.

    These are the usual number of updates, where there are fewer, and the usual number of environments, where all steps
    try each of the `pairs` fewer than `ENOUGH` times: a training that was too short otherwise stays bad when the
    fault that it was diagnosed with is gone.
    """
    if usual is None or not applies(config, changes):
        return dict(changes)
    made, more = change(config, changes), {}
    if UPDATES not in changes and usual.updates > CLEARLY * config.updates:
        more = more_updates(made, usual)
    steps = more.get(UPDATES, made.updates) * made.interaction.environments * made.interaction.steps_per_update
    if steps < ENOUGH * pairs and usual.interaction.environments > CLEARLY * made.interaction.environments:
        more[COPIES] = usual.interaction.environments
    return {**changes, **more}


def step_size(config: TrainConfig) -> tuple[Path, float]:
    """Return which setting has the step size, and its value."""
    if config.optimizer.tabular_step is not None:
        return TABULAR_STEP, config.optimizer.tabular_step
    return RATE, config.optimizer.learning_rate or 0.0


def smaller_step(config: TrainConfig, usual: TrainConfig | None) -> dict[Path, Any]:
    """Return a smaller step: the usual one if it is smaller, else a tenth, and nothing beyond what is sound."""
    path, size = step_size(config)
    if usual is not None and (usual.optimizer.name, step_size(usual)[0]) != (config.optimizer.name, path):
        return to_usual(config, usual, *STEP)
    if usual is not None and step_size(usual)[1] * CLEARLY < size:
        return to_usual(config, usual, *STEP)
    sound = 0.1 if path == TABULAR_STEP else 0.05 if config.network.kind == "q-table" else 0.003
    return {path: float(f"{min(size / 10, sound):.2g}")}


def larger_step(config: TrainConfig, usual: TrainConfig | None) -> dict[Path, Any]:
    """Return a larger step: the usual one if it is larger, else ten times the present one."""
    path, size = step_size(config)
    if usual is not None and (usual.optimizer.name, step_size(usual)[0]) != (config.optimizer.name, path):
        return to_usual(config, usual, *STEP)
    if usual is not None and step_size(usual)[1] > CLEARLY * size:
        return to_usual(config, usual, *STEP)
    return {path: float(f"{min(size * 10, 0.5) if path == TABULAR_STEP else size * 10:.2g}")}


def training_command(environment: EnvironmentConfig) -> str:
    """Return the command that trains an agent for an environment with the settings that are usual for it."""
    if environment.in_memory or environment.id == IN_MEMORY:
        return "deeptaxi.train(env)"
    arguments = [f"--env-arg {shlex.quote(f'{key}={argument(value)}')}" for key, value in environment.kwargs.items()]
    limit = [f"--time-limit {environment.time_limit}"] if environment.time_limit else []
    return " ".join(["deeptaxi train", shlex.quote(environment.id), *arguments, *limit])


def in_words(cure: str) -> str:
    """Say a cure of options to somebody whose training has none: ``a learning rate of 0.003`` by its name and value."""
    changes = parse_options(cure)
    if changes is None:
        return cure
    values = []
    for path, value in changes.items():
        name = option_names()[path].removeprefix("--").replace("-", " ")
        if isinstance(value, bool):
            values.append(name if value else f"no {name}")
        else:
            values.append(f"{name} {f'{value:.4g}' if isinstance(value, float) else show(value)}")
    return f"in the training that made it: {', '.join(values)}"
