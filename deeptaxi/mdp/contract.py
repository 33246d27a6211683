"""Check that an environment follows Gymnasium's API.

Environments are third-party code. Everything they return is checked here, once, for every caller: `reset` returns
``(observation, info)``, `step` ``(observation, reward, terminated, truncated, info)``; an observation is in its space,
a reward is a finite number. A violation is reported in one line: the method, the value, and what was expected.

Anything that an environment prints or raises while it is imported, made, run or closed is reported in one line that
blames the environment (`quiet`, `blaming`, `closing`).
"""

from __future__ import annotations

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
from deeptaxi.mdp.spaces import ObservationError, StateCodec, brief, contains
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
        where = place_of(error)
        told = f"{type(error).__name__}: {error}{f' ({where})' if where else ''}"
        raise EnvironmentFailedError(f"the environment {name} failed: {told}") from error


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
        numbers: whether to return state numbers and an empty `info`, as needed by vectorized environments, whose
            batching casts values (3.5 to 3).
        masks: whether to leave the action mask in `info` even then.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], codec: StateCodec, name: str, numbers: bool = False, masks: bool = True
    ) -> None:
        super().__init__(env)
        self._codec = codec
        self._name = name
        self._numbers = numbers
        self._masks = masks
        if numbers:
            self._observation_space = Discrete(codec.states)

    @property
    def spec(self) -> Any:  # type: ignore[override]  # Gymnasium's own wrappers override it so as well
        """The environment's own spec: this wrapper is not part of it."""
        return self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment.

        Raises:
            ContractError: it does not return an observation in its space and a dict.
        """
        answer: Any = self.env.reset(seed=seed, options=options or None)  # a reset mask leaves an empty dict behind
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping)):
            raise_unlike_reset(self._name, self.env.observation_space, answer)
        observation, info = answer
        state = self._state("reset()", observation)
        return (state, self._told(info)) if self._numbers else (observation, info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Any]:
        """Step the environment.

        Raises:
            ContractError: it does not return an observation in its space, a finite reward, two booleans and a dict.
        """
        answer: Any = self.env.step(action)
        if type(answer) is not tuple or len(answer) != 5:
            raise_unlike_step(self._name, action, answer)
        observation, reward, terminated, truncated, info = answer
        try:
            reward = finite(reward)
            terminated, truncated = truth("terminated", terminated), truth("truncated", truncated)
        except ValueError as error:
            raise broken(self._name, f"{stepped(action)} returned {error}") from None
        if not isinstance(info, Mapping):
            raise broken(self._name, f"{stepped(action)} returned the info {brief(info)}: expected a dict")
        state = self._state(action, observation)
        if self._numbers:
            return state, reward, terminated, truncated, self._told(info)
        return observation, reward, terminated, truncated, info

    def _told(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of `info` that a vectorized environment receives."""
        return mask_of(info) if self._masks else {}

    def _state(self, method: Any, observation: Any) -> int:
        """Return a state number; `method` is the method that returned the observation, or the action of a step."""
        try:
            return self._codec.encode(observation)
        except ObservationError as error:
            method = method if isinstance(method, str) else stepped(method)
            raise broken(self._name, f"{method} returned {error}") from None


def mask_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return only the action mask of an `info`, with numbers as float64 so that batching does not cast them."""
    if "action_mask" not in info:
        return {}
    mask = info["action_mask"]
    array = np.asarray(mask) if isinstance(mask, np.ndarray | list | tuple) else None
    return {"action_mask": mask if array is None or array.dtype.kind not in "biuf" else array.astype(np.float64)}


def finite(reward: Any) -> Any:
    """Return a reward if it is finite; types other than Python's and NumPy's numbers are converted to float.

    Raises:
        ValueError: it is not a finite number.
    """
    if type(reward) is float and -MAX_REWARD <= reward <= MAX_REWARD:
        return reward  # the common case
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
    return f"step({action})"


def reset_argument_error(argument: str) -> str:
    """Format the error that `reset` does not accept an argument; in the old Gym it took no seed."""
    told = f"reset() does not take '{argument}'; "
    return f"{OLD} {told}{NEW}" if argument == "seed" else f"{told}define {RESET}"


def raise_unlike_reset(name: str, space: gymnasium.Space[Any], answer: Any) -> None:
    """Raise a `ContractError` if `answer` is not a valid result of `reset`; a list of two values is accepted."""
    pair = isinstance(answer, tuple | list) and len(answer) == 2
    if pair and isinstance(answer[1], Mapping):
        return
    if contains(space, answer):
        here = brief(answer)
        what = f"{OLD} reset() returned the observation {here} alone; return {RESULT}, here ({here}, {{}})"
    elif pair:
        what = f"reset() returned the info {brief(answer[1])}: expected a dict"
    else:
        what = f"reset() returned {brief(answer)}: expected {RESULT}"
    raise broken(name, what)


def raise_unlike_step(name: str, action: Any, answer: Any) -> None:
    """Raise a `ContractError` if `answer` is not a valid result of `step`; a list of five values is accepted."""
    several = isinstance(answer, tuple | list)
    if several and len(answer) == 5:
        return
    if several and len(answer) == 4:
        what = f"{OLD} {stepped(action)} returned the 4 values {brief(answer)}; return 5, {STEPPED}"
    else:
        what = f"{stepped(action)} returned {brief(answer)}: expected the 5 values {STEPPED}"
    raise broken(name, what)


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


def rehearse(env: gymnasium.Env[Any, Any], codec: StateCodec, name: str, seed: int) -> None:
    """Reset an environment and step it once, to report immediate faults before anything else starts.

    Args:
        env: an open environment with discrete actions.
        codec: maps its observations.
        name: its display name.
        seed: the seed of the reset.

    Raises:
        ContractError: it violates Gymnasium's API.
    """
    actions: Any = env.action_space
    checked = CheckedEnv(env, codec, name)
    _, info = checked.reset(seed=seed)
    mask = np.asarray(info.get("action_mask", ()))
    allowed = np.flatnonzero(mask) if mask.shape == (int(actions.n),) else np.zeros(0, np.int64)
    checked.step(np.int64(int(actions.start) + (int(allowed[0]) if allowed.size else 0)))
