"""The recipe to the letter: predict, overwrite, fit.

Slow on purpose. This is the rule as one writes it down, one minibatch at a time, with nothing but Keras' public
methods. It runs on every Keras backend, and the compiled learners are tested against it.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.learning.learner import Learner, UpdateResult
from deeptaxi.learning.replay import Batch
from deeptaxi.learning.targets import epsilon_greedy, overwrite, td_targets


def predict(network: keras.Model, states: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the Q values of `states` `[B]`, `[B, A]`."""
    return np.asarray(network.predict(states, batch_size=len(states), verbose=0))


class FitLearner(Learner):
    """A learner whose update is `predict`, overwrite, `fit`."""

    def prepare(self) -> None:
        """Leave compilation to Keras."""
        loss = keras.losses.Huber() if self.config.optimizer.loss == "huber" else keras.losses.MeanSquaredError()
        self.online.compile(optimizer=self.optimizer, loss=loss)
        self._act = lambda states, *rest: epsilon_greedy(predict(self.online, states), *rest)

    def update(self, batch: Batch, next_allowed: NDArray[np.bool_]) -> UpdateResult:
        """Make one optimizer step: copy the predictions, overwrite the entries of the taken actions, fit."""
        q_online = predict(self.online, batch.states)
        q_target = predict(self.target, batch.next_states)
        choosing = predict(self.online, batch.next_states) if self.config.target.double else None

        td_target = td_targets(batch.rewards, batch.discounts, q_target, next_allowed, choosing)
        targets = ops.convert_to_numpy(overwrite(q_online, batch.actions, td_target))

        loss = self.fit(batch, targets)
        self.updates += 1
        self.move_target()
        with np.errstate(invalid="ignore"):  # whether the network ran away is looked at elsewhere
            td_errors = np.abs(targets - q_online).sum(axis=1)
        return UpdateResult(loss, float(td_errors.mean()), td_errors)

    def fit(self, batch: Batch, targets: NDArray[np.float32]) -> float:
        """Fit the online network to `targets` `[B, A]` by one step; return the loss. All samples weigh the same."""
        # One minibatch, one step: the default batch size of 32 would make several.
        history = self.online.fit(
            batch.states, targets, batch_size=len(batch.states), epochs=1, shuffle=False, verbose=0
        )
        return float(history.history["loss"][0])

    def move_target(self) -> None:
        """Move the target network toward the online network, every `period` updates."""
        share = self.config.target.polyak
        if self.updates % self.config.target.period == 0:
            pairs = zip(self.target.get_weights(), self.online.get_weights(), strict=True)
            self.target.set_weights([new if share == 1 else old + share * (new - old) for old, new in pairs])
