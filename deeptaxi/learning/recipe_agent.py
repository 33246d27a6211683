"""The recipe step by step: a replay buffer in NumPy, and a `FitAgent` that is updated on minibatches from it."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import TrainConfig
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.agent import Acting, FitAgent, Updated
from deeptaxi.learning.expected import expect, outcomes_of
from deeptaxi.learning.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer, Transitions
from deeptaxi.learning.state import TrainingState, fact, generator_state, merge_states, set_generator
from deeptaxi.mdp.environment import Environment


def build_replay(config: TrainConfig) -> ReplayBuffer:
    """Build the configured replay buffer."""
    common = (config.replay.capacity, config.interaction.environments, config.target.n_step, config.discount)
    if config.replay.prioritized:
        return PrioritizedReplayBuffer(*common, config.replay.priority_exponent, config.replay.importance_exponent)
    return ReplayBuffer(*common)


class RecipeAgent:
    """The recipe step by step; an `Agent`.

    Args:
        agent: acts, and makes the updates.
        config: the training.
        environment: the environment.
        masks: table of allowed actions, which may grow.
        seeds: of the minibatches.
    """

    def __init__(
        self,
        agent: FitAgent,
        config: TrainConfig,
        environment: Environment,
        masks: ActionMaskTable,
        seeds: np.random.SeedSequence,
    ) -> None:
        self._agent = agent
        self._config = config
        self._environment = environment
        self._masks = masks
        self._outcomes = outcomes_of(config, environment.table)
        self._rng = np.random.default_rng(seeds)
        self._replay = build_replay(config)

    @property
    def online(self) -> keras.Model:
        """The online network."""
        return self._agent.online

    @property
    def updates(self) -> int:
        """The number of updates made so far."""
        return self._agent.updates

    @property
    def added(self) -> int:
        """The number of transitions stored so far, including overwritten ones."""
        return self._replay.added

    def act(self, acting: Acting) -> NDArray[np.int32]:
        """Return ε-greedy actions `[N]`."""
        return self._agent.act(*acting, self._masks.of(acting.states)).astype(np.int32)

    def collect(self, new: Transitions, acting: Acting) -> NDArray[np.int32]:
        """Store N transitions, then act."""
        self._replay.add(new)
        return self.act(acting)

    def update(self, new: Transitions, acting: Acting) -> Updated:
        """Store N transitions, make an update on a minibatch, then act."""
        config, replay = self._config, self._replay
        replay.add(new)
        greedy = self._greedy if config.target.cuts else None
        batch = replay.sample(config.replay.batch_size, self._rng, self.updates / config.schedule_length, greedy)
        if self._outcomes is not None:
            batch = expect(batch, self._outcomes, self._environment.actions)
        result = self._agent.update(batch, self._masks.of(batch.next_states))
        if isinstance(replay, PrioritizedReplayBuffer):
            replay.update_priorities(result.td_errors)
        return Updated(self.act(acting), result.loss, result.td_error)

    def _greedy(self, states: NDArray[np.int32], actions: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return whether `actions` `[B, n]` are greedy in `states` `[B, n]`, among the allowed ones."""
        return self._agent.greedy(states, actions, self._masks.of(states))

    def compile(self) -> float:
        """Compile the functions of the agent; return the seconds taken."""
        return self._agent.compile(self._outcomes)

    def pairs(self) -> NDArray[np.int64]:
        """Return the pair indices s·A + a of all `n` entries of the replay buffer, int64 `[n]`."""
        return self._replay.pairs(self._environment.actions)

    def cut(self, copies: list[int]) -> None:
        """Mark the newest entry of each of these environments as truncated."""
        self._replay.cut(copies)

    def state_dict(self) -> TrainingState:
        """Return the state of agent and replay buffer."""
        sampling = TrainingState({}, {"sampling": generator_state(self._rng)})
        return merge_states(self._agent.state_dict(), self._replay.state_dict(), sampling)

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state.

        Raises:
            StateMismatchError: it belongs to another training.
        """
        self._agent.load_state_dict(saved)
        self._replay.load_state_dict(saved, self._environment.states, self._environment.actions)
        set_generator(self._rng, fact(saved, "sampling", dict))
