"""The copies of an environment, stepped together, and the episodes under way.

**Going on from a moment.** An environment keeps its state to itself, so the episodes under way are played again: each
began with a seed, or with the environment's random number generators (`generators`) in known states, and the actions
since are known. Where this ends in the same states, with the same rewards and the generators in the same states, the
copy is what it was. A copy where it does not (it keeps something over episodes, or draws from another source) begins a
new episode, and the continuation is not exact to the bit.
"""

from __future__ import annotations

from array import array as numbers
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from deeptaxi.learning.loops.generators import generators_of, set_generators_of
from deeptaxi.learning.mask import MaskBook
from deeptaxi.learning.moment import (
    Moment,
    UnfitError,
    array,
    check_range,
    fact,
)
from deeptaxi.learning.replay import Transitions
from deeptaxi.mdp.contract import ContractError
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.foreign import blaming

LONGEST = 1_000_000  # steps of an episode that are kept to be played again


@dataclass
class Episode:
    """How an episode under way can be played again."""

    begin: dict[str, Any] | None = None  # the states of the copy's generators before its reset; None after a seed
    actions: numbers[int] = field(default_factory=lambda: numbers("i"))  # a list would take 8 bytes of each

    def add(self, action: int) -> None:
        """Note the next action."""
        if len(self.actions) <= LONGEST:
            self.actions.append(action)


class Players:
    """The copies of the environment and the episodes under way.

    Args:
        environment: what to play.
        vector: its N copies, without automatic resets.
        seeds: one per copy.
        masks: the book of allowed actions, kept up to date from ``info["action_mask"]``.
    """

    def __init__(self, environment: Environment, vector: SyncVectorEnv, seeds: list[int], masks: MaskBook) -> None:
        self._environment = environment
        self._vector = vector
        self._masks = masks
        self._totals = np.zeros(vector.num_envs)
        self._episodes = [Episode() for _ in seeds]
        with blaming(environment.config.id):
            self.states = self._read(*vector.reset(seed=seeds))

    def step(self, actions: NDArray[np.int64]) -> tuple[Transitions, list[float]]:
        """Step every copy; return the N transitions, and the returns of the episodes that ended.

        Raises:
            EnvironmentFailedError: the environment failed, or broke its own promises.
        """
        with blaming(self._environment.config.id):
            return self._step(actions)

    def _step(self, actions: NDArray[np.int64]) -> tuple[Transitions, list[float]]:
        for episode, action in zip(self._episodes, actions.tolist(), strict=True):
            episode.add(action)
        observation, reward, terminated, truncated, info = self._vector.step(actions + self._environment.first_action)
        reached = self._read(observation, info)
        transitions = Transitions(
            self.states,
            actions.astype(np.int32),
            reward.astype(np.float32),
            reached,
            terminated.copy(),
            truncated.copy(),
        )
        self._totals += reward
        over = terminated | truncated
        returns: list[float] = self._totals[over].tolist()
        if over.any():
            self._totals[over] = 0.0
            for copy in np.flatnonzero(over):
                self._episodes[copy] = Episode(generators_of(self._vector.envs[copy]))
            reached = self._read(*self._vector.reset(options={"reset_mask": over}))
        self.states = reached
        return transitions, returns

    def _read(self, observation: NDArray[np.int64], info: dict[str, Any]) -> NDArray[np.int32]:
        self._masks.note(observation, info)
        return np.array(observation, np.int32)

    def moment(self) -> Moment:
        """Return the episodes under way: `states`, `totals` and `steps` `[N]`, and all `actions`, `[Σ steps]`."""
        arrays = {
            "players.states": self.states.copy(),
            "players.totals": self._totals.copy(),
            "players.actions": np.concatenate([np.array(episode.actions, np.int32) for episode in self._episodes]),
            "players.steps": np.array([len(episode.actions) for episode in self._episodes], np.int64),
        }
        facts = {
            "begins": [episode.begin for episode in self._episodes],
            "generators": [generators_of(env) for env in self._vector.envs],
        }
        return Moment(arrays, facts)

    def restore(self, moment: Moment) -> list[int]:
        """Play the episodes again that were under way; return the copies that had to begin a new one.

        Raises:
            UnfitError: the moment is of other players.
        """
        count = len(self._episodes)
        states = array(moment, "players.states", (count,), np.int32)
        totals = array(moment, "players.totals", (count,), np.float64)
        lengths = array(moment, "players.steps", (count,), np.int64)
        actions = array(moment, "players.actions", (max(int(lengths.sum()), 0),), np.int32)
        check_range(moment, "players.states", 0, self._environment.states)
        check_range(moment, "players.actions", 0, self._environment.actions)
        check_range(moment, "players.steps", 0, LONGEST + 2)
        begins, generators = fact(moment, "begins", list), fact(moment, "generators", list)
        if (len(begins), len(generators)) != (count, count):
            raise UnfitError(f"'begins' has {len(begins)} episodes, expected {count}")
        played = (numbers("i", own.tobytes()) for own in np.split(actions, np.cumsum(lengths)[:-1]))
        self._episodes = [Episode(*pair) for pair in zip(begins, played, strict=True)]
        seeded, self.states, self._totals = self.states, states.copy(), totals.copy()
        with blaming(self._environment.config.id):
            return [copy for copy in range(count) if not self._again(copy, int(seeded[copy]), generators[copy])]

    def _again(self, copy: int, seeded: int, states: Any) -> bool:
        """Play the episode of one copy again; whether that led to where it was. If not, a new one begins."""
        env = self._vector.envs[copy]
        try:
            reached = self._replayed(env, self._episodes[copy], seeded)
        except ContractError:
            raise
        except (Exception, SystemExit):  # its own code may refuse actions where it is elsewhere
            reached = None
        if reached == (self.states[copy], self._totals[copy], states):
            return True
        set_generators_of(env, states)
        self.states[copy], info = env.reset()
        self._totals[copy] = 0.0
        self._masks.note(self.states[[copy]], {name: [info[name]] for name in ("action_mask",) if name in info})
        self._episodes[copy] = Episode(states)
        return False

    def _replayed(self, env: Any, episode: Episode, seeded: int) -> tuple[int, float, Any] | None:
        """Return where an episode leads, what it brings, and its generators then; None where it ends on the way.

        `seeded` is the state that the copy is in, from its seed.
        """
        state, total, first = seeded, 0.0, self._environment.first_action
        if len(episode.actions) > LONGEST:
            return None
        if episode.begin is not None:
            set_generators_of(env, episode.begin)
            state = env.reset()[0]
        for action in episode.actions:
            state, reward, terminated, truncated, _ = env.step(np.int64(action + first))
            if terminated or truncated:
                return None
            total += float(reward)
        return state, total, generators_of(env)
