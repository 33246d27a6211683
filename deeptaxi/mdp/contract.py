"""Check that an environment follows Gymnasium's API.

Environments are third-party code. Everything they return is checked here, once, for every caller: `reset` returns
``(observation, info)``, `step` ``(observation, reward, terminated, truncated, info)``; an observation is in its space,
a reward is a finite number. A violation is reported in one line: the method, the value, and what was expected.

Anything that an environment prints or raises while it is imported, made, run or closed is reported in one line that
blames the environment (`quiet`, `blaming`, `closing`).
"""

from __future__ import annotations

import inspect
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from numbers import Real
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from deeptaxi.errors import DeepTaxiError, EnvironmentFailedError
from deeptaxi.mdp.spaces import ActionCodec, ObservationError, StateCodec, brief, contains
from deeptaxi.mdp.table import MAX_REWARD

PACKAGE = str(Path(__file__).parents[1])
LIBRARIES = ("numpy", "gymnasium/core", "gymnasium/vector", "gymnasium/wrappers", "gymnasium/utils", "gymnasium/spaces")


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Convert any exception of an environment's own code to a one-line error with its name and location."""
    try:
        yield
    except DeepTaxiError:
        raise
    except MemoryError as error:
        raise DeepTaxiError(
            f"not enough memory for the environment {name}{f': {error}' if str(error) else ''}"
        ) from error
    except (Exception, SystemExit) as error:
        raise EnvironmentFailedError(f"the environment {name} failed: {describe_failure(error)}") from error


def describe_failure(error: BaseException) -> str:
    """Format an error of an environment's own code with its place: ``KeyError: 3 (pond.py:17, in step)``."""
    where = place_of(error)
    return f"{type(error).__name__}: {error}{f' ({where})' if where else ''}"


def place_of(error: BaseException) -> str:
    """Return where an environment's own code failed, e.g. ``pond.py:17, in step``; empty if nowhere."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(PACKAGE) and not of_a_library(frame.filename)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name}" if own else ""


def of_a_library(file: str) -> bool:
    """Whether a file belongs to a library that environments are built with."""
    _, installed, within = Path(file).as_posix().rpartition("/site-packages/")
    return bool(installed) and within.startswith(LIBRARIES)


@contextmanager
def closing(env: Any) -> Iterator[Any]:
    """Close an environment at the end; ignore errors from closing, as the work is done."""
    try:
        yield env
    finally:
        with suppress(Exception):
            env.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Gymnasium's warnings about the choice of environments."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="gymnasium")
        yield


RESET = "reset(self, *, seed=None, options=None)"
RESULT = "(observation, info)"
STEPPED = "(observation, reward, terminated, truncated, info)"
NEW = f"return {RESULT} from {RESET}, and {STEPPED} from step(action)"
OLD = "this is the old Gym API:"
GYMNASIUMS = (OrderEnforcing, PassiveEnvChecker, TimeLimit)  # the wrappers that `gymnasium.make` adds


class ContractError(EnvironmentFailedError):
    """An environment returned something that Gymnasium's API does not allow."""


class Answers(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks how many values `reset` and `step` return before Gymnasium's own wrappers unpack them."""

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self._name = name

    @property
    def spec(self) -> Any:  # type: ignore[override]  # Gymnasium's own wrappers override it so as well
        """The environment's own spec: this wrapper is not part of it."""
        return self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment.

        Raises:
            ContractError: it does not accept a seed or options, or does not return two values.
        """
        try:
            answer: Any = self.env.reset(seed=seed, options=options)
        except TypeError as error:
            found = re.search(r"reset\(\) got an unexpected keyword argument '(seed|options)'", str(error))
            if found is None:
                raise
            raise broken(self._name, reset_argument_error(found[1])) from error
        if type(answer) is tuple and len(answer) == 2 and isinstance(answer[1], Mapping):
            return answer
        raise_unlike_reset(self._name, self.env.observation_space, answer)
        return tuple(answer)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Step the environment.

        Raises:
            ContractError: it does not return five values.
        """
        answer: Any = self.env.step(action)
        if type(answer) is tuple and len(answer) == 5:
            return answer
        raise_unlike_step(self._name, action, answer)
        return tuple(answer)


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks everything that an environment returns before passing it on.

    Args:
        env: the environment with all its wrappers.
        codec: maps its observations.
        name: its display name.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], codec: StateCodec, name: str) -> None:
        super().__init__(env)
        self._codec = codec
        self._name = name
        self._step = 0  # of the episode
        self._state = 0
        self._integers = type(env.action_space) is Discrete

    @property
    def spec(self) -> Any:  # type: ignore[override]  # Gymnasium's own wrappers override it so as well
        """The environment's own spec: this wrapper is not part of it."""
        return self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset the environment.

        Raises:
            ContractError: it does not return an observation in its space and a dict.
        """
        self._step = 0
        answer: Any = self.env.reset(seed=seed, options=options or None)  # a reset mask leaves an empty dict behind
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping)):
            raise_unlike_reset(self._name, self.env.observation_space, answer)
        observation, info = answer
        self._note(observation, RESETTING)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Any]:
        """Step the environment; of NumPy's integers it gets Python's.

        Raises:
            ContractError: it does not return an observation in its space, a finite reward, two booleans and a dict.
        """
        self._step += 1
        return self._check(action, self.env.step(int(action) if self._integers else action))

    def _check(self, action: Any, answer: Any) -> tuple[Any, Any, bool, bool, Any]:
        """Return what a step answered, and keep the state number of its observation."""
        if type(answer) is not tuple or len(answer) != 5:
            raise_unlike_step(self._name, action, answer)
        observation, reward, terminated, truncated, info = answer
        try:
            reward = finite(reward)
            terminated, truncated = truth("terminated", terminated), truth("truncated", truncated)
        except ValueError as error:
            raise broken(self._name, f"{self._stepped(action)} returned {error}") from None
        if not isinstance(info, Mapping):
            raise broken(self._name, f"{self._stepped(action)} returned the info {brief(info)}: expected a dict")
        self._note(observation, action)
        return observation, reward, terminated, truncated, info

    def _note(self, observation: Any, action: Any) -> None:
        """Keep the state number of an observation; `action` is that of the step, or `RESETTING`."""
        try:
            self._state = self._codec.encode(observation)
        except ObservationError as error:
            method = "reset()" if action is RESETTING else self._stepped(action)
            raise broken(self._name, f"{method} returned {error}") from None

    def _stepped(self, action: Any) -> str:
        """Format the call of a step, with its number in the episode if it is not the first."""
        return stepped(action) if self._step == 1 else f"at step {self._step:,} of an episode, {stepped(action)}"


RESETTING = object()


class NumberedActions(gymnasium.ActionWrapper[Any, Any, Any]):
    """Takes action numbers 0 … A−1 instead of the arrays, tuples or dicts of an environment."""

    def __init__(self, env: gymnasium.Env[Any, Any], codec: ActionCodec) -> None:
        super().__init__(env)
        self._codec = codec
        self.action_space = Discrete(codec.actions)

    @property
    def spec(self) -> Any:  # type: ignore[override]  # Gymnasium's own wrappers override it so as well
        """The environment's own spec: this wrapper is not part of it."""
        return self.env.spec

    def action(self, action: Any) -> Any:
        """Return the environment's own action."""
        return self._codec.decode(int(action))


def with_numbered_actions(env: gymnasium.Env[Any, Any], codec: ActionCodec) -> gymnasium.Env[Any, Any]:
    """Let an environment take integers as actions, if it does not."""
    return NumberedActions(env, codec) if codec.composite else env


MASKS = ("action_mask", "action_masks")


class ShownMask:
    """Finds the action mask that an environment shows for its current state.

    It is ``info["action_mask"]`` or ``info["action_masks"]``, else what a method of one of these names returns that
    takes no argument. Of actions with several parts, each part may have its own mask: as a tuple, or in a row, as in
    sb3-contrib's ``action_masks()``. An action is then allowed if all its parts are.

    Args:
        env: the environment.
        actions: maps its actions.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], actions: ActionCodec) -> None:
        methods: dict[str, Any] = {name: getattr(env.unwrapped, name, None) for name in MASKS}
        self._method = next(((name, method) for name, method in methods.items() if takes_nothing(method)), None)
        self._actions = actions.actions
        self._sizes = [size for size, _ in actions.layout]

    def __call__(self, info: Mapping[str, Any]) -> Any:
        """Return the mask, float64 `[A]` so that batching does not cast it; None without one.

        What is no mask is returned as it is, for the caller to report.
        """
        for name in MASKS:
            if name in info:
                return self._joint(name, info[name])
        return None if self._method is None else self._joint(self._method[0], self._method[1]())

    def _joint(self, name: str, given: Any) -> Any:
        masks = list(given) if isinstance(given, tuple) else [given]
        if len(self._sizes) > 1 and [np.size(mask) for mask in masks] == self._sizes:
            given = np.concatenate([np.asarray(mask).ravel() for mask in masks])
            name = MASKS[1]
        if not isinstance(given, np.ndarray | list | tuple):
            return given
        array = np.asarray(given)
        if array.dtype.kind not in "biuf":
            return given
        in_a_row = array.shape == (sum(self._sizes),) and (array.size != self._actions or name == MASKS[1])
        if len(self._sizes) > 1 and in_a_row:
            joint = np.ones(1)
            for part in np.split(array, np.cumsum(self._sizes)[:-1]):
                joint = np.multiply.outer(joint, part).ravel()
            return joint
        return array.astype(np.float64)


def takes_nothing(method: Any) -> bool:
    """Whether something is a method that can be called without arguments."""
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError):
        return False
    return callable(method)


def finite(reward: Any) -> Any:
    """Return a reward if it is finite; types other than Python's and NumPy's numbers are converted to float.

    Raises:
        ValueError: it is not a finite number.
    """
    if (type(reward) is float or type(reward) is int) and -MAX_REWARD <= reward <= MAX_REWARD:
        return reward  # the common cases
    known = type(reward) is int
    plain = known or isinstance(reward, Real | np.bool_) or (isinstance(reward, np.ndarray) and reward.shape == ())
    try:
        if plain and abs(float(reward)) <= MAX_REWARD:
            return reward if known else float(reward)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"the reward {brief(reward)}: expected a finite number of at most {MAX_REWARD:g} in magnitude")


def truth(name: str, value: Any) -> bool:
    """Return a boolean; 0 and 1 are accepted.

    Raises:
        ValueError: it is not a boolean.
    """
    if value is True or value is False:
        return value
    scalar = isinstance(value, int | np.bool_ | np.integer) or (isinstance(value, np.ndarray) and value.shape == ())
    if scalar and value in (0, 1):
        return bool(value)
    raise ValueError(f"{name} = {brief(value)}: expected True or False")


def broken(name: str, what: str) -> ContractError:
    """Create the error that names the environment and its fault."""
    return ContractError(f"the environment {name} failed: {what}")


def stepped(action: Any) -> str:
    """Format the call of a step."""
    return f"step({action if isinstance(action, int | np.integer) else brief(action)})"


def reset_argument_error(argument: str) -> str:
    """Format the error that `reset` does not accept an argument; in the old Gym it took no seed."""
    missing = f"reset() does not take '{argument}'; "
    return f"{OLD} {missing}{NEW}" if argument == "seed" else f"{missing}define {RESET}"


def raise_unlike_reset(name: str, space: gymnasium.Space[Any], answer: Any) -> None:
    """Raise a `ContractError` if `answer` is not a valid result of `reset`; a list of two values is accepted."""
    if (what := fault_of_reset(space, answer)) is not None:
        raise broken(name, what)


def fault_of_reset(space: gymnasium.Space[Any] | None, answer: Any) -> str | None:
    """Return what is wrong with the form of a result of `reset`, or None."""
    pair = isinstance(answer, tuple | list) and len(answer) == 2
    if pair and isinstance(answer[1], Mapping):
        return None
    if space is not None and contains(space, answer):
        here = brief(answer)
        return f"{OLD} reset() returned the observation {here} alone; return {RESULT}, here ({here}, {{}})"
    if pair:
        return f"reset() returned the info {brief(answer[1])}: expected a dict"
    return f"reset() returned {brief(answer)}: expected {RESULT}"


def raise_unlike_step(name: str, action: Any, answer: Any) -> None:
    """Raise a `ContractError` if `answer` is not a valid result of `step`; a list of five values is accepted."""
    if (what := fault_of_step(action, answer)) is not None:
        raise broken(name, what)


def fault_of_step(action: Any, answer: Any) -> str | None:
    """Return what is wrong with the number of values that `step` returned, or None."""
    several = isinstance(answer, tuple | list)
    if several and len(answer) == 5:
        return None
    if several and len(answer) == 4:
        return f"{OLD} {stepped(action)} returned the 4 values {brief(answer)}; return 5, {STEPPED}"
    return f"{stepped(action)} returned {brief(answer)}: expected the 5 values {STEPPED}"


def with_answers_checked(env: gymnasium.Env[Any, Any], name: str) -> gymnasium.Env[Any, Any]:
    """Insert `Answers` between the environment with its own wrappers and those added by `gymnasium.make`."""
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper) and type(layer) not in GYMNASIUMS:
        layer = layer.env
    if not isinstance(layer, gymnasium.Wrapper):
        return env
    while type(layer.env) in GYMNASIUMS:
        layer = layer.env
    layer.env = Answers(layer.env, name)
    return env


def rehearse(env: gymnasium.Env[Any, Any], codec: StateCodec, actions: ActionCodec, name: str, seed: int) -> None:
    """Reset an environment and step it once, to report immediate faults before anything else starts.

    Args:
        env: an open environment whose actions are integers.
        codec: maps its observations.
        actions: maps its actions.
        name: its display name.
        seed: the seed of the reset.

    Raises:
        ContractError: it violates Gymnasium's API.
    """
    checked = CheckedEnv(env, codec, name)
    _, info = checked.reset(seed=seed)
    mask = np.asarray(ShownMask(env, actions)(info))
    allowed = np.flatnonzero(mask) if mask.shape == (actions.actions,) else np.zeros(0, np.int64)
    checked.step(actions.first + (int(allowed[0]) if allowed.size else 0))
