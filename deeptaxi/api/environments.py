"""Open environments given as an id, a path, a transition table, or an open environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeptaxi.config import EnvironmentConfig, from_mapping
from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import Environment, environment_over, open_environment
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.presets import binning_of

EnvLike = str | Path | TransitionTable | Environment
IN_MEMORY = "transition-table"  # the id of a table that has no file


def named(env: str | Path, env_args: Mapping[str, Any] | None, time_limit: int | None) -> EnvironmentConfig:
    """Return the configuration of an environment given as an id or a path, in the bins of its preset if it has any."""
    place = {"id": str(env), "kwargs": dict(env_args or {}), **binning_of(str(env), env_args or {})}
    config: EnvironmentConfig = from_mapping(EnvironmentConfig, place)
    return dataclasses.replace(config, time_limit=time_limit)


def open_place(
    env: EnvLike, env_args: Mapping[str, Any] | None = None, time_limit: int | None = None, trust: bool = True
) -> Environment:
    """Open an environment.

    Args:
        env: a Gymnasium id, `module:Id`, the path of a `.npz`, a table, or an open environment.
        env_args: arguments for `gymnasium.make`.
        time_limit: steps after which an episode is truncated, instead of the environment's own limit.
        trust: whether the module of a `module:Id` may be imported.

    Raises:
        UsageError: the environment does not exist, or does not take these arguments.
        DeepTaxiError: the table is damaged.
    """
    if isinstance(env, str | Path):
        return open_environment(named(env, env_args, time_limit), trust)
    if isinstance(env, TransitionTable):
        return open_table(env, EnvironmentConfig(IN_MEMORY, dict(env_args or {}), time_limit))
    return change_environment(known(env), env_args, time_limit)


def known(env: Any) -> Environment:
    """Return `env` if it is an open environment; reject any other object.

    Raises:
        UsageError: it is not an `Environment`; for one of Gymnasium's, the message gives the id to use instead.
    """
    if isinstance(env, Environment):
        return env
    name = getattr(getattr(env, "spec", None), "id", None)
    instead = f": name it by its id, '{name}', with its arguments in env_args" if name else ""
    raise UsageError(
        "expected an environment as a Gymnasium id, a .npz path or a TransitionTable, "
        f"received an object of {type(env).__name__}{instead}"
    )


def name_of(env: EnvLike | None) -> tuple[str | None, TransitionTable | Environment | None]:
    """Return the name of an environment, and the object itself if it is open or in memory."""
    if env is None or isinstance(env, str | Path):
        return None if env is None else str(env), None
    if isinstance(env, TransitionTable):
        return IN_MEMORY, env
    return known(env).config.id, env


def open_requested(
    requested: EnvironmentConfig, trust: bool, opened: TransitionTable | Environment | None
) -> Environment:
    """Open the environment of a configuration; `opened` is its table or open environment, if there is one.

    Raises:
        UsageError: the environment does not exist, or its in-memory table was not given.
    """
    if isinstance(opened, TransitionTable):
        return open_table(opened, requested)
    if isinstance(opened, Environment):
        return change_environment(opened, requested.kwargs, requested.time_limit)
    if requested.id == IN_MEMORY:
        raise UsageError("the settings are of a table that was kept in memory: name the TransitionTable too")
    return open_environment(requested, trust_module=trust)


def change_environment(
    environment: Environment, env_args: Mapping[str, Any] | None, time_limit: int | None
) -> Environment:
    """Return an open environment with its arguments or time limit changed."""
    changes: dict[str, Any] = {"kwargs": {**environment.config.kwargs, **env_args}} if env_args else {}
    if time_limit:
        changes["time_limit"] = time_limit
    config = dataclasses.replace(environment.config, **changes)
    return environment if config == environment.config else reopen_environment(environment, config)


def reopen_environment(environment: Environment, config: EnvironmentConfig) -> Environment:
    """Reopen an environment with another configuration; a table needs no file for that."""
    if environment.table is not None and (config.id == IN_MEMORY or config.id.endswith(".npz")):
        return open_table(environment.table, config)
    return open_environment(config)


def open_table(table: TransitionTable, config: EnvironmentConfig) -> Environment:
    """Open a table as an environment with the name and time limit of `config`.

    Raises:
        UsageError: arguments are given, which a table does not take.
    """
    if config.kwargs:
        raise UsageError(f"a transition table takes no arguments, received {', '.join(config.kwargs)}")
    return environment_over(table, config)


def view_of(known: EnvironmentConfig, other: EnvironmentConfig) -> dict[str, Any]:
    """Return how a model that was trained on one environment sees another; a table needs no bins."""
    if other.id.endswith(".npz"):
        return {}
    return {name: getattr(known, name) for name in ("observation", "bins", "bin_range", "action_bins")}


def environment_config(
    known: EnvironmentConfig | None,
    name: str,
    env: str | Path | None,
    env_args: Mapping[str, Any] | None,
    time_limit: int | None,
) -> EnvironmentConfig:
    """Return the configuration of the given environment, else the model's own with the changes applied.

    Args:
        known: environment that the model was trained on, or None.
        name: name of the model.
        env: requested environment, or None for the model's own; its observations are seen as by the model.
        env_args: arguments for `gymnasium.make`; they override the model's own.
        time_limit: time limit, instead of the environment's own.

    Raises:
        UsageError: no environment is given, and the model's own is unknown.
    """
    if env is not None:
        other = named(env, env_args, time_limit)
        return other if known is None else dataclasses.replace(other, **view_of(known, other))
    if known is None:
        raise UsageError(f"{name} does not say what it was trained on: name it with --env")
    changes: dict[str, Any] = {"kwargs": {**known.kwargs, **(env_args or {})}}
    if time_limit:
        changes["time_limit"] = time_limit
    return dataclasses.replace(known, **changes)
