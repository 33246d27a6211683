"""Training settings as keyword arguments, named after their options: `--learning-rate` is learning_rate.

Imports neither NumPy nor Gymnasium.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypedDict

from deeptaxi.arguments import plain
from deeptaxi.config import (
    TrainConfig,
    check_own_network,
    known_facts,
    known_keys,
    merge,
    read_toml,
    with_former_defaults,
    with_literals,
)
from deeptaxi.errors import UsageError, nearest
from deeptaxi.renamed import ARGUMENTS, OPTIONS
from deeptaxi.schema import leaf_settings, nest, to_mapping
from deeptaxi.storage.run_folder import CONFIG_FILE


class Settings(TypedDict, total=False):
    """The training settings; the command reference describes each one and its default."""

    time_limit: int
    discover: bool
    observation: str
    bins: Sequence[int]
    bin_range: Sequence[Sequence[float]]
    action_bins: Sequence[int]
    state_capacity: int
    seed: int
    loop: str
    updates: int
    schedule_updates: int
    discount: float
    hidden: Sequence[int]
    dueling: bool
    aggregation: str
    activation: str
    encoding: str
    initial_value: float
    network: Any  # a Keras model, a function that builds one, or its name
    optimizer: str
    learning_rate: float
    tabular_step: float
    learning_rate_schedule: str
    final_learning_rate_fraction: float
    loss: str
    clip_norm: float
    row_sparse: bool
    epsilon_start: float
    epsilon_end: float
    epsilon_fraction: float
    epsilon_schedule: str
    exploring_starts: float
    action_mask: bool
    replay_capacity: int
    batch_size: int
    replay_start: int
    prioritized: bool
    priority_exponent: float
    importance_exponent: float
    double: bool
    backup: str
    n_step: int
    n_step_correction: str
    reward_scale: float
    polyak: float
    target_period: int
    environments: int
    steps_per_update: int
    eval_every: int
    early_stop: bool
    objective_discount: float


class TrainSettings(Settings, total=False):
    """The settings of one training; the `workers` of a sweep are those that train its jobs."""

    workers: int


Config = str | Path | Mapping[str, Any] | TrainConfig


class TrainOptions(Settings, total=False):
    """The keyword arguments of `deeptaxi.train`."""

    q_table: bool
    preset: str | None
    config: Config | None
    env_args: Mapping[str, Any] | None
    network_args: Mapping[str, Any] | None
    out: str | Path | Literal[True] | None
    logs: str | Path | None
    tensorboard: bool
    track: str | Sequence[str]
    compact: bool
    vectorized: bool | None
    force: bool
    trust_env: bool
    callbacks: Sequence[Callable[[Any], object]] | None
    stop: Callable[[], bool] | None
    stop_after: int | None
    checkpoints: bool
    checkpoint_every: float
    resume: str | Path | None


NO_TABLE = ("hidden", "dueling", "aggregation", "activation")  # network settings that a Q table does not have


@cache
def paths() -> Mapping[str, tuple[str, ...]]:
    """Return the path of each setting in a configuration, by name."""
    options = {path: item.metadata["option"] for path, item, _ in leaf_settings(TrainConfig)}
    return {
        option.partition("/")[0].removeprefix("--").replace("-", "_"): path
        for path, option in options.items()
        if option
    }


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nest named settings as in a configuration, omitting those that are None.

    Raises:
        UsageError: a setting does not exist.
    """
    for name in settings:
        option = f"--{name.replace('_', '-')}"
        if option in OPTIONS:
            raise UsageError(f"'{name}' is now '{OPTIONS[option].removeprefix('--').replace('-', '_')}'")
        if name in ARGUMENTS:
            raise UsageError(f"'{name}' is now '{ARGUMENTS[name]}', a list: {ARGUMENTS[name]}=[…]")
        if name not in paths():
            raise UsageError(f"unknown setting '{name}'{nearest(name, paths())}")
    return nest({paths()[name]: plain_value(value) for name, value in settings.items()})


def plain_value(value: Any) -> Any:
    """Convert a NumPy scalar or array to plain Python."""
    return value.tolist() if type(value).__module__ == "numpy" else value


def values_of(config: Config | None) -> dict[str, Any]:
    """Return a configuration or configuration file as nested settings.

    Raises:
        UsageError: it cannot be read, or has an unknown key.
    """
    if config is None:
        return {}
    if isinstance(config, TrainConfig):
        return to_mapping(config)
    if isinstance(config, Mapping):
        known_facts(config.get("run"))
        values = with_literals({key: value for key, value in config.items() if key != "run"})
        known_keys(values)
        return with_former_defaults(values) if "run" in config else values
    return read_toml(settings_file(Path(config)))


def settings_file(path: Path) -> Path:
    """Return a file of settings; that of an agent of a compact group is unpacked."""
    if path.exists() or path.name != CONFIG_FILE:
        return path
    from deeptaxi.storage.compact_group import run_folder_of

    return run_folder_of(path.parent) / path.name


def merge_settings(
    env: str | None,
    env_args: Mapping[str, Any] | None,
    config: Config | None,
    q_table: bool,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Merge the configuration with explicit overrides, nested.

    Raises:
        UsageError: settings exclude each other, or the configuration cannot be read.
    """
    network = given.get("network", {})
    if q_table:
        for name in NO_TABLE:
            if network.get(name):
                raise UsageError(f"--q-table has neither hidden layers nor a head: leave out --{name}")
    values = values_of(config)
    builders = [values.get("network", {}).get("builder"), network.get("builder")]
    if q_table and any(builders):
        raise UsageError("--network builds the whole network: leave out --q-table")
    if network.get("kwargs") and builders[0] and builders[1] in (None, builders[0]):
        kwargs = {**(values["network"].get("kwargs") or {}), **network["kwargs"]}
        given = {**given, "network": {**network, "kwargs": kwargs}}
    if env is not None and values.get("environment", {}).get("id", env) != env:
        values["environment"] = {}
    over = dict(given)
    if q_table:
        over["network"] = {**network, "hidden": [], "dueling": False}
    kwargs = plain(dict(env_args or {}))
    if kwargs:  # override those of the configuration, which is for the same environment here
        kwargs = {**values.get("environment", {}).get("kwargs", {}), **kwargs}
    environment = {key: value for key, value in (("id", env), ("kwargs", kwargs)) if value}
    merged = merge(values, merge(over, {"environment": {**over.get("environment", {}), **environment}}))
    check_own_network(merged.get("network"))
    return merged
