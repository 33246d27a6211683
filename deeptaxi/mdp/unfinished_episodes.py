"""Restore unfinished episodes in another process by playing them again.

An environment does not expose its state. But an episode began from a seed, or from known states of the environment's
random number generators (those among its attributes), and the actions since then are recorded. If playing them again
ends in the same state, with the same rewards and the same generator states, the environment is restored exactly. If not
(it carries something across episodes, or draws from another source), it starts a new episode.
"""

from __future__ import annotations

import random
from array import array as numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError
from deeptaxi.mdp.contract import ContractError
from deeptaxi.mdp.vector_env import NumberedEnv, VectorEnv

KINDS = (np.random.Generator, np.random.RandomState, random.Random)
LONGEST = 1_000_000  # recorded steps per episode; longer episodes cannot be played again


class GeneratorStateError(DeepTaxiError):
    """A saved state does not fit a random number generator of the environment."""


def generators_of(env: Any) -> dict[str, Any]:
    """Return the JSON-serializable states of an environment's generators, keyed by attribute name.

    Reading `np_random` of a Gymnasium environment that has drawn nothing yet would create a randomly seeded generator.
    """
    return {name: state_of(generator) for name, generator in hold_generators(env).items()}


def set_generators_of(env: Any, states: Any) -> None:
    """Set the states of an environment's generators.

    Raises:
        GeneratorStateError: a state does not fit its generator.
    """
    states = states if isinstance(states, Mapping) else {}
    if "_np_random" in states:
        getattr(env.unwrapped, "np_random", None)  # reading the property creates the generator
    for name, generator in hold_generators(env).items():
        if name in states:
            set_state(generator, states[name])


def hold_generators(env: Any) -> dict[str, Any]:
    """Return the generators among an environment's attributes, except `SystemRandom`, which has no state."""
    attributes: Mapping[str, Any] = getattr(env.unwrapped, "__dict__", {})
    found = {name: value for name, value in attributes.items() if isinstance(value, KINDS)}
    return {name: value for name, value in found.items() if not isinstance(value, random.SystemRandom)}


def state_of(generator: Any) -> Any:
    """Return the state of a generator as lists and integers."""
    if isinstance(generator, random.Random):
        version, numbers, gauss = generator.getstate()
        return [version, list(numbers), gauss]
    return plain(generator.get_state(legacy=False) if is_old(generator) else generator.bit_generator.state)


def set_state(generator: Any, state: Any) -> None:
    """Set a generator to a state returned by `state_of`."""
    try:
        if isinstance(generator, random.Random):
            generator.setstate((state[0], tuple(state[1]), state[2]))
        elif is_old(generator):
            generator.set_state(state)
        else:
            generator.bit_generator.state = state
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise GeneratorStateError(f"no state of a {type(generator).__name__}: {error}") from None


def is_old(generator: Any) -> bool:
    """Return whether the generator is NumPy's legacy `RandomState`."""
    return isinstance(generator, np.random.RandomState)


def plain(state: Any) -> Any:
    """Convert the arrays in nested mappings to lists."""
    if isinstance(state, Mapping):
        return {name: plain(part) for name, part in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


@dataclass
class Episode:
    """What is needed to play an unfinished episode again."""

    begin: dict[str, Any] | None = None  # generator states before the reset; None if it was seeded
    actions: numbers[int] = field(default_factory=lambda: numbers("i"))  # a list takes 8 bytes each

    def add(self, action: int) -> None:
        """Record the next action."""
        if len(self.actions) <= LONGEST:
            self.actions.append(action)


class SavedEpisode(NamedTuple):
    """An unfinished episode, and the states of the environment's generators now."""

    episode: Episode
    generators: dict[str, Any]


class Replayed(NamedTuple):
    """How an episode that was played again ends; to be compared with how it ended before."""

    state: int
    total: float  # of its rewards
    generators: dict[str, Any]


class Steps(NamedTuple):
    """What N environments return for a step, and after it those whose episode ended for their reset."""

    states: NDArray[Any]  # [N]
    rewards: NDArray[np.float64]  # [N]
    terminated: NDArray[np.bool_]  # [N]
    truncated: NDArray[np.bool_]  # [N]
    shown: dict[str, Any]  # the action masks, as `batch_masks` returns them
    begun: NDArray[Any] | None  # [N], the states after the resets; None if no episode ended
    begun_shown: dict[str, Any]  # of those that were reset


class RestorableEnvs(Protocol):
    """N copies of an environment, stepped together, whose unfinished episodes can be saved and played again."""

    @property
    def num_envs(self) -> int:
        """N."""

    def begin(self, seeds: Sequence[int]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Reset every copy with its seed; return the states `[N]` and the masks that are shown."""

    def step_and_reset(self, actions: NDArray[np.int32]) -> Steps:
        """Step every copy by its action, counted from 0, and reset those whose episode ended."""

    def save(self) -> list[SavedEpisode]:
        """Return the unfinished episode of every copy."""

    def replay(self, episodes: Sequence[Episode]) -> list[Replayed | None]:
        """Play the episode of every copy again, right after `begin`; None for one that ends early or fails."""

    def restart(self, copy: int, generators: Any) -> tuple[int, dict[str, Any]]:
        """Reset a copy whose generators have these states; return its state and what it shows."""

    def draws_from_process(self) -> bool:
        """Return whether copies in several processes drew from the random numbers that copies in one would share."""

    def close(self) -> None:
        """Close all copies."""


class RestorableVectorEnv(VectorEnv):
    """`RestorableEnvs` in this process.

    Args:
        envs: N environments that return state numbers.
        first_action: their own number of action 0.
        dtype: of the states: object if they have more than 63 bits.
    """

    def __init__(self, envs: Sequence[NumberedEnv], first_action: int, dtype: Any = np.int64) -> None:
        super().__init__(envs, dtype)
        self._first = first_action
        self._episodes = [Episode() for _ in self.envs]

    def begin(self, seeds: Sequence[int]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Reset every copy with its seed; return the states `[N]` and the masks that are shown."""
        self._episodes = [Episode() for _ in self.envs]
        return self.reset(seed=seeds)

    def step_and_reset(self, actions: NDArray[np.int32]) -> Steps:
        """Step every copy by its action, counted from 0, and reset those whose episode ended."""
        for episode, action in zip(self._episodes, actions.tolist(), strict=True):
            episode.add(action)
        states, rewards, terminated, truncated, shown = self.step(actions + self._first)
        over = terminated | truncated
        if not over.any():
            return Steps(states, rewards, terminated, truncated, shown, None, {})
        for copy in np.flatnonzero(over):
            self._episodes[copy] = Episode(generators_of(self.envs[copy]))
        return Steps(states, rewards, terminated, truncated, shown, *self.reset(over=over))

    def save(self) -> list[SavedEpisode]:
        """Return the unfinished episode of every copy."""
        return [
            SavedEpisode(episode, generators_of(env)) for episode, env in zip(self._episodes, self.envs, strict=True)
        ]

    def replay(self, episodes: Sequence[Episode]) -> list[Replayed | None]:
        """Play the episode of every copy again, right after `begin`; None for one that ends early or fails."""
        self._episodes = list(episodes)
        return [self._replay(copy, episode) for copy, episode in enumerate(episodes)]

    def _replay(self, copy: int, episode: Episode) -> Replayed | None:
        try:
            return play_again(self.envs[copy], episode, self._states[copy], self._first)
        except ContractError:
            raise
        except (Exception, SystemExit):  # in another state, its code may reject the actions
            return None

    def restart(self, copy: int, generators: Any) -> tuple[int, dict[str, Any]]:
        """Reset a copy whose generators have these states; return its state and what it shows.

        Raises:
            GeneratorStateError: a state does not fit its generator.
        """
        set_generators_of(self.envs[copy], generators)
        self._episodes[copy] = Episode(generators)
        return self.envs[copy].reset()

    def draws_from_process(self) -> bool:
        """Return False: there is one process."""
        return False


def play_again(env: NumberedEnv, episode: Episode, seeded: int, first: int) -> Replayed | None:
    """Return how an episode ends; None if it does so early.

    Args:
        env: the environment, reset by its seed.
        episode: the episode.
        seeded: the state that it was reset to.
        first: its own number of action 0.
    """
    state, total = seeded, 0.0
    if len(episode.actions) > LONGEST:
        return None
    if episode.begin is not None:
        set_generators_of(env, episode.begin)
        state = env.reset()[0]
    for action in episode.actions:
        state, reward, terminated, truncated, _ = env.step(action + first)
        if terminated or truncated:
            return None
        total += float(reward)
    return Replayed(state, total, generators_of(env))
