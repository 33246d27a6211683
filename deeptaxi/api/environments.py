"""Open environments given as an id, a path, a transition table, an object of Python, or an open environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium

from deeptaxi.api.status import status
from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.contract import closing
from deeptaxi.mdp.discovery import with_discovered
from deeptaxi.mdp.environment import (
    Environment,
    check_request,
    environment_over,
    open_environment,
    wrap_environment,
)
from deeptaxi.mdp.files import is_table_file
from deeptaxi.mdp.in_memory import InMemory, is_object, resolve_object
from deeptaxi.mdp.named_code import code_folder
from deeptaxi.mdp.sources import Named, Source
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.presets import binning_of
from deeptaxi.schema import from_mapping

TableLike = Mapping[Any, Any] | list[Any] | tuple[Any, Any]  # P, or (P, R): see `mdp.files.read.read_value`
ObjectLike = gymnasium.Env[Any, Any] | Callable[..., gymnasium.Env[Any, Any]]  # see `mdp.in_memory`
EnvLike = str | Path | TransitionTable | Environment | TableLike | ObjectLike
Opened = TransitionTable | Environment | InMemory | EnvironmentConfig  # what a name alone does not say
IN_MEMORY = "transition-table"  # the id of a table that has no file
VIEW = ("observation", "bins", "bin_range", "action_bins", "state_capacity")  # how observations become numbers
_discovered: dict[Any, Environment] = {}


def open_by_name(config: EnvironmentConfig, trust: bool = True) -> Environment:
    """Open an environment, and discover its transition table if it has none; see `mdp.discovery`.

    Args:
        config: the id or path, arguments and time limit, and whether to discover.
        trust: whether the module of a `module:Id` may be imported.

    Raises:
        UsageError: the environment does not exist, or does not take these arguments.
        DeepTaxiError: the table is damaged.
    """
    return discover_table(open_environment(config, trust_module=trust), once=True)


def discover_table(environment: Environment, once: bool) -> Environment:
    """Return an environment with its discovered table, if it has none and it is to be discovered.

    Args:
        environment: the environment.
        once: whether its name and arguments say all of it, so that it need not be discovered again in this process.
    """
    config = environment.config
    if environment.table is not None or config.discover is False:
        return environment
    with closing(environment.make()) as env:
        key = (type(env.unwrapped), repr(env.spec), repr(config))
    if once and key in _discovered:
        return _discovered[key]
    with status("discovering the transition table …"):
        found = with_discovered(environment)
    if once:
        _discovered[key] = found
    return found


@dataclass(frozen=True)
class EnvSpec:
    """The environment that a command or function is asked to use.

    Attributes:
        env: a Gymnasium id, `module:Name`, `file.py:Name`, the path of a file with a table, a table, a value that is
            one, an environment, its class or a function that makes it; None for the model's own.
        kwargs: arguments of the environment, or what a file or value does not say; they override the model's own.
        time_limit: steps after which an episode is truncated, instead of the environment's own limit.
        trust: whether to import the environment module that only a file names, which executes its code.
        discover: whether to discover the table of an environment that has none; None to do so if it takes seconds.
    """

    env: EnvLike | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    time_limit: int | None = None
    trust: bool = False
    discover: bool | None = None

    def config(self, name: str, view: Mapping[str, Any]) -> EnvironmentConfig:
        """Return the configuration of the environment that has this name, seen in the bins of `view`."""
        config: EnvironmentConfig = from_mapping(EnvironmentConfig, {"id": name, **view})
        return dataclasses.replace(config, kwargs=dict(self.kwargs), time_limit=self.time_limit, discover=self.discover)

    def open(self, view: Mapping[str, Any] | None = None) -> Environment:
        """Open the environment that is named; the user who names a module trusts it.

        Args:
            view: the bins to see it in; None for those of its preset.

        Raises:
            UsageError: none is named, it does not exist, or it does not take these arguments.
            DeepTaxiError: the table is damaged.
        """
        if (read := open_value(self.env, self.kwargs, self.time_limit)) is not None:
            return read
        name, opened = name_of(self.env)
        if isinstance(opened, Environment):
            return change_environment(opened, self.kwargs, self.time_limit)
        name = name or ""
        if isinstance(opened, TransitionTable) or is_table_file(name):
            view = {}  # whose states are numbers
        return open_requested(self.config(name, binning_of(name, self.kwargs) if view is None else view), True, opened)

    def unopened(self) -> Environment | tuple[EnvironmentConfig, Source]:
        """Return how the environment that is named is configured and made, without opening it; a table is opened.

        Raises:
            UsageError: none is named, or its code is not found.
            DeepTaxiError: the table is damaged.
        """
        name, opened = name_of(self.env)
        if isinstance(opened, Environment) and opened.source is not None:
            return opened.config, opened.source
        if isinstance(opened, TransitionTable | Environment) or is_table_file(name or ""):
            return self.open()
        config = self.config(name or "", binning_of(name or "", self.kwargs))
        if isinstance(opened, InMemory):
            return config, opened.source
        if isinstance(opened, EnvironmentConfig):
            config = complete_config(config, opened)
        check_request(config)
        return config, Named(code_folder(config.id))

    def open_for(self, own: EnvironmentConfig | Environment | None, name: str) -> Environment:
        """Open the environment that is named, seen as the model sees its own; else its own with the changes applied.

        Args:
            own: the environment that the model was trained on, open or not; None if it is unknown.
            name: name of the model.

        Raises:
            UsageError: none is named and the model's own is unknown, or it cannot be opened.
        """
        if self.env is not None:
            return self.open(None if own is None else view_of(own))
        if isinstance(own, Environment):
            return change_environment(own, self.kwargs, self.time_limit)
        if own is None:
            raise UsageError(f"{name} does not record what it was trained on: specify it with --env")
        changes: dict[str, Any] = {"kwargs": {**own.kwargs, **self.kwargs}}
        if self.time_limit:
            changes["time_limit"] = self.time_limit
        return open_by_name(dataclasses.replace(own, **changes), self.trust)


def view_of(own: EnvironmentConfig | Environment) -> dict[str, Any]:
    """Return how a model sees the observations and actions of its environment, as settings."""
    config = own.config if isinstance(own, Environment) else own
    settings = {name: getattr(config, name) for name in VIEW}
    return {name: value for name, value in settings.items() if value is not None}


def open_value(
    env: Any, env_args: Mapping[str, Any] | None = None, time_limit: int | None = None
) -> Environment | None:
    """Open a value that is a table, such as `P` or (P, R), as an environment in memory; None for any other value.

    Raises:
        DeepTaxiError: it is malformed.
    """
    from deeptaxi.mdp.files.read import is_table_value, options_of, read_value  # readers that few problems need

    if not is_table_value(env):
        return None
    found = read_value(env, options_of(env_args or {}))
    environment = environment_over(found.table, EnvironmentConfig(IN_MEMORY, {}, time_limit))
    return dataclasses.replace(environment, read_as=(found.form, *found.notes))


def describe_object(value: Any) -> str:
    """Describe an argument of the wrong type."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"


def name_of(env: EnvLike | None) -> tuple[str | None, Opened | None]:
    """Return the name of an environment, and the object itself if it is open or in memory, or its configuration.

    Raises:
        UsageError: it is not an environment and makes none, or it cannot be copied.
    """
    if env is None or isinstance(env, str | Path):
        return None if env is None else str(env), None
    if isinstance(env, TransitionTable):
        return IN_MEMORY, env
    if (read := open_value(env)) is not None:
        return IN_MEMORY, read
    found = env if isinstance(env, Environment) else resolve_object(require_object(env))
    if isinstance(found, str):
        return found, None
    return (found.config.id if isinstance(found, Environment) else found.id), found


def require_object(env: Any) -> Any:
    """Return an object that may be an environment, or make one.

    Raises:
        UsageError: it is not.
    """
    if is_object(env):
        return env
    raise UsageError(
        "expected an environment as a Gymnasium id, the path of a table, a TransitionTable, P or (P, R), a Gymnasium "
        f"environment, its class or a function that makes it, received {describe_object(env)}"
    )


def open_requested(requested: EnvironmentConfig, trust: bool, opened: Opened | None) -> Environment:
    """Open the environment of a configuration; `opened` is its table, object or open environment, if there is one.

    If `opened` is a configuration too, its arguments and time limit apply where the requested one has none.

    Raises:
        UsageError: the environment does not exist, or its in-memory table or object was not given.
    """
    if isinstance(opened, InMemory):
        return discover_table(opened.open(requested), once=False)
    if isinstance(opened, EnvironmentConfig):
        return open_by_name(complete_config(requested, opened))
    if isinstance(opened, TransitionTable):
        return open_table(opened, requested)
    if isinstance(opened, Environment):
        return change_environment(opened, requested.kwargs, requested.time_limit)
    if requested.id == IN_MEMORY:
        raise UsageError("the config belongs to a table in memory: pass the TransitionTable too")
    return open_by_name(requested, trust)


def complete_config(requested: EnvironmentConfig, own: EnvironmentConfig) -> EnvironmentConfig:
    """Return a configuration with the id of another, and its arguments and time limit where it has none itself."""
    kwargs, limit = {**own.kwargs, **requested.kwargs}, requested.time_limit or own.time_limit
    return dataclasses.replace(requested, id=own.id, kwargs=kwargs, time_limit=limit)


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
        return dataclasses.replace(open_table(environment.table, config), read_as=environment.read_as)
    if environment.source is not None and not isinstance(environment.source, Named):
        return discover_table(wrap_environment(config, environment.source), once=False)
    return open_by_name(config)


def open_table(table: TransitionTable, config: EnvironmentConfig) -> Environment:
    """Open a table as an environment with the name and time limit of `config`.

    Raises:
        UsageError: arguments are given, which a table does not take.
    """
    if config.kwargs:
        raise UsageError(f"a transition table takes no arguments, received {', '.join(config.kwargs)}")
    return environment_over(table, config)
