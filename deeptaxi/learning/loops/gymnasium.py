"""The loop over real environments: several copies stepped together, then one update.

Order of one update, as the tests record it: choose actions by ε-greedy, step all copies, store the transitions, reset
the copies whose episode ended, draw a minibatch, update. The observation that follows a reset belongs to no transition.
Rewards are stored in units of the reward scale; the returns that are reported are in full.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError
from deeptaxi.learning.learner import Learner
from deeptaxi.learning.mask import MaskBook
from deeptaxi.learning.prioritised import PrioritisedReplay
from deeptaxi.learning.replay import Replay, Transitions
from deeptaxi.learning.schedules import exploration
from deeptaxi.learning.ticks import Tick
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.foreign import blaming, closing


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
        with blaming(environment.config.id):
            self.states = self._read(*vector.reset(seed=seeds))

    def step(self, actions: NDArray[np.int64]) -> tuple[Transitions, list[float]]:
        """Step every copy; return the N transitions, and the returns of the episodes that ended.

        Raises:
            DeepTaxiError: the environment failed, or broke its own promises.
        """
        with blaming(self._environment.config.id):
            return self._step(actions)

    def _step(self, actions: NDArray[np.int64]) -> tuple[Transitions, list[float]]:
        observation, reward, terminated, truncated, info = self._vector.step(actions + self._environment.first_action)
        if not np.isfinite(reward).all():
            raise DeepTaxiError(f"the environment {self._environment.config.id} gave the reward {reward}")
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
            reached = self._read(*self._vector.reset(options={"reset_mask": over}))
        self.states = reached
        return transitions, returns

    def _read(self, observation: Any, info: dict[str, Any]) -> NDArray[np.int32]:
        states = self._environment.codec.encode(observation)
        self._masks.note(states, info)
        return states.astype(np.int32)


@dataclass
class Gatherer:
    """Lets the players step by the learner's ε-greedy actions, and stores what they did."""

    learner: Learner
    players: Players
    masks: MaskBook
    replay: Replay
    rng: np.random.Generator
    reward_scale: float

    def __call__(self, epsilon: float) -> list[float]:
        """Step every copy once; return the returns of the episodes that ended."""
        allowed = self.masks.of(self.players.states)
        draws = self.rng.random(len(allowed), np.float32)
        noise = self.rng.random(allowed.shape, np.float32)
        actions = self.learner.act(self.players.states, epsilon, draws, noise, allowed)
        transitions, returns = self.players.step(actions)
        np.add.at(self.learner.visits, (transitions.states, actions), 1)
        self.replay.add(transitions._replace(rewards=transitions.rewards / np.float32(self.reward_scale)))
        return returns


def build_replay(config: TrainConfig) -> Replay:
    """Build the replay memory of the configured kind."""
    common = (config.replay.capacity, config.interaction.environments, config.target.n_step, config.discount)
    if config.replay.prioritised:
        return PrioritisedReplay(*common, config.replay.priority_exponent, config.replay.importance_exponent)
    return Replay(*common)


def run(
    config: TrainConfig, environment: Environment, learner: Learner, masks: MaskBook, seeds: np.random.SeedSequence
) -> Generator[Tick]:
    """Play and update, one `Tick` an update, until ``config.updates``."""
    for_environments, for_exploration, for_replay = seeds.spawn(3)
    exploring, drawing = np.random.default_rng(for_exploration), np.random.default_rng(for_replay)
    count, per_update = config.interaction.environments, config.interaction.steps_per_update
    replay = learner.memory = build_replay(config)
    returns: list[float] = []
    with closing(environment.make_vector(count)) as vector:
        players = Players(environment, vector, for_environments.generate_state(count).tolist(), masks)
        gather = Gatherer(learner, players, masks, replay, exploring, config.target.reward_scale)
        complete = count * (config.target.n_step - per_update)  # so that the first update finds something to draw
        while replay.added < max(complete, min(config.replay.start, replay.capacity)):
            returns += gather(config.exploration.start)
        for update in range(config.updates):
            progress = update / config.updates
            chance = exploration(config, progress)
            for _ in range(per_update):
                returns += gather(chance)
            batch = replay.sample(config.replay.batch_size, drawing, progress)
            result = learner.update(batch, masks.of(batch.next_states))
            replay.learnt(result.td_errors)
            yield Tick(update + 1, replay.added, chance, 1, result.loss, result.td_error, len(returns), sum(returns))
            returns = []
