"""Where an environment comes from: an id or a name that code is found by, or something in memory.

Each source makes new instances of one environment: vector copies, the instance that is checked, the one that is drawn.
What `gymnasium.make` puts around an environment, an instance of any other origin gets here too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.constructor import constructor_of, functions_of, signature
from deeptaxi.mdp.contract import GYMNASIUMS, NEW, OLD
from deeptaxi.mdp.named_code import Creator, find_creator, split_name
from deeptaxi.search_path import folder_first, hide_current_folder

Env = gymnasium.Env[Any, Any]


class Source(Protocol):
    """Makes instances of one environment."""

    def importing(self) -> AbstractContextManager[None]:
        """Let the environment's own code import what it needs while the block runs."""

    def creator(self, name: str) -> tuple[Callable[..., Any] | None, Mapping[str, Any]]:
        """Return the class or function that takes the arguments, and those it is registered with; None if unknown."""

    def make(self, config: EnvironmentConfig, frames: Mapping[str, str]) -> Env:
        """Make an instance; `frames` is empty, or has Gymnasium's ``render_mode``."""

    def full_name(self, name: str, env: Env) -> str:
        """Return the id of an instance with its version, if it has one."""


@dataclass(frozen=True)
class Named:
    """An environment that is found by its id, `module:Name` or `file.py:Name`.

    Attributes:
        folder: the folder that its code is imported from first; None to import nothing from the current folder.
    """

    folder: str | None

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Search the folder of the code first, and not the current one if that is another."""
        with hide_current_folder(), folder_first(self.folder or ""):
            yield

    def creator(self, name: str) -> tuple[Callable[..., Any] | None, Mapping[str, Any]]:
        """Return the class or function, and the arguments that it is registered with."""
        return constructor_of(name, self.folder)

    def make(self, config: EnvironmentConfig, frames: Mapping[str, str]) -> Env:
        """Make an instance.

        Raises:
            UsageError: its code does not have it.
        """
        module, name = split_name(config.id)
        found = find_creator(config.id, self.folder) if module else Creator(None, name)
        if found.make is not None:
            return made_by(found.make, config, frames)
        arguments = {**(frames or without_window(found.id or name)), **config.kwargs}
        return gymnasium.make(
            found.id or name, max_episode_steps=config.time_limit, disable_env_checker=True, **arguments
        )

    def full_name(self, name: str, env: Env) -> str:
        """Return the name with the version that was chosen if none was given."""
        module, _ = split_name(name)
        if not module:
            return env.spec.id if env.spec else name
        found = find_creator(name, self.folder)
        return f"{module}:{found.id}" if found.id else name


def without_window(name: str) -> dict[str, None]:
    """Return the argument that keeps an environment from the window that it is registered with, if it is."""
    try:
        registered = gymnasium.spec(name).kwargs.get("render_mode")
    except gymnasium.error.Error:  # which `gymnasium.make` will report
        return {}
    return {"render_mode": None} if registered else {}


@dataclass(frozen=True)
class Made:
    """An environment that a class or function in memory makes."""

    make_one: Callable[..., Any]

    def importing(self) -> AbstractContextManager[None]:
        """Leave the search path as it is: the code is the caller's."""
        return nullcontext()

    def creator(self, name: str) -> tuple[Callable[..., Any] | None, Mapping[str, Any]]:
        """Return the class or function."""
        del name
        return self.make_one, {}

    def make(self, config: EnvironmentConfig, frames: Mapping[str, str]) -> Env:
        """Make an instance."""
        return made_by(self.make_one, config, frames)

    def full_name(self, name: str, env: Env) -> str:
        """Return the name."""
        del env
        return name


def made_by(creator: Callable[..., Any], config: EnvironmentConfig, frames: Mapping[str, str]) -> Env:
    """Make an instance by a class or function that is not registered.

    Raises:
        UsageError: it makes no environment.
    """
    asked = frames if takes(creator, "render_mode") else {}
    return with_limit(checked_kind(creator(**asked, **config.kwargs), config.id), config.time_limit, frames)


def takes(creator: Callable[..., Any], name: str) -> bool:
    """Whether a class or function takes an argument, by its own name or among others."""
    for function in functions_of(creator):
        parameters = signature(function)
        if name in parameters:
            return True
        if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            return False
    return False


def checked_kind(env: Any, name: str) -> Env:
    """Return what was made if it is an environment.

    Raises:
        UsageError: it is not one of Gymnasium's.
    """
    if isinstance(env, gymnasium.Env):
        return env
    kinds = {f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in type(env).__mro__}
    if kinds & {"gym.Env", "gym.Wrapper"}:
        raise UsageError(f"{name}: {OLD} its class is one of 'gym'; derive it from gymnasium.Env, and {NEW}")
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise UsageError(f"{name} is a vector of environments: give what makes one of them")
    kind = type(env).__name__
    raise UsageError(f"{name} makes no environment but an object of {kind}: derive its class from gymnasium.Env")


def with_limit(env: Env, limit: int | None, frames: Mapping[str, str]) -> Env:
    """Add what `gymnasium.make` adds: the order of calls, the time limit, and how frames are drawn.

    The instance is deeptaxi's own, so the limit of one of its wrappers is changed where it is.
    """
    if frames and env.render_mode != frames["render_mode"]:
        env.unwrapped.render_mode = frames["render_mode"]
    own = [layer for layer in layers_of(env) if isinstance(layer, TimeLimit)]
    if not isinstance(env, GYMNASIUMS):
        env = OrderEnforcing(env)
    if limit is None:
        return env
    for layer in own:
        layer._max_episode_steps = limit
    return env if own else TimeLimit(env, limit)


def limit_of(env: Env) -> int | None:
    """Return the steps after which the wrappers of an environment truncate its episodes, or None."""
    own = [layer._max_episode_steps for layer in layers_of(env) if isinstance(layer, TimeLimit)]
    return min(own, default=None)


def layers_of(env: Any) -> list[Any]:
    """Return an environment with each of its wrappers, outermost first."""
    found = [env]
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        found.append(env)
    return found
