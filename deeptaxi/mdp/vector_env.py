"""Environments stepped together: they return state numbers, and are checked as they run.

Gymnasium's `SyncVectorEnv` batches any space, and takes longer for it than a step of a small environment takes. States
are integers, so that lists of them are all there is to batch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.wrappers import OrderEnforcing, TimeLimit
from numpy.typing import NDArray

from deeptaxi.mdp.contract import Answers, CheckedEnv, ShownMask
from deeptaxi.mdp.spaces import MAX_NUMBER, ActionCodec, ObservationError, StateCodec
from deeptaxi.mdp.table import MAX_REWARD

NUMBERS = (float, int)
COUNTING = (TimeLimit, OrderEnforcing, Answers)  # wrappers that do no more than count steps and check


def steps_within(env: gymnasium.Env[Any, Any]) -> tuple[Callable[[Any], Any], int | None]:
    """Return the step of the environment within wrappers that only count and check, and the time limit of these."""
    limit: int | None = None
    while type(env) in COUNTING:
        if isinstance(env, TimeLimit):
            limit = min(env._max_episode_steps, limit or env._max_episode_steps)
        env = env.env  # type: ignore[attr-defined]  # of a wrapper
    return env.step, limit


class NumberedEnv(CheckedEnv):
    """Returns state numbers, and of `info` the action mask alone.

    A step goes to the environment itself, past the wrappers that only count its steps: that halves its overhead.

    Args:
        env: the environment with all its wrappers.
        codec: maps its observations.
        actions: maps its actions, which its masks are of.
        name: its display name.
        masks: whether to leave the action mask in `info`.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], codec: StateCodec, actions: ActionCodec, name: str, masks: bool = True
    ) -> None:
        super().__init__(env, codec, name)
        self._mask = ShownMask(env, actions) if masks else None
        if codec.states <= MAX_NUMBER:  # else they are the indices that a `NumberingCodec` numbers
            self._observation_space = Discrete(codec.states)
        self._inner_step, self._limit = steps_within(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Reset the environment; return the state."""
        _, info = super().reset(seed=seed, options=options)
        return self._state, {} if self._mask is None else self._mask_in(info)

    def step(self, action: Any) -> tuple[int, Any, bool, bool, dict[str, Any]]:
        """Step the environment; return the state."""
        self._step += 1
        answer = self._inner_step(int(action) if self._integers else action)
        if not self._is_usual(answer):
            answer = self._check(action, answer)
        _, reward, terminated, truncated, info = answer
        if self._limit is not None and self._step >= self._limit:
            truncated = True
        return self._state, reward, terminated, truncated, {} if self._mask is None else self._mask_in(info)

    def _is_usual(self, answer: Any) -> bool:
        """Return whether a step answered plain values, and keep the state number: nearly all do, at half the cost."""
        if type(answer) is not tuple or len(answer) != 5:
            return False
        observation, reward, terminated, truncated, info = answer
        known = type(reward) in NUMBERS and type(terminated) is bool and type(truncated) is bool and type(info) is dict
        if not known or not -MAX_REWARD <= reward <= MAX_REWARD:
            return False
        try:
            self._state = self._codec.encode(observation)
        except ObservationError:
            return False
        return True

    def _mask_in(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return the action mask that the environment shows, if it does."""
        mask = None if self._mask is None else self._mask(info)
        return {} if mask is None else {"action_mask": mask}


class VectorEnv:
    """Environments stepped together, which the caller resets.

    By default Gymnasium resets an environment on the step *after* its last: that step ignores its action and must not
    become a transition. Without automatic resets there is no such step.

    Args:
        envs: N environments that return state numbers.
        dtype: of the states.
    """

    def __init__(self, envs: Sequence[NumberedEnv], dtype: Any = np.int64) -> None:
        self.envs = list(envs)
        self._dtype = dtype
        self._states = [0] * len(self.envs)

    @property
    def num_envs(self) -> int:
        """N."""
        return len(self.envs)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, over: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Reset the environments; return all states `[N]` and what those that were reset show.

        Args:
            seed: a seed for each environment, or the first of consecutive ones; None for none.
            over: bool `[N]`, the environments to reset; None for all.
        """
        shown: list[Any] = [None] * self.num_envs
        for copy in range(self.num_envs) if over is None else np.flatnonzero(over).tolist():
            given = seed + copy if isinstance(seed, int) else None if seed is None else seed[copy]
            self._states[copy], shown[copy] = self.envs[copy].reset(seed=given)
        return np.array(self._states, self._dtype), batch_masks(shown)

    def step(
        self, actions: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step all environments; return states, rewards, terminated and truncated, each `[N]`, and what they show."""
        answers = [env.step(action) for env, action in zip(self.envs, actions.tolist(), strict=True)]
        states, rewards, terminated, truncated, shown = zip(*answers, strict=True)
        self._states = list(states)
        return (
            np.array(states, self._dtype),
            np.array(rewards, np.float64),
            np.array(terminated, np.bool_),
            np.array(truncated, np.bool_),
            batch_masks(shown),
        )

    def render(self) -> tuple[Any, ...]:
        """Return a frame of each environment."""
        return tuple(env.render() for env in self.envs)

    def close(self) -> None:
        """Close all environments, whatever they raise."""
        for env in self.envs:
            with suppress(Exception):
                env.close()


def batch_masks(shown: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return the action masks of some environments, `[N, A]`, and which have one, `_action_mask` `[N]`."""
    masks = [(copy, np.asarray(info["action_mask"])) for copy, info in enumerate(shown) if info]
    if not masks:
        return {}
    found = np.zeros((len(shown), *masks[0][1].shape))
    present = np.zeros(len(shown), np.bool_)
    for copy, mask in masks:
        found[copy], present[copy] = mask, True
    return {"action_mask": found, "_action_mask": present}
