"""One update of any Keras model by any Keras optimizer, as a pure function of its variables.

It is the `CompiledUpdate` of networks of others, and of built-in ones whose optimizer is not among `optimizers`.

The model is called by `stateless_call` (Keras, "Functional and stateless"), so that the program carries its variables
like those of the built-in networks. It may do something else in training than in prediction, as dropout does: the
predictions that are copied are those of inference, those that are fitted of training, and so the errors of the other
actions need not be 0. The losses of its layers, such as those of regularizers, are added, as `fit` does. What a model
keeps besides its weights, such as the averages of `BatchNormalization`, is updated by the forward pass in training; the
target network's follows like its weights.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import keras
import numpy as np
from keras import ops

from deeptaxi.backend import xla
from deeptaxi.config import TrainConfig
from deeptaxi.learning.compiled.hyperparameters import Hyperparameters
from deeptaxi.learning.compiled.optimizers import build_dense_optimizer
from deeptaxi.learning.compiled.update import AgentState, CompiledUpdate, Dense, updates_rows
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.learning.resolve import has_pure_optimizer
from deeptaxi.mdp.describe import encoded_factors
from deeptaxi.mdp.environment import Environment
from deeptaxi.network import functional
from deeptaxi.network.own import may_differ_in_training
from deeptaxi.network.structure import structure_of
from deeptaxi.recipe import bootstrap, loss_of, overwrite


class ModelUpdate(CompiledUpdate):
    """One update of a Keras model, as a pure function of arrays.

    Args:
        config: optimizer and target.
        model: from states `[B]` to Q values `[B, A]`, built.
        states: S.
    """

    def __init__(self, config: TrainConfig, model: keras.Model, states: int) -> None:
        self.config = config
        self.model = model
        self.states = states
        self.loss_parts = 1
        self.factors, self.sparse, self.shapes = None, False, []
        self.dense_optimizer = build_dense_optimizer(config.optimizer, model.trainable_variables)
        self.two_modes = may_differ_in_training(model)

    def begin(self, network: keras.Model) -> AgentState:
        """Return the state before the first update of a network."""
        weights = tuple(np.array(ops.convert_to_numpy(v)) for v in network.trainable_variables)
        others = tuple(np.array(ops.convert_to_numpy(v)) for v in network.non_trainable_variables)
        slots = self.dense_optimizer.initial(weights)
        copies = tuple(array.copy() for array in others)
        return AgentState(None, Dense(weights, tuple(w.copy() for w in weights), slots), None, (others, copies))

    def assign(self, weights: Any, network: keras.Model) -> None:
        """Assign the online network's variables, as `online` returns them, to `network`."""
        for variables, arrays in zip(
            (network.trainable_variables, network.non_trainable_variables), weights, strict=True
        ):
            for variable, array in zip(variables, arrays, strict=True):
                variable.assign(np.asarray(array))

    def online(self, agent: AgentState) -> Any:
        """Return the online network's variables, those that are trained and the others."""
        return agent.dense.online, agent.others[0]

    def q_online(self, agent: AgentState, states: Any) -> Any:
        """Return the online network's Q values `[B, A]` of `states` `[B]`, in inference."""
        return self.call(agent.dense.online, agent.others[0], states)[0]

    def q_target(self, agent: AgentState, states: Any, now: Hyperparameters, updates: Any) -> Any:
        """Return the target network's Q values `[B, A]` of `states` `[B]`, in inference."""
        del now, updates  # the target network is always up to date
        return self.call(agent.dense.target, agent.others[1], states)[0]

    def call(self, weights: Any, others: Any, states: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Call the model with these variables; return its Q values, what it keeps afterwards, and its own losses."""
        arguments = (list(weights), list(others), states)
        q, kept, losses = self.model.stateless_call(*arguments, training=training, return_losses=True)
        return q, tuple(kept), losses

    def update(
        self, agent: AgentState, batch: Batch, allowed: Any, now: Hyperparameters, updates: Any
    ) -> tuple[AgentState, Any, Any]:
        """Run update number ``updates + 1``; see `CompiledUpdate.update`."""
        values = self.values(agent, batch.next_states, allowed, now, updates)
        td_targets = bootstrap(batch.rewards, batch.discounts, values)
        known = self.q_online(agent, batch.states) if self.two_modes else None

        def loss_of_weights(*weights: Any) -> tuple[Any, Any]:
            q, kept, losses = self.call(weights, agent.others[0], batch.states, training=True)
            before = ops.stop_gradient(q) if known is None else known
            targets = overwrite(before, batch.actions, td_targets)
            loss = loss_of(self.config.optimizer.loss, q, targets, batch.weights)
            return sum(losses, loss), (kept, ops.sum(targets - before, axis=-1))

        loss, back, (online, errors) = xla.pullback_of_first(loss_of_weights, agent.dense.online)
        gradients = self.clip_gradients(back(ops.ones_like(loss)), now)
        dense = self.step_dense(agent.dense, gradients, now, updates)
        following = self.following(now)
        moves = following.moves_at(updates + 1)
        target = tuple(
            following.after(moves, old, new) if "float" in str(old.dtype) else old
            for old, new in zip(agent.others[1], online, strict=True)
        )
        return AgentState(None, dense, None, (online, target)), ops.reshape(loss, (1,)), errors


def build_update(online: keras.Model, config: TrainConfig, environment: Environment) -> tuple[CompiledUpdate, Hashable]:
    """Return the update of a network, and what else than its settings it depends on; None if that is unknown."""
    if structure_of(online) is None:  # of the user's own: its configuration need not say all that it computes
        return ModelUpdate(config, online, environment.states), None
    factors = encoded_factors(environment, config.network)
    if not has_pure_optimizer(config.optimizer):
        return ModelUpdate(config, online, environment.states), ("model", factors, environment.actions)
    kernel = functional.weights_of(online, config.network).kernel
    sparse = updates_rows(config, kernel, factors, environment.states)
    return CompiledUpdate(config, environment.actions, factors, sparse, environment.states), (factors, sparse)
