"""Environments given as objects of Python: an environment, its class, or a function that makes it.

A class or function that can be imported is as good as its name, `module:Name`. Anything else exists in this process
alone, and a run on it says so: `in-memory/Name` is its id, and only with the object itself is it opened again.

An environment itself is copied: once when it is given, so that the caller's own is never touched, and once for each
instance that is needed. Copies must not share state. So two of them are reset with one seed and played by the same
actions, one of them while a third is played in between; all must answer alike. An environment that does not answer
alike even by itself, because its chance does not come from the seed, is let through.

One of `gymnasium.make` is made again by its id where a new one is equal to it in every attribute after a reset.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from deeptaxi.arguments import is_kept, is_toml, show
from deeptaxi.config import OBJECT, EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.constructor import missing_arguments
from deeptaxi.mdp.contract import blaming, closing, quiet
from deeptaxi.mdp.environment import RESERVED, Environment, wrap_environment
from deeptaxi.mdp.named_code import entry_of, importable_name, module_of
from deeptaxi.mdp.sources import Made, Source, checked_kind, layers_of, limit_of, with_limit

SEED, STEPS = 20_240_229, 200
DEEPEST = 5  # attributes within attributes that are looked at for what cannot be copied
FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
Env = gymnasium.Env[Any, Any]


@dataclass(frozen=True)
class InMemory:
    """An environment that exists in this process alone.

    Attributes:
        id: its id, `in-memory/Name`.
        source: makes its instances.
    """

    id: str
    source: Source

    def open(self, config: EnvironmentConfig) -> Environment:
        """Open it with arguments and a time limit.

        Raises:
            UsageError: it takes no arguments, or cannot be made or trained on.
        """
        return wrap_environment(config, self.source)


@dataclass(frozen=True)
class Copied:
    """An environment that is copied; `pristine` is never reset or stepped."""

    pristine: Env

    def importing(self) -> AbstractContextManager[None]:
        """Leave the search path as it is: the code is the caller's."""
        return nullcontext()

    def creator(self, name: str) -> tuple[Callable[..., Any] | None, Mapping[str, Any]]:
        """Return None: it is made already."""
        del name
        return None, {}

    def make(self, config: EnvironmentConfig, frames: Mapping[str, str]) -> Env:
        """Make a copy.

        Raises:
            UsageError: there are arguments, which it can no longer take.
        """
        if config.kwargs:
            raise UsageError(
                f"{config.id} is made already and takes no arguments, received {', '.join(config.kwargs)}: "
                "give its class or a function that makes it"
            )
        return with_limit(copy.deepcopy(self.pristine), config.time_limit, frames)

    def full_name(self, name: str, env: Env) -> str:
        """Return the name."""
        del env
        return name


def is_object(env: Any) -> bool:
    """Whether a value may be an environment, a class or a function that makes one."""
    return isinstance(env, (gymnasium.Env, type, *FUNCTIONS))


def resolve_object(env: Any) -> str | InMemory | EnvironmentConfig:
    """Return an object as a name that can be imported, as what `gymnasium.make` makes again, or as in memory.

    Args:
        env: an environment, a class, or a function that makes one.

    Raises:
        UsageError: it is something else, or cannot be copied.
    """
    if isinstance(env, gymnasium.Env):
        again = made_again(env)
        return copied(env) if again is None else again
    name = importable_name(env)
    if name is not None:
        return name
    if isinstance(env, type):
        return InMemory(OBJECT + env.__name__, Made(env))
    return of_function(env)


def of_function(function: Callable[..., Any]) -> InMemory:
    """Return what a function in memory makes; of one that returns the same object each time, copies are taken.

    Raises:
        UsageError: it makes no environment.
    """
    named = getattr(function, "__name__", "")
    name = OBJECT + (named if named.isidentifier() else "environment")
    if missing_arguments(function, {}):  # reported, with the cure, when it is opened
        return InMemory(name, Made(function))
    with blaming(name), quiet():
        first, second = (checked_kind(function(), f"the {type(function).__name__} {named}".strip()) for _ in range(2))
    name = OBJECT + type(first.unwrapped).__name__
    if {id(layer) for layer in layers_of(first)} & {id(layer) for layer in layers_of(second)}:
        return copied(first)
    with closing(first), closing(second):
        return InMemory(name, Made(function))


def copied(env: Env) -> InMemory:
    """Return an environment that is copied from now on.

    Raises:
        UsageError: it cannot be copied, or its copies share state.
    """
    name = type(env.unwrapped).__name__
    try:
        pristine = copy.deepcopy(env)
    except Exception as error:  # its own code, or Python's
        path, kind = uncopied(env)
        raise UsageError(
            f"the environment {name} cannot be copied: its attribute {path} is {kind} "
            f"({type(error).__name__}: {error}); give its class, or a function that makes it"
        ) from None
    if not alike(env, pristine, doubt=True):
        raise UsageError(
            f"a copy of the environment {name} is not equal to it, as when it copies itself by making a new one: "
            "give its class, or a function that makes it"
        )
    with blaming(name), quiet():
        check_copies(pristine, name)
    return InMemory(OBJECT + name, Copied(pristine))


def uncopied(value: Any, path: str = "", depth: int = 0) -> tuple[str, str]:
    """Return the path and type of the innermost attribute that cannot be copied."""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        parts = [(f"{path}[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{path}[{i}]", part) for i, part in enumerate(value)]
    elif depth < DEEPEST:
        parts = [(f"{path}.{key}".lstrip("."), part) for key, part in getattr(value, "__dict__", {}).items()]
    for name, part in parts:
        try:
            copy.deepcopy(part)
        except Exception:  # as above
            return uncopied(part, name, depth + 1)
    return path or "self", f"of type {type(value).__name__}"


def check_copies(pristine: Env, name: str) -> None:
    """Reject an environment whose copies share state, or do not answer as it does.

    Raises:
        UsageError: a copy does not answer alike.
    """
    one, other, between = (copy.deepcopy(pristine) for _ in range(3))
    with closing(one), closing(other), closing(between):
        first = play(one)
        if not alike(first, play(one)):
            return
        for kind, second in (("behaves otherwise", play(other)), ("shares state with it", play(other, between))):
            if not alike(first, second):
                step = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if not alike(a, b))
                when = f"step {step} after" if step else "after"
                raise UsageError(
                    f"a copy of the environment {name} {kind}, {when} reset(seed={SEED}): "
                    "give its class, or a function that makes it"
                )


def play(env: Env, between: Env | None = None) -> list[Any]:
    """Reset an environment with the seed and step it; return its answers. Step another one in between."""
    actions = copy.deepcopy(env.action_space)
    actions.seed(SEED)
    answers: list[Any] = [copy.deepcopy(env.reset(seed=SEED))]
    for step in range(STEPS):
        if between is not None and step % 2 == 0:
            between.reset(seed=step)
            between.step(actions_of(between, step))
        action = actions.sample()
        answers.append(copy.deepcopy(env.step(action)))
        if len(answers[-1]) != 5 or answers[-1][2] or answers[-1][3]:
            answers.append(copy.deepcopy(env.reset()))
    return answers[: STEPS + 1]


def actions_of(env: Env, seed: int) -> Any:
    """Draw an action without touching the environment's own generator."""
    space = copy.deepcopy(env.action_space)
    space.seed(seed)
    return space.sample()


def made_again(env: Env) -> EnvironmentConfig | None:
    """Return the id and arguments of an environment of `gymnasium.make`; None if they make another than this.

    An id that is not Gymnasium's own comes with the module that it is made by, which usually registers it.
    """
    spec = env.spec
    if spec is None or spec.additional_wrappers or spec.id not in gymnasium.registry:
        return None
    module = module_of(gymnasium.registry[spec.id])
    if not module.startswith("gymnasium.") and importable_name(entry_of(gymnasium.registry[spec.id])) is None:
        return None
    name = spec.id if module.startswith("gymnasium.") else f"{module}:{spec.id}"
    kwargs = {key: value for key, value in spec.kwargs.items() if key not in RESERVED}
    known = gymnasium.registry[spec.id]
    usual = known.kwargs
    given = {key: value for key, value in kwargs.items() if key not in usual or not alike(value, usual[key])}
    if not all(is_toml(value) or is_kept(value, show(value)) for value in given.values()):
        return None
    limit = limit_of(env)
    if limit is None and known.max_episode_steps is not None:
        return None
    config = EnvironmentConfig(name, given, None if limit == known.max_episode_steps else limit)
    try:
        with quiet():
            frames = {key: spec.kwargs[key] for key in spec.kwargs.keys() & {"render_mode"}}
            other = gymnasium.make(spec.id, max_episode_steps=config.time_limit, **frames, **given)
            mine = copy.deepcopy(env)
            for fresh in (mine, other):
                fresh.reset(seed=SEED)
            equal = alike(mine.unwrapped, other.unwrapped) and same_layers(mine, other)
    except Exception:  # it cannot be copied, or made: the copy will tell
        return None
    with closing(mine), closing(other):
        return config if equal else None


def same_layers(one: Env, other: Env) -> bool:
    """Whether two environments have equal wrappers, but for those that only check."""
    checking = (gymnasium.wrappers.OrderEnforcing, gymnasium.wrappers.PassiveEnvChecker)
    first, second = ([layer for layer in layers_of(env)[:-1] if type(layer) not in checking] for env in (one, other))
    return [type(layer) for layer in first] == [type(layer) for layer in second]


def alike(one: Any, other: Any, doubt: bool = False, seen: set[tuple[int, int]] | None = None) -> bool:
    """Whether two values are equal in all their parts and attributes; `doubt` where that cannot be determined."""
    seen = set() if seen is None else seen
    if one is other or (id(one), id(other)) in seen:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, str | bytes | int | float | complex | np.generic | np.dtype | set | frozenset | gymnasium.Space):
        return bool(one == other) or bool(one != one and other != other)
    seen.add((id(one), id(other)))
    if isinstance(one, np.ndarray):
        if one.dtype != object:
            return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
        one, other = one.tolist(), other.tolist()
    if isinstance(one, np.random.Generator):
        one, other = one.bit_generator.state, other.bit_generator.state
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key], doubt, seen) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(alike(a, b, doubt, seen) for a, b in zip(one, other, strict=True))
    if isinstance(one, FUNCTIONS):
        return doubt or bool(one == other)
    state = getattr(one, "__dict__", None)
    return doubt if state is None else alike(state, vars(other), doubt, seen)
