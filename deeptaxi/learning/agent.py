"""Agents: what loops over environments train.

`Agent` is the protocol. `compiled.compiled_agent` implements it in one program. `FitAgent` is **the literal
algorithm**: predict, overwrite, fit, one minibatch at a time, using only Keras' public methods, and then the target
network update

    w_target ← w_target + τ · (w_online − w_target)        every `period` updates; τ = 1 is a hard copy.

It is slow on purpose, runs on every Keras backend, and is the oracle that every other update is tested against;
`recipe_agent` gives it a replay buffer.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.config import TrainConfig
from deeptaxi.learning.expected import ExpectedOutcomes, expect
from deeptaxi.learning.keras_optimizer import build_optimizer
from deeptaxi.learning.replay_buffer import Batch, Transitions
from deeptaxi.learning.schedules import initial_learning_rate
from deeptaxi.learning.state import TrainingState, array, count
from deeptaxi.recipe import epsilon_greedy, is_greedy, overwrite, td_targets


class Acting(NamedTuple):
    """What an agent needs to act in N environments."""

    states: NDArray[np.int32]  # [N]
    epsilon: float
    draws: NDArray[np.float32]  # [N] and [N, A], as for `epsilon_greedy`
    noise: NDArray[np.float32]


class Updated(NamedTuple):
    """What a step of the loop with an update returns."""

    actions: NDArray[np.int32]  # [N], chosen after the update
    loss: float
    td_error: float  # mean |td_error| over the minibatch


class Agent(Protocol):
    """What learns from environments: it stores transitions, acts, and updates itself from what it has stored."""

    @property
    def online(self) -> keras.Model:
        """The online network, states `[B]` to Q values `[B, A]`."""

    @property
    def updates(self) -> int:
        """The number of updates made so far."""

    @property
    def added(self) -> int:
        """The number of transitions stored so far, including overwritten ones."""

    def act(self, acting: Acting) -> NDArray[np.int32]:
        """Return ε-greedy actions `[N]`."""

    def collect(self, new: Transitions, acting: Acting) -> NDArray[np.int32]:
        """Store N transitions, then act."""

    def update(self, new: Transitions, acting: Acting) -> Updated:
        """Store N transitions, make an update on a minibatch, then act."""

    def compile(self) -> float:
        """Compile everything without changing the state; return the seconds taken."""

    def pairs(self) -> NDArray[np.int64]:
        """Return the pair indices s·A + a of all `n` entries of the replay buffer, int64 `[n]`."""

    def cut(self, copies: list[int]) -> None:
        """Mark the newest entry of each of these environments as truncated."""

    def state_dict(self) -> TrainingState:
        """Return the state between two updates."""

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state."""


class UpdateResult(NamedTuple):
    """The result of one update."""

    loss: float
    td_error: float  # mean |td_error| over the minibatch
    td_errors: NDArray[np.float32] = np.zeros(0, np.float32)  # |td_error| per sample, `[B]`


class FitAgent:
    """Two networks and an optimizer, whose update is `predict`, overwrite, `fit`.

    Args:
        online: the network that acts and is trained; states `[B]` to Q values `[B, A]`.
        target: a network of the same shape; its weights are overwritten with those of `online`.
        config: loss, optimizer, choice of the next action (double DQN) and target updates.
    """

    def __init__(self, online: keras.Model, target: keras.Model, config: TrainConfig) -> None:
        self.online = online
        self.target = target
        self.config = config
        self.actions = int(online.outputs[0].shape[-1])
        self.updates = 0
        rate = initial_learning_rate(config, self.actions)
        self.optimizer = build_optimizer(config.optimizer, rate, config.schedule_length)
        self.optimizer.build(online.trainable_variables)
        loss = keras.losses.Huber() if config.optimizer.loss == "huber" else keras.losses.MeanSquaredError()
        self.online.compile(optimizer=self.optimizer, loss=loss)
        self.copy_weights()

    @property
    def variables(self) -> list[Any]:
        """All variables that an update may read or write."""
        return [*self.online.variables, *self.target.variables, *self.optimizer.variables]

    @property
    def choosing(self) -> keras.Model:
        """The network that chooses the action that a bootstrap takes."""
        return self.online if self.config.target.double else self.target

    def act(
        self,
        states: NDArray[np.int32],
        epsilon: float,
        draws: NDArray[np.float32],
        noise: NDArray[np.float32],
        allowed: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Return ε-greedy actions `[N]` of the online network; the arguments are those of `epsilon_greedy`."""
        chosen = epsilon_greedy(predict(self.online, states), epsilon, draws, noise, allowed)
        return np.asarray(ops.convert_to_numpy(chosen), np.int64)

    def greedy(
        self, states: NDArray[np.int32], actions: NDArray[np.int32], allowed: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return whether `actions` are those that a bootstrap from `states` would choose, bool `[B, n]`.

        Args:
            states: `[B, n]`.
            actions: `[B, n]`.
            allowed: bool `[B, n, A]`.
        """
        found = is_greedy(predict(self.choosing, states), actions, allowed)
        return np.asarray(ops.convert_to_numpy(found), np.bool_)

    def update(self, batch: Batch, next_allowed: NDArray[np.bool_]) -> UpdateResult:
        """Take one optimizer step: copy the predictions, overwrite the entries of the actions taken, fit.

        Args:
            batch: B samples.
            next_allowed: the actions allowed in the next states, bool `[B, A]`.
        """
        q_online = predict(self.online, batch.states)
        q_target = predict(self.target, batch.next_states)
        choosing = predict(self.online, batch.next_states) if self.config.target.double else None

        td_target = td_targets(batch.rewards, batch.discounts, q_target, next_allowed, choosing)
        targets = ops.convert_to_numpy(overwrite(q_online, batch.actions, td_target))

        loss = self.fit(batch, targets)
        self.updates += 1
        self.move_target()
        with np.errstate(invalid="ignore"):  # divergence is detected elsewhere
            td_errors = np.abs(targets - q_online).sum(axis=1)
        return UpdateResult(loss, float(td_errors.mean()), td_errors)

    def fit(self, batch: Batch, targets: NDArray[np.float32]) -> float:
        """Fit the online network to `targets` `[B, A]` in one step; return the loss."""
        size = len(batch.states)  # one minibatch, one step: the default batch size of 32 would take several
        weights = batch.weights if self.config.replay.prioritized else None
        history = self.online.fit(
            batch.states, targets, sample_weight=weights, batch_size=size, epochs=1, shuffle=False, verbose=0
        )
        return float(history.history["loss"][0])

    def move_target(self) -> None:
        """Update the target network every `period` updates."""
        share = self.config.target.polyak
        if self.updates % self.config.target.period == 0:
            pairs = zip(self.target.get_weights(), self.online.get_weights(), strict=True)
            self.target.set_weights([new if share == 1 else old + share * (new - old) for old, new in pairs])

    def copy_weights(self) -> None:
        """Copy the online network's weights to the target network."""
        for old, new in zip(self.target.variables, self.online.variables, strict=True):
            old.assign(ops.copy(new))  # `fit` donates the online arrays: a shared JAX array would be deleted

    def state_dict(self) -> TrainingState:
        """Return all variables, in the order of `variables`, and the number of updates."""
        arrays = {f"agent.{i}": np.array(ops.convert_to_numpy(item)) for i, item in enumerate(self.variables)}
        return TrainingState(arrays, {"updates": self.updates})

    def load_state_dict(self, saved: TrainingState) -> None:
        """Restore networks, optimizer and counters.

        Raises:
            StateMismatchError: they belong to other networks or another optimizer.
        """
        for i, item in enumerate(self.variables):
            kind = keras.backend.standardize_dtype(item.dtype)
            item.assign(array(saved, f"agent.{i}", tuple(item.shape), kind))
        self.updates = count(saved, "updates", self.config.updates)

    def compile(self, outcomes: ExpectedOutcomes | None = None) -> float:
        """Let Keras compile everything by running it once, then undo the changes; return the seconds taken."""
        start = time.perf_counter()
        before = [ops.convert_to_numpy(variable).copy() for variable in self.variables]
        updates = self.updates
        self.updates = self.config.target.period - 1  # so that the target update is compiled as well
        whole, real, matrix = zeros(self.config.interaction.environments, self.actions)
        self.act(whole, 1.0, real, matrix, matrix == 0)
        whole, real, matrix = zeros(self.config.replay.batch_size, self.actions)
        batch, allowed = Batch(whole, whole, real, whole, real, real), matrix == 0
        if self.config.target.cuts:
            later = np.zeros((len(whole), self.config.target.n_step - 1), np.int32)
            self.greedy(later, later, np.ones((*later.shape, self.actions), np.bool_))
        if outcomes is not None:
            batch = expect(batch, outcomes, self.actions)
            allowed = np.ones((*batch.next_states.shape, self.actions), np.bool_)
        self.update(batch, allowed)
        for variable, value in zip(self.variables, before, strict=True):
            variable.assign(value)
        self.updates = updates
        return time.perf_counter() - start


def zeros(rows: int, actions: int) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Return zeros of the types an agent takes: int32 `[rows]`, float32 `[rows]` and `[rows, actions]`."""
    return np.zeros(rows, np.int32), np.zeros(rows, np.float32), np.zeros((rows, actions), np.float32)


def predict(network: keras.Model, states: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the Q values `[B, A]` of `states` `[B]`, or `[B, K, A]` of `[B, K]`."""
    flat = np.asarray(network.predict(states.reshape(-1), batch_size=states.size, verbose=0))
    return flat.reshape(*states.shape, -1)
