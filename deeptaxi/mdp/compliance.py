"""Check everything about an environment, and list all its faults at once.

A training stops at the first fault of an environment. Here it is played on in spite of them: what `reset` and `step`
return is taken apart value by value, each kind of fault is kept with the call where it came first, and play continues
with whatever can still be used. Then two more questions are asked of an environment whose answers can be read: does it
do the same with the same seed, and is its table `P` true (`verify`)?
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.passive_env_checker import check_space

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import DeepTaxiError
from deeptaxi.mdp.binning import View, lacking_options
from deeptaxi.mdp.constructor import check_arguments
from deeptaxi.mdp.contract import (
    GYMNASIUMS,
    RESULT,
    STEPPED,
    CheckedEnv,
    ShownMask,
    blaming,
    closing,
    describe_failure,
    fault_of_reset,
    fault_of_step,
    finite,
    place_of,
    quiet,
    reset_argument_error,
    stepped,
    truth,
    with_numbered_actions,
)
from deeptaxi.mdp.environment import codecs_of, first_copy
from deeptaxi.mdp.numbering import NumberingCodec
from deeptaxi.mdp.sources import Source, limit_of
from deeptaxi.mdp.spaces import ActionCodec, ObservationError, StateCodec, amount, brief
from deeptaxi.mdp.verify import CHECK_SEED, CHECK_STEPS, LONGEST_EPISODE, find_table

SECONDS = 60.0  # of random steps at most
COMPARED_STEPS = 500  # of two instances with the same seed
NO_TABLE = "no P; `deeptaxi discover` finds the table of an environment whose chance is finite"


@dataclass(frozen=True)
class Fault:
    """Something that an environment does against Gymnasium's API, or a table that is not true.

    Attributes:
        part: what is at fault: `observation_space`, `action_space`, `reset`, `step`, `seed`, `action_mask` or `P`; or
            the name of a finding of `diagnose`.
        message: the call, the value and what is expected, in one line.
        step: the number of the step at which it came first, over all episodes; 0 in a reset; None where none is played.
        times: how often it came.
    """

    part: str
    message: str
    step: int | None = None
    times: int = 1


@dataclass
class Compliance:
    """What was found.

    Attributes:
        faults: the faults, in the order in which they came.
        passed: the checks that found none.
        notes: what is no fault but worth knowing, and what could not be checked.
        steps: the random steps played.
        episodes: the episodes begun.
    """

    faults: list[Fault] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: int = 0
    episodes: int = 0

    def conclude(self, part: str, what: str) -> None:
        """Count a check as passed if it found no fault in `part`."""
        if all(fault.part != part for fault in self.faults):
            self.passed.append(what)


def check_compliance(config: EnvironmentConfig, source: Source, seconds: float = SECONDS) -> Compliance:
    """Check an environment: spaces, `reset`, `step`, seed, action mask and table.

    Args:
        config: its id, arguments and time limit.
        source: makes its instances.
        seconds: time for the random steps at most.

    Raises:
        UsageError: it cannot be made, so that there is nothing to check.
    """
    found = Compliance()
    with source.importing(), quiet():
        check_arguments(config, *source.creator(config.id))

        def make() -> Any:
            return first_copy(lambda: source.make(config, {}), config)

        with closing(make()) as env:
            limit = limit_of(env)
            codec, actions = check_spaces(env, config, found)
            if getattr(env, "action_space", None) is not None:
                play(Play(beneath(env), codec, actions, limit, found), seconds)
                check_seed(lambda: beneath(make()), found)
        if codec is not None and actions is not None and not found.faults:
            with closing(make()) as env:
                check_table(CheckedEnv(with_numbered_actions(env, actions), codec, config.id), codec, config, found)
        elif found.faults and has_table(env):
            found.notes.append("P was not checked: mend the faults first")
    return found


def has_table(env: Any) -> bool:
    """Whether an environment has an attribute `P`, also if its code fails to compute it."""
    try:
        return getattr(env.unwrapped, "P", None) is not None
    except Exception:  # third-party code
        return True


def beneath(env: Any) -> Any:
    """Return an environment without the wrappers of `gymnasium.make`, which fail at the first fault."""
    while isinstance(env, GYMNASIUMS):
        env = env.env
    return env


def check_spaces(
    env: Any, config: EnvironmentConfig, found: Compliance
) -> tuple[StateCodec | None, ActionCodec | None]:
    """Check both spaces; return their codecs, or None where a space is at fault, or where it needs bins."""
    for part, kind in (("observation_space", "observation"), ("action_space", "action")):
        space = getattr(env, part, None)
        if space is None:
            found.faults.append(Fault(part, f"it has no {part}: set self.{part} in __init__"))
            continue
        try:
            check_space(space, kind, lambda _: None)
        except Exception as error:  # Gymnasium's checker asserts, and raises errors of its own
            found.faults.append(Fault(part, " ".join(f"{error}".split())))
    if found.faults:
        return None, None
    try:
        with blaming(config.id):
            lacking = lacking_options(env, View(), ()) if config.bins is None and config.action_bins is None else None
            if lacking:  # real numbers are no fault
                found.notes.append(f"to number its states or actions, `deeptaxi train` needs bins: it {lacking}")
                return None, None
            codec, actions = codecs_of(env, config)
            size = f"{codec.states:,} states"
            if isinstance(codec, NumberingCodec):
                size = f"{amount(codec.combinations)} combinations of observations"
    except DeepTaxiError as error:
        found.faults.append(Fault("observation_space", str(error)))
        return None, None
    found.passed.append(f"spaces: {size}, {actions.actions:,} actions")
    return codec, actions


class Play:
    """Resets and steps an environment in spite of its faults.

    Args:
        env: the environment beneath Gymnasium's wrappers.
        codec: maps its observations; None if their space has no numbers, so that no observation is checked.
        actions: maps its actions; None if their space has no numbers, so that it is sampled as it is.
        limit: steps after which an episode is truncated, or None.
        found: takes the faults.
    """

    def __init__(
        self, env: Any, codec: StateCodec | None, actions: ActionCodec | None, limit: int | None, found: Compliance
    ) -> None:
        self.env = env
        self.found = found
        self.limit = limit
        self._codec = codec
        self._actions = actions
        self._accepted = reset_arguments(env)
        self._mask = None if actions is None else ShownMask(env, actions)
        self._allowed: Any = None
        self._random = np.random.default_rng(CHECK_SEED)
        self._seen: dict[tuple[str, str], int] = {}  # the index of the fault of a kind
        for argument in ("seed", "options"):
            if argument not in self._accepted:
                self.report("reset", argument, reset_argument_error(argument), 0)
                break  # the definition that is advised takes both

    def report(self, part: str, kind: str, message: str, step: int | None) -> None:
        """Keep a fault, or count it if one of its kind is known."""
        faults = self.found.faults
        if (part, kind) in self._seen:
            known = faults[self._seen[part, kind]]
            faults[self._seen[part, kind]] = Fault(known.part, known.message, known.step, known.times + 1)
            return
        self._seen[part, kind] = len(faults)
        faults.append(Fault(part, message, step))

    def reset(self, seed: int | None = None) -> bool:
        """Reset the environment; return whether it can be stepped."""
        given: dict[str, Any] = {"seed": seed, "options": None}
        try:
            answer = self.env.reset(**{name: given[name] for name in self._accepted})
        except (Exception, SystemExit) as error:  # third-party code
            self.report("reset", f"raised {place_of(error)}", f"reset() raised {describe_failure(error)}", 0)
            return False
        for kind, message in self.faults_of_reset(answer):
            self.report("reset", kind, message, 0)
        info = answer[1] if isinstance(answer, tuple | list) and len(answer) == 2 else {}
        self.show_mask(info, "reset()", 0)
        self.found.episodes += 1
        return True

    def faults_of_reset(self, answer: Any) -> Iterator[tuple[str, str]]:
        """Yield the kind and message of each fault of what `reset` returned."""
        form = fault_of_reset(getattr(self.env, "observation_space", None), answer)
        if form is not None:
            yield "answer", form
        elif self._codec is not None:
            yield from self.faults_of_observation("reset()", answer[0])

    def faults_of_observation(self, call: str, observation: Any) -> Iterator[tuple[str, str]]:
        """Yield the fault of an observation, if it is not in its space."""
        if self._codec is not None:
            try:
                self._codec.encode(observation)
            except ObservationError as error:
                yield "observation", f"{call} returned {error}"

    def step(self) -> bool:
        """Step the environment by a random action that is allowed; return whether the episode continues."""
        action = self.choose()
        self.found.steps += 1
        step, call = self.found.steps, stepped(action)
        try:
            answer = self.env.step(action)
        except (Exception, SystemExit) as error:  # third-party code
            self.report("step", f"raised {place_of(error)}", f"{call} raised {describe_failure(error)}", step)
            return False
        for kind, message in self.faults_of_step(action, answer):
            self.report("step", kind, message, step)
        if not isinstance(answer, tuple | list) or len(answer) not in (4, 5):
            return False
        self.show_mask(answer[-1], call, step)
        return not any(flag is not None and bool(np.any(flag)) for flag in answer[2:-1])

    def choose(self) -> Any:
        """Return a random action that is allowed, as the environment takes it."""
        if self._actions is None:
            return self.env.action_space.sample()
        if self._allowed is None:
            index = self._random.integers(self._actions.actions)
        else:
            index = self._random.choice(np.flatnonzero(self._allowed))
        number = self._actions.first + int(index)
        return self._actions.decode(number) if self._actions.composite else number

    def faults_of_step(self, action: Any, answer: Any) -> Iterator[tuple[str, str]]:
        """Yield the kind and message of each fault of what `step` returned."""
        form = fault_of_step(action, answer)
        if form is not None:
            yield "answer", form
        if not isinstance(answer, tuple | list) or len(answer) not in (4, 5):
            return
        call = stepped(action)
        observation, reward, *flags, info = answer
        yield from self.faults_of_observation(call, observation)
        try:
            finite(reward)
        except ValueError as error:
            yield "reward", f"{call} returned {error}"
        for name, flag in zip(("terminated", "truncated"), flags if len(answer) == 5 else (), strict=False):
            try:
                truth(name, flag)
            except ValueError as error:
                yield name, f"{call} returned {error}"
        if not isinstance(info, Mapping):
            yield "info", f"{call} returned the info {brief(info)}: expected a dict"

    def show_mask(self, info: Any, call: str, step: int) -> None:
        """Keep the action mask that the environment shows, if it is valid."""
        self._allowed = None
        if self._mask is None or self._actions is None:
            return
        try:
            mask = self._mask(info if isinstance(info, Mapping) else {})
        except (Exception, SystemExit) as error:  # third-party code
            self.report("action_mask", "raised", f"after {call} the action mask raised {describe_failure(error)}", step)
            return
        if mask is None:
            return
        array = np.asarray(mask)
        if array.shape != (self._actions.actions,) or array.dtype.kind not in "biuf":
            what = f"expected {self._actions.actions} zeros and ones"
            self.report("action_mask", "shape", f"after {call} the action mask is {brief(mask)}: {what}", step)
        elif not np.isin(array, (0, 1)).all():
            what = "expected only zeros and ones"
            self.report("action_mask", "values", f"after {call} the action mask is {brief(mask)}: {what}", step)
        elif array.any():
            self._allowed = array


def play(one: Play, seconds: float) -> None:
    """Play `CHECK_STEPS` random steps, and conclude what passed."""
    found, end = one.found, time.monotonic() + seconds
    ended, failures = 0, 0
    while found.steps < CHECK_STEPS and failures < 3 and time.monotonic() < end:
        if not one.reset(CHECK_SEED if found.episodes == 0 else None):
            failures += 1
            continue
        before = found.steps
        longest = min(one.limit or LONGEST_EPISODE, CHECK_STEPS - before)
        going = True
        while going and found.steps - before < longest and time.monotonic() < end:
            going = one.step()
        ended += not going
    played = f"{found.steps:,} random steps in {found.episodes:,} episodes"
    found.conclude("reset", f"reset: {found.episodes:,} resets return {RESULT}")
    found.conclude("step", f"step: {played} return {STEPPED}")
    if found.steps < CHECK_STEPS and not failures:
        found.notes.append(f"slow: {played} took {seconds:g} s, fewer than {CHECK_STEPS:,} were played")
    if not ended and found.steps and one.limit is None:
        found.notes.append(f"endless: none of {played} ended, and there is no time limit: give --time-limit")


def check_seed(make: Any, found: Compliance) -> None:
    """Play two instances with the same seed and actions; what one does, the other must do too."""
    try:
        with closing(make()) as one, closing(make()) as other:
            accepted = reset_arguments(one)
            if "seed" not in accepted:
                return
            calls = [(env, env.reset(seed=CHECK_SEED)) for env in (one, other)]
            space = one.action_space
            space.seed(CHECK_SEED)
            action: Any = None  # of a reset
            for step in range(COMPARED_STEPS):
                first, second = (comparable(answer) for _, answer in calls)
                if repr(first) != repr(second):
                    call = f"reset(seed={CHECK_SEED})" if action is None else stepped(action)
                    message = (
                        f"with the same seed and actions, {call} returned {brief(first)} and then {brief(second)}: "
                        "draw all chance from self.np_random, after super().reset(seed=seed)"
                    )
                    found.faults.append(Fault("seed", message, step))
                    return
                answer = calls[0][1]
                if step and any(bool(flag) for flag in answer[2:4]):
                    action, calls = None, [(env, env.reset(seed=CHECK_SEED + step)) for env, _ in calls]
                else:
                    action = space.sample()
                    calls = [(env, env.step(action)) for env, _ in calls]
            found.passed.append(f"seed: {COMPARED_STEPS:,} steps of two instances are equal")
    except (Exception, SystemExit):  # a fault that the play has found, or that this one shares
        found.notes.append("the seed was not checked: mend the faults first")


def comparable(answer: Any) -> Any:
    """Return the observation of a reset, or what a step returned, without `info`, which may be anything."""
    return answer[:-1] if len(answer) > 2 else answer[0]


def check_table(env: gymnasium.Env[Any, Any], codec: StateCodec, config: EnvironmentConfig, found: Compliance) -> None:
    """Check the table of an environment against the environment itself."""
    try:
        with blaming(config.id):
            finding = find_table(env, codec) if has_table(env) else None
    except DeepTaxiError as error:
        found.faults.append(Fault("P", str(error)))
        return
    if finding is None:
        found.notes.append(NO_TABLE)
    elif finding.table is None:
        found.faults.append(Fault("P", str(finding.reason)))
    else:
        resets = f"; starts estimated from {finding.resets:,} resets" if finding.resets else ""
        found.passed.append(f"P: {CHECK_STEPS:,} random steps agree with it{resets}")


def reset_arguments(env: Any) -> list[str]:
    """Return which of `seed` and `options` the `reset` of an environment takes."""
    try:
        parameters = inspect.signature(env.reset).parameters
    except (TypeError, ValueError):
        return ["seed", "options"]
    anything = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    return [name for name in ("seed", "options") if anything or name in parameters]
