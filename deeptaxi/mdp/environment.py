"""Open an environment by Gymnasium id, ``module:Id`` or ``.npz`` table, and check that it can be trained on."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import DeepTaxiError, UsageError, nearest
from deeptaxi.mdp import npz
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.spaces import StateCodec, check_actions, state_codec
from deeptaxi.mdp.table import Bools, TransitionTable
from deeptaxi.mdp.truth import find_table

DEFAULT_HORIZON = 5_000
RESERVED = {"max_episode_steps": "use --time-limit", "render_mode": "it is set where frames are shown"}
Env = gymnasium.Env[Any, Any]


@dataclass(frozen=True)
class Environment:
    """An environment that can be trained on.

    Attributes:
        config: what it was opened from.
        codec: its observations to state numbers.
        actions: A.
        first_action: the environment's own number of action 0.
        time_limit: steps after which its episodes are cut, or None.
        table: its transition table, or None.
        table_missing: why there is no table, or None.
        start_resets: the number of resets that `table.start` was estimated from; None where it is known.
        make: opens a fresh copy; takes Gymnasium's ``render_mode``.
    """

    config: EnvironmentConfig
    codec: StateCodec
    actions: int
    first_action: int
    time_limit: int | None
    table: TransitionTable | None
    table_missing: str | None
    start_resets: int | None
    make: Callable[..., Env]

    @property
    def states(self) -> int:
        """S."""
        return self.codec.states

    @property
    def horizon(self) -> int:
        """The number of steps that a return is summed over."""
        return self.time_limit or DEFAULT_HORIZON

    def make_vector(self, count: int) -> SyncVectorEnv:
        """Open `count` copies stepped together; the caller resets those that ended, by a reset mask.

        By default Gymnasium resets a copy on the step *after* its last: that step ignores its action, and must
        not become a transition. Without automatic resets there is no such step.
        """
        return SyncVectorEnv([self.make] * count, copy=False, autoreset_mode=AutoresetMode.DISABLED)

    def describe(self) -> dict[str, Any]:
        """Return what the JSON of every command says of the environment."""
        return {
            "id": self.config.id,
            "kwargs": dict(self.config.kwargs),
            "states": self.states,
            "actions": self.actions,
            "time_limit": self.time_limit,
        }


def open_environment(config: EnvironmentConfig, trust_module: bool = True) -> Environment:
    """Open and check an environment.

    Args:
        config: its id or path, arguments and time limit.
        trust_module: whether the module of a ``module:Id`` may be imported.

    Raises:
        UsageError: it is unknown, cannot be made, or has unsupported spaces.
        DeepTaxiError: its table file is damaged.
    """
    if config.id.endswith(".npz"):
        return open_table(config)
    check_request(config, trust_module)

    def make(render_mode: str | None = None) -> Env:
        with quiet(), importable_folder(":" in config.id):
            return gymnasium.make(
                config.id,
                max_episode_steps=config.time_limit,
                disable_env_checker=True,
                render_mode=render_mode,
                **config.kwargs,
            )

    with closing(first_copy(make, config)) as env:
        codec = state_codec(env.observation_space, config.id)
        actions = check_actions(env.action_space, config.id)
        try:
            finding = find_table(env, codec)
        except DeepTaxiError:
            raise
        except Exception as error:  # the environment's own code may raise anything
            raise DeepTaxiError(f"{config.id} failed while it was stepped: {error!r}") from error
        limit = env.spec.max_episode_steps if env.spec else None
    return Environment(
        config, codec, int(actions.n), int(actions.start), limit, finding.table, finding.reason, finding.resets, make
    )


def open_table(config: EnvironmentConfig) -> Environment:
    """Open a transition table as an environment."""
    if config.kwargs:
        raise UsageError(f"a transition table takes no arguments, received {', '.join(config.kwargs)}")
    table = npz.load(Path(config.id))
    limit = config.time_limit or table.time_limit

    def make(render_mode: str | None = None) -> Env:
        env = TableEnv(table, render_mode)
        return TimeLimit(env, limit) if limit else env

    codec = state_codec(TableEnv(table).observation_space, config.id)
    return Environment(config, codec, table.actions, 0, limit, table, None, None, make)


def check_request(config: EnvironmentConfig, trust_module: bool) -> None:
    """Refuse what need not be tried."""
    if not config.id:
        raise UsageError("name an environment: a Gymnasium id, module:Id, or the path of a .npz transition table")
    for name in RESERVED.keys() & config.kwargs.keys():
        raise UsageError(f"--env-arg {name} is not passed on: {RESERVED[name]}")
    if ":" in config.id and not trust_module:
        raise UsageError(
            f"the run names the environment module '{config.id.partition(':')[0]}', which is code: "
            "pass --trust-env if you trust where the run comes from"
        )


def first_copy(make: Callable[[], Env], config: EnvironmentConfig) -> Env:
    """Make the environment once, turning whatever can go wrong into one line."""
    try:
        return make()
    except gymnasium.error.DeprecatedEnv as error:
        raise UsageError(f"{config.id}: {error}") from None
    except gymnasium.error.UnregisteredEnv:
        raise UsageError(unknown(config.id)) from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise UsageError(f"{config.id} needs a package that is not installed: {error}") from None
    except ModuleNotFoundError as error:
        raise UsageError(f"{config.id}: {error}") from None
    except TypeError as error:
        reason = str(error).partition(" was raised from ")[0]
        raise UsageError(f"{config.id} does not take these arguments ({dict(config.kwargs)}): {reason}") from None
    except Exception as error:  # the environment's own code may raise anything
        raise UsageError(f"{config.id} could not be made: {error!r}") from error


def unknown(name: str) -> str:
    """Say that an id is not registered, and which ids are near."""
    suggestion = nearest(name, known_ids(), count=3) or "; `deeptaxi envs` lists what can be trained"
    return f"unknown environment '{name}'{suggestion}"


def known_ids() -> list[str]:
    """Return the registered ids that may have discrete spaces: toy-text's and all that is not Gymnasium's own."""
    return [
        name
        for name, spec in gymnasium.registry.items()
        if not str(spec.entry_point).startswith(("gymnasium.envs.", "<function"))
        or str(spec.entry_point).startswith("gymnasium.envs.toy_text")
    ]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Gymnasium's advice on the choice of environments off standard error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="gymnasium")
        yield


@contextmanager
def importable_folder(active: bool) -> Iterator[None]:
    """Let modules of the current folder be imported, as ``python -m`` does."""
    folder = str(Path.cwd())
    added = active and folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added:
            sys.path.remove(folder)


def known_mask(environment: Environment) -> Bools | None:
    """Return the allowed actions of all states, bool `[S, A]`, where they can be known before an episode.

    They come from the table, or from an environment with a method ``action_mask(state)`` such as Taxi. A state
    for which everything is excluded (one where no episode goes on) counts as unrestricted.
    """
    if environment.table is not None and environment.table.action_mask is not None:
        return environment.table.action_mask
    with closing(environment.make()) as env:
        method = getattr(env.unwrapped, "action_mask", None)
        if not callable(method) or len(environment.codec.layout) > 1:
            return None
        first = environment.codec.layout[0][1]
        mask = np.array([method(state + first) for state in range(environment.states)], dtype=np.bool_)
    return mask | ~mask.any(axis=1, keepdims=True)
