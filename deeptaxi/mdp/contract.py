"""What an environment promises Gymnasium, held against what it does.

Environments are other people's code. What one returns is checked here, once, for everything that steps one: `reset`
returns ``(observation, info)``, `step` ``(observation, reward, terminated, truncated, info)``; an observation is in its
space, a reward is a finite number. What breaks this is told in one line: the method, the value, what is expected.

While an environment is imported, made, run and closed, whatever it prints and raises is told in one line that blames it
(`quiet`, `blaming`, `closing`).
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
    """Turn whatever an environment's own code raises into one line that names the environment and the place."""
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
    """Return where an environment's own code failed, such as ``pond.py:17, in step``; an empty text if nowhere."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(PACKAGE) and not of_a_library(frame.filename)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name}" if own else ""


def of_a_library(file: str) -> bool:
    """Whether a file belongs to what environments are made with."""
    _, installed, within = Path(file).as_posix().rpartition("/site-packages/")
    return bool(installed) and within.startswith(LIBRARIES)


@contextmanager
def closing(env: Any) -> Iterator[Any]:
    """Close an environment at the end; one that fails at that has done its work all the same."""
    try:
        yield env
    finally:
        with suppress(Exception):
            env.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Gymnasium's advice on the choice of environments off standard error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="gymnasium")
        yield


RESET = "reset(self, *, seed=None, options=None)"
RESULT = "(observation, info)"
STEPPED = "(observation, reward, terminated, truncated, info)"
NEW = f"return {RESULT} from {RESET}, and {STEPPED} from step(action)"
OLD = "this is the old Gym API:"
GYMNASIUMS = (OrderEnforcing, PassiveEnvChecker, TimeLimit)  # what `gymnasium.make` puts around an environment


class ContractError(EnvironmentFailedError):
    """An environment returned what Gymnasium's API does not allow."""


class Answers(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks how many values `reset` and `step` return, before Gymnasium's own wrappers unpack them."""

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self._name = name

    @property
    def spec(self) -> Any:  # type: ignore[override]  # Gymnasium's own wrappers override it so as well
        """The environment's own: this wrapper is no part of what it is made by."""
        return self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment.

        Raises:
            ContractError: it takes no seed or no options, or returns something else than two values.
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
            ContractError: it returns something else than five values.
        """
        answer: Any = self.env.step(action)
        if type(answer) is tuple and len(answer) == 5:
            return answer
        raise_unlike_step(self._name, action, answer)
        return tuple(answer)


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Passes on what an environment returns, once it is known to be sound.

    Args:
        env: the environment, with all that is around it.
        codec: maps its observations.
        name: what it is called.
        numbers: whether to observe state numbers, and to leave `info` empty, as the copies of a vector environment do:
            batching casts what it is given (3.5 to 3).
        masks: whether the action mask stays in `info` even so.
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
        """The environment's own: this wrapper is no part of what it is made by."""
        return self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment.

        Raises:
            ContractError: it does not return an observation of its space and a dict.
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
            ContractError: it does not return an observation of its space, a finite reward, two truth values and a dict.
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
        """Return what a vector environment is told of `info`."""
        return mask_of(info) if self._masks else {}

    def _state(self, method: Any, observation: Any) -> int:
        """Return a state number; `method` is what returned the observation, or the action of a step."""
        try:
            return self._codec.encode(observation)
        except ObservationError as error:
            method = method if isinstance(method, str) else stepped(method)
            raise broken(self._name, f"{method} returned {error}") from None


def mask_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the action mask of an `info` alone; numbers as float64, so that batching casts none to another's type."""
    if "action_mask" not in info:
        return {}
    mask = info["action_mask"]
    array = np.asarray(mask) if isinstance(mask, np.ndarray | list | tuple) else None
    return {"action_mask": mask if array is None or array.dtype.kind not in "biuf" else array.astype(np.float64)}


def finite(reward: Any) -> Any:
    """Return a reward that is a finite number; one of no type of Python's or NumPy's numbers as a float.

    Raises:
        ValueError: it is none.
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
    raise ValueError(f"the reward {brief(reward)}: expected a finite number of at most {MAX_REWARD:g} in size")


def truth(name: str, value: Any) -> bool:
    """Return a truth value; 0 and 1 stand for one.

    Raises:
        ValueError: it is none.
    """
    if value is True or value is False:
        return value
    scalar = isinstance(value, int | np.bool_ | np.integer) or (isinstance(value, np.ndarray) and value.shape == ())
    if scalar and value in (0, 1):
        return bool(value)
    raise ValueError(f"{name} = {brief(value)}: expected True or False")


def broken(name: str, what: str) -> ContractError:
    """Return the error that names an environment, and what it did."""
    return ContractError(f"the environment {name} failed: {what}")


def stepped(action: Any) -> str:
    """Return the call of a step."""
    return f"step({action})"


def reset_argument_error(argument: str) -> str:
    """Say that `reset` does not take an argument; the old Gym's took no seed."""
    told = f"reset() does not take '{argument}'; "
    return f"{OLD} {told}{NEW}" if argument == "seed" else f"{told}define {RESET}"


def raise_unlike_reset(name: str, space: gymnasium.Space[Any], answer: Any) -> None:
    """Raise a `ContractError` where `answer` is not what `reset` returns; a list of two values will do."""
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
    """Raise a `ContractError` where `answer` is not what `step` returns; a list of five values will do."""
    several = isinstance(answer, tuple | list)
    if several and len(answer) == 5:
        return
    if several and len(answer) == 4:
        what = f"{OLD} {stepped(action)} returned the 4 values {brief(answer)}; return 5, {STEPPED}"
    else:
        what = f"{stepped(action)} returned {brief(answer)}: expected the 5 values {STEPPED}"
    raise broken(name, what)


def with_answers_checked(env: gymnasium.Env[Any, Any], name: str) -> gymnasium.Env[Any, Any]:
    """Put `Answers` beneath what `gymnasium.make` has put around an environment, and above all that is its own."""
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
    """Reset an environment and step it once, so that what it breaks at once is told before anything else begins.

    Args:
        env: an open environment with discrete actions.
        codec: maps its observations.
        name: what it is called.
        seed: of the reset.

    Raises:
        ContractError: it breaks what Gymnasium's API promises.
    """
    actions: Any = env.action_space
    checked = CheckedEnv(env, codec, name)
    _, info = checked.reset(seed=seed)
    mask = np.asarray(info.get("action_mask", ()))
    allowed = np.flatnonzero(mask) if mask.shape == (int(actions.n),) else np.zeros(0, np.int64)
    checked.step(np.int64(int(actions.start) + (int(allowed[0]) if allowed.size else 0)))
