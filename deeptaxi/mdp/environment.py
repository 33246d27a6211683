"""Open an environment by Gymnasium id, ``module:Name`` or ``.npz`` table, and check that it can be trained on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from deeptaxi.arguments import shorten
from deeptaxi.config import OBJECT, EnvironmentConfig
from deeptaxi.errors import DeepTaxiError, UsageError, nearest
from deeptaxi.mdp.binning import View, lacking_options
from deeptaxi.mdp.constructor import check_arguments
from deeptaxi.mdp.contract import (
    NEW,
    OLD,
    CheckedEnv,
    blaming,
    closing,
    quiet,
    rehearse,
    takes_nothing,
    with_answers_checked,
    with_numbered_actions,
)
from deeptaxi.mdp.files import is_table_file
from deeptaxi.mdp.named_code import code_folder, is_file, registered_id, split_name
from deeptaxi.mdp.numbering import NumberingCodec, numbering_codec, numbers_as_met
from deeptaxi.mdp.remembered import holds_text, recall
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.sources import Named, Source, limit_of
from deeptaxi.mdp.spaces import (
    MAX_NUMBER,
    MAX_STATES,
    ActionCodec,
    StateCodec,
    action_codec,
    amount,
    state_codec,
    whole_codec,
)
from deeptaxi.mdp.table import Bools, TransitionTable
from deeptaxi.mdp.vector_env import NumberedEnv, VectorEnv
from deeptaxi.mdp.verify import CHECK_SEED, find_table
from deeptaxi.presets import binning_of

DEFAULT_HORIZON = 5_000
UNTABULATED = (
    f"of more than {MAX_STATES:,} states nothing is tabulated: there are episodes, but no diagnosis, report or export"
)
MASKED_STATES = 100_000  # most that a method is asked for the masks of, one by one
DEFAULT_DISCOUNT = 0.99
TRUST = "pass --trust-env if you trust where the run comes from"
RESERVED = {"max_episode_steps": "use --time-limit", "render_mode": "it is set where frames are shown"}
TOY_TEXT, CLASSIC = "gymnasium.envs.toy_text", "gymnasium.envs.classic_control"
Env = gymnasium.Env[Any, Any]


@dataclass(frozen=True, repr=False)
class Environment:
    """An environment that can be trained on.

    Attributes:
        config: the configuration it was opened from, with the resolved version in its id.
        codec: maps its observations to state numbers.
        actions: A.
        first_action: its number for action 0, which `step` takes.
        time_limit: steps after which its episodes are truncated, or None.
        table: its transition table, or None.
        table_missing: why there is no table, or None.
        start_resets: the number of resets that `table.start` was estimated from; None if it is known.
        make: creates a new instance, checked as it runs; takes Gymnasium's ``render_mode``.
        source: makes its instances; None for a table.
        action_codec: maps action numbers from 0 to the actions of the environment without deeptaxi's wrappers.
        read_as: the form of a file or value of others, and what was decided in reading it; empty otherwise.
        discovered: the states of a table that was discovered by walking through the environment, else None.
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
    source: Source | None = None
    action_codec: ActionCodec = None  # type: ignore[assignment]  # set below
    read_as: tuple[str, ...] = ()
    discovered: int | None = None

    def __post_init__(self) -> None:
        if self.action_codec is None:
            space = gymnasium.spaces.Discrete(self.actions, start=self.first_action)
            object.__setattr__(self, "action_codec", ActionCodec(space))

    def __repr__(self) -> str:
        limit = f", time limit {self.time_limit:,}" if self.time_limit else ""
        return f"Environment({self.config.id}: {self.states:,} states, {self.actions:,} actions{limit})"

    @property
    def states(self) -> int:
        """S."""
        return self.codec.states

    @property
    def horizon(self) -> int:
        """The number of steps that a return is summed over."""
        return self.time_limit or DEFAULT_HORIZON

    def make_vector(self, count: int, masks: bool = True, render_mode: str | None = None) -> VectorEnv:
        """Create `count` environments stepped together that return state numbers; the caller resets finished ones.

        They show the action mask if `masks` is set.
        """
        return VectorEnv([self.make_numbered(masks, render_mode) for _ in range(count)])

    def make_numbered(self, masks: bool = True, render_mode: str | None = None, cls: Any = NumberedEnv) -> Any:
        """Create an environment, of the class `cls`, that returns state numbers, and the action mask if it is set."""
        env = self.make(render_mode=render_mode)
        inner = env.env if type(env) is CheckedEnv else env
        return cls(inner, self.codec, self.action_codec, self.config.id, masks)

    def decode_action(self, action: int) -> Any:
        """Return the action, of the environment without deeptaxi's wrappers, for an action number from 0."""
        return self.action_codec.decode(int(action))

    @property
    def tabulated(self) -> bool:
        """Whether there is room for tables over all states, such as those of Q values, visits and masks."""
        return self.states <= MAX_STATES

    @property
    def binned(self) -> bool:
        """Whether its observations are real numbers in bins."""
        return bool(self.codec.view.bins)

    @property
    def numbering(self) -> NumberingCodec | None:
        """The codec, if it numbers observations as they are first seen; else None."""
        return self.codec if isinstance(self.codec, NumberingCodec) else None

    @property
    def numbering_note(self) -> str | None:
        """What it costs that observations are numbered as they are first seen; None if they are not."""
        codec = self.numbering
        if codec is None:
            return None
        begin = f"{self.config.id} has {amount(codec.combinations)} combinations of observations"
        if codec.complete:
            return f"{begin}: the {codec.states:,} of its discovered table are numbered"
        return (
            f"{begin}: they are numbered as they are first seen, up to {codec.capacity - 1:,} (--state-capacity). Each "
            "is learned by itself, without generalization, and without a discovered table there is no exact verdict"
        )

    def with_codec(self, codec: StateCodec) -> Environment:
        """Return the same environment with its observations numbered by another codec."""
        if self.source is None:
            raise TypeError("the states of a transition table are numbers already")
        make = partial(checked_copy, self.config, self.source, codec, self.action_codec)
        return replace(self, codec=codec, make=make)

    def asked_settings(self) -> dict[str, Any]:
        """Return the settings that the problem itself requests: its discount, its action mask, and how to see bins."""
        asked: dict[str, Any] = {}
        # Neighboring bins have more in common than one-hot would say.
        if self.binned and len(self.codec.layout) > 1 and self.numbering is None:
            asked["network"] = {"encoding": "factored"}
        if self.table is not None and self.table.discount is not None:
            asked["discount"] = self.table.discount
            asked["evaluation"] = {"objective_discount": objective_discount(self.table)}
        if self.table is not None and self.table.action_mask is not None:
            asked["exploration"] = {"action_mask": True}
        return asked

    def describe(self) -> dict[str, Any]:
        """Describe the environment for the JSON of every command, and how its observations and actions are numbered."""
        parts = {"observation": self.codec.describe(), "action": self.action_codec.describe()}
        return {
            "id": self.config.id,
            "kwargs": dict(self.config.kwargs),
            "states": self.states,
            "actions": self.actions,
            "time_limit": self.time_limit,
            **{name: value for name, value in parts.items() if value},
            **({"read_as": list(self.read_as)} if self.read_as else {}),
            **({"discovered": self.discovered} if self.discovered else {}),
        }


def check_tabulated(environment: Environment) -> None:
    """Reject an environment with more states than anything is tabulated for.

    Raises:
        DeepTaxiError: there are more than `MAX_STATES`.
    """
    if not environment.tabulated:
        raise DeepTaxiError(f"{environment.config.id} has {environment.states:,} states; {UNTABULATED}")


def objective_discount(table: TransitionTable) -> float:
    """Return the default discount that defines what is optimal on `table`."""
    return DEFAULT_DISCOUNT if table.discount is None else table.discount


def open_environment(config: EnvironmentConfig, trust_module: bool = True) -> Environment:
    """Open and check an environment.

    Args:
        config: the id or path, arguments and time limit.
        trust_module: whether the module of a ``module:Id`` may be imported; that of a training of this user may be
            anyway, see `remembered`.

    Raises:
        UsageError: it is unknown, cannot be made, or has unsupported spaces.
        DeepTaxiError: its table file is damaged.
    """
    if is_table_file(config.id):
        return open_table(config)
    check_request(config)
    if trust_module:
        return wrap_environment(config, Named(code_folder(config.id)))
    known = recall(config)
    if known.folder is not None:
        return wrap_environment(config, Named(str(known.folder)))
    return wrap_environment(without_code(config, known.changed), Named(None))


def wrap_environment(config: EnvironmentConfig, source: Source) -> Environment:
    """Open and check a Gymnasium environment.

    Args:
        config: its id, arguments and time limit.
        source: makes its instances.

    Raises:
        UsageError: it is unknown, cannot be made, or has unsupported spaces.
    """
    with source.importing():
        return check_environment(config, source)


def check_environment(config: EnvironmentConfig, source: Source) -> Environment:
    """Make an environment and check it. See `wrap_environment`."""
    for name in RESERVED.keys() & config.kwargs.keys():
        raise UsageError(f"--env-arg {name} is not passed on: {RESERVED[name]}")
    check_arguments(config, *source.creator(config.id))
    env = first_copy(partial(unchecked_copy, config, source), config)
    with blaming(config.id), closing(env):
        codec, actions = codecs_of(env, config)
        env = with_numbered_actions(env, actions)
        rehearse(env, codec, actions, config.id, CHECK_SEED)
        env = CheckedEnv(env, codec, config.id)
        finding = find_table(env, codec)

    return Environment(
        config=replace(config, id=source.full_name(config.id, env), state_capacity=capacity_of(codec, config)),
        codec=codec,
        actions=actions.actions,
        first_action=actions.first,
        time_limit=limit_of(env),
        table=finding.table,
        table_missing=finding.reason if codec.states <= MAX_STATES else f"{finding.reason}; {UNTABULATED}",
        start_resets=finding.resets,
        make=partial(checked_copy, config, source, codec, actions),
        source=source,
        action_codec=actions,
    )


def codecs_of(env: Env, config: EnvironmentConfig) -> tuple[StateCodec, ActionCodec]:
    """Return the codecs of an environment's observations and actions.

    Raises:
        UsageError: a space is not finite, or its bins do not fit it.
    """
    for name, space in (("observation_space", env.observation_space), ("action_space", env.action_space)):
        if any(cls.__module__.partition(".")[0] == "gym" for cls in type(space).__mro__):
            raise UsageError(f"{config.id}: its {name} is one of 'gym', the old one: import spaces from gymnasium")
    view = View(config.observation is not None, config.bins or (), config.bin_range or ())
    lacking = lacking_options(env, view, config.action_bins or ())
    if lacking:
        raise UsageError(f"{config.id} {lacking}")
    actions = action_codec(env.action_space, config.id, config.action_bins or ())
    return observation_codec(env.observation_space, config, view, actions.actions), actions


def observation_codec(space: gymnasium.Space[Any], config: EnvironmentConfig, view: View, actions: int) -> StateCodec:
    """Return the codec of an observation space; too many observations are numbered as they are first seen.

    Raises:
        UsageError: the space is not finite, or the capacity is out of range.
    """
    codec = whole_codec(space, config.id, view)
    if numbers_as_met(codec, config.state_capacity):
        return numbering_codec(codec, config.state_capacity, actions, config.id)
    if codec.count > MAX_NUMBER or (codec.count > MAX_STATES and len(codec.layout) == 1):
        most = MAX_STATES if len(codec.layout) == 1 else MAX_NUMBER
        numbering = f"{'--encoding factored and ' * (len(codec.layout) > 1)}--state-capacity 0"
        raise UsageError(
            f"{config.id} has {amount(codec.count)} states; {numbering} would number all of them, and are for "
            f"{most:,} at most: leave them out, and observations are numbered as they are first seen"
        )
    return codec


def capacity_of(codec: StateCodec, config: EnvironmentConfig) -> int | None:
    """Return the capacity that an open environment is configured with: None where it makes no difference."""
    if isinstance(codec, NumberingCodec):
        return codec.capacity
    return config.state_capacity if codec.states > MAX_STATES else None


def unchecked_copy(config: EnvironmentConfig, source: Source, render_mode: str | None = None) -> Env:
    """Open a Gymnasium environment. A module-level function, so that a run can be pickled."""
    # Not every environment takes a render_mode, and Gymnasium passes on whatever it is given.
    frames = {} if render_mode is None else {"render_mode": render_mode}
    with quiet(), source.importing():
        env = source.make(config, frames)
    return with_answers_checked(env, config.id)


def checked_copy(
    config: EnvironmentConfig, source: Source, codec: StateCodec, actions: ActionCodec, render_mode: str | None = None
) -> Env:
    """Open a Gymnasium environment that is checked as it runs; its actions are integers."""
    env = with_numbered_actions(unchecked_copy(config, source, render_mode), actions)
    if render_mode is None:
        return CheckedEnv(env, codec, config.id)
    frames = Frames(env, codec, config.id)
    frames.source = source
    return frames


def copy_over(table: TransitionTable, limit: int | None, render_mode: str | None = None) -> Env:
    """Open an environment based on a table."""
    env = TableEnv(table, render_mode)
    return TimeLimit(env, limit) if limit else env


def open_table(config: EnvironmentConfig) -> Environment:
    """Open a file of a transition table as an environment; its arguments are what a file of others may not say."""
    from deeptaxi.mdp.files.read import OWN_FORM, is_foreign, options_of, read_table_file  # readers that few need

    if config.kwargs and not is_foreign(config.id):
        raise UsageError(f"a transition table takes no arguments, received {', '.join(config.kwargs)}")
    found = read_table_file(Path(config.id), options_of(config.kwargs))
    read_as = () if found.form == OWN_FORM else (found.form, *found.notes)
    return replace(environment_over(found.table, config), read_as=read_as)


def environment_over(table: TransitionTable, config: EnvironmentConfig) -> Environment:
    """Create an environment from a table; the time limit in `config` overrides the table's.

    Raises:
        UsageError: bins are given.
    """
    for name, value in (
        ("--observation", config.observation),
        ("--bins", config.bins),
        ("--action-bins", config.action_bins),
        ("--state-capacity", config.state_capacity),
    ):
        if value:
            raise UsageError(f"{name}: the states and actions of a transition table are numbers already: leave it out")
    limit = config.time_limit or table.time_limit
    codec = state_codec(TableEnv(table).observation_space, config.id)
    return Environment(
        config=config,
        codec=codec,
        actions=table.actions,
        first_action=0,
        time_limit=limit,
        table=table,
        table_missing=None,
        start_resets=None,
        make=partial(copy_over, table, limit),
    )


class Frames(CheckedEnv):
    """Also renders frames; the rendering code is imported on the first frame, with the environment's import path."""

    source: Source = Named(None)

    def render(self) -> Any:
        """Render a frame."""
        with self.source.importing():
            return self.env.render()


def check_request(config: EnvironmentConfig) -> None:
    """Reject requests that cannot succeed."""
    if not config.id.strip():
        raise UsageError("name an environment: a Gymnasium id, module:Class, or the path of a .npz transition table")
    if config.in_memory:
        raise UsageError(
            f"{config.id.removeprefix(OBJECT)} was an object in memory, which no file holds: give it again in "
            "Python, env=…, or name what makes it, such as module:Class"
        )
    module, _ = split_name(config.id)
    if ":" in module and not is_file(module):
        raise UsageError(f"'{config.id}' is not an environment: expected an id or module:Class")


def without_code(config: EnvironmentConfig, changed: Path | None = None) -> EnvironmentConfig:
    """Restrict an environment named only by a file to code that is installed or already loaded.

    `changed` is a file of its code that is not what this user trained with.

    No module is imported for it: ``gymnasium:Taxi-v4`` becomes Taxi-v4, and any other module is rejected. Of
    Gymnasium's own environments only toy text and classic control are allowed: others import optional packages, read
    files named by their arguments, or come from other libraries. Environments registered by this process accept only
    numbers and booleans as arguments, since a string might name a file or a class.

    Raises:
        UsageError: it could run code.
    """
    module, name = split_name(config.id)
    if module and module != "gymnasium":
        since = f"whose file {changed} has changed since you trained with it, and which" if changed else "which"
        raise UsageError(f"the run names the environment module '{shorten(module)}', {since} is code: {TRUST}")
    spec = gymnasium.registry.get(registered_id(name))
    if spec is not None and spec.id not in known_ids():
        raise UsageError(f"the run names {name}, which is not an environment that deeptaxi knows: {TRUST}")
    texts = [key for key, value in config.kwargs.items() if holds_text(value)]
    if spec is not None and texts and not str(spec.entry_point).startswith(TOY_TEXT):
        raise UsageError(f"the run gives {name} a text as {texts[0]}, which may name a file or code: {TRUST}")
    return replace(config, id=name)


def first_copy(make: Callable[[], Env], config: EnvironmentConfig) -> Env:
    """Make the environment once and convert any failure to a one-line error."""
    try:
        return make()
    except DeepTaxiError:
        raise
    except gymnasium.error.DeprecatedEnv as error:
        raise UsageError(f"{config.id}: {error}") from None
    except gymnasium.error.UnregisteredEnv:
        raise UsageError(unknown(config.id)) from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise UsageError(f"{config.id} needs a package that is not installed: {error}") from None
    except ModuleNotFoundError as error:
        if re.match(r"No module named 'gym[.']", str(error)):
            raise UsageError(f"{config.id}: {OLD} it imports 'gym'; import gymnasium instead, and {NEW}") from None
        raise UsageError(f"{config.id}: {error}") from None
    except TypeError as error:
        raise UsageError(f"{config.id} {type_fault(str(error), config)}") from error
    except MemoryError as error:
        raise DeepTaxiError(f"not enough memory for {config.id}{f': {error}' if str(error) else ''}") from error
    except (Exception, SystemExit) as error:  # the environment's own code may raise anything
        raise UsageError(f"{config.id} could not be created: {type(error).__name__}: {error}") from error


def type_fault(message: str, config: EnvironmentConfig) -> str:
    """Explain a `TypeError` raised while the environment was made."""
    reason = message.partition(" was raised from ")[0]
    if "Gym is incompatible with Gymnasium" in message:
        return f"could not be created: {OLD} its class is one of 'gym'; derive it from gymnasium.Env, and {NEW}"
    if re.search(r"unexpected keyword argument|required (positional|keyword)|positional arguments? but", reason):
        return f"does not take these arguments ({dict(config.kwargs)}): {reason}"
    return f"could not be created: TypeError: {reason}"


def unknown(name: str) -> str:
    """Format the error for an unregistered id, with similar ids."""
    if Path(f"{name}.py").is_file():
        return f"'{name}' is a module: name an environment in it, {name}:NAME"
    suggestion = nearest(name, known_ids(), count=3) or "; `deeptaxi envs` lists what can be trained"
    return f"unknown environment '{name}'{suggestion}"


def is_simple(spec: EnvSpec) -> bool:
    """Whether an environment is one of Gymnasium's own that need no other package, and read no file."""
    return str(spec.entry_point).startswith((TOY_TEXT, CLASSIC))


def known_ids() -> list[str]:
    """Return the registered ids that may have finite spaces: toy text, classic control, and what is not Gymnasium's."""
    return [
        name
        for name, spec in gymnasium.registry.items()
        if not (str(spec.entry_point).startswith(("gymnasium.envs.", "<function _raise")) or name.startswith("GymV2"))
        or is_simple(spec)
    ]


def trainable_ids() -> list[str]:
    """Return the registered ids that may be trained as they are: they need no bins, or a preset has them."""
    return [
        name
        for name in known_ids()
        if not str(gymnasium.registry[name].entry_point).startswith(CLASSIC) or binning_of(name, {})
    ]


def known_mask(environment: Environment) -> Bools | None:
    """Return the allowed actions of all states, bool `[S, A]`, or None if they are not known before an episode.

    They come from the table, or from an environment with a method ``action_mask(observation)``, such as Taxi.
    """
    if environment.table is not None and environment.table.action_mask is not None:
        return environment.table.action_mask
    with blaming(environment.config.id), closing(environment.make()) as env:
        method = getattr(env.unwrapped, "action_mask", None)
        unknown_states = environment.numbering is not None and not environment.numbering.complete
        too_many = environment.binned or unknown_states or environment.states > MASKED_STATES
        if not callable(method) or takes_nothing(method) or too_many:
            return None
        given = np.array([method(environment.codec.decode(state)) for state in range(environment.states)])
    if not is_mask(given, (environment.states, environment.actions)):
        raise DeepTaxiError(
            f"the environment {environment.config.id} failed: action_mask(state) does not return "
            f"{environment.actions} truth values for each state"
        )
    return usable(given.astype(np.bool_))


def is_mask(given: NDArray[Any], shape: tuple[int, ...]) -> bool:
    """Whether an array is a mask of `shape`: booleans, or numbers 0 and 1."""
    return given.shape == shape and given.dtype.kind in "biuf" and bool(((given == 0) | (given == 1)).all())


def usable(mask: Bools) -> Bools:
    """Allow every action in states whose mask `[…, A]` excludes all of them; no episode continues there."""
    return mask | ~mask.any(axis=-1, keepdims=True)
