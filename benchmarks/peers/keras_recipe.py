"""The recipe as one writes it by hand in Keras, on one-hot vectors and a vector of Gymnasium environments.

``extra["style"]`` is ``"fit"``, the recipe to the letter (`predict`, overwrite, `fit`), or ``"train_on_batch"``, what
one finds when that is too slow: `model(x)` instead of `predict`, `train_on_batch` instead of `fit`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers import common
from deeptaxi.backend import keras_backend


def build(states: int, actions: int, hidden: int, learning_rate: float) -> Any:
    """Return a compiled dueling network on one-hot vectors."""
    import keras

    x = inputs = keras.Input((states,))
    x = keras.layers.Dense(hidden, "relu")(x)
    value, advantage = keras.layers.Dense(1)(x), keras.layers.Dense(actions)(x)
    q = value + advantage - keras.ops.mean(advantage, axis=1, keepdims=True)
    model = keras.Model(inputs, q)
    model.compile(keras.optimizers.Adam(learning_rate), "mse")
    return model


class Recipe:
    """The peer."""

    def __init__(self, spec: common.Spec) -> None:
        keras_backend.start()
        self.spec, self._rng = spec, np.random.default_rng(spec.seed)
        world = common.taxi()
        self._by_hand = spec.extra.get("style", "fit") == "train_on_batch"
        self.online, self.target = (build(world.states, world.actions, spec.hidden, spec.learning_rate) for _ in "ot")
        self.target.set_weights(self.online.get_weights())
        self._eye = np.eye(world.states, dtype=np.float32)
        self._memory = np.zeros((spec.capacity // spec.environments * spec.environments, 5), np.float32)
        self._stored = 0
        self._vector = world.make_vector(spec.environments)
        self._states = self._vector.reset(seed=spec.seed)[0].copy()
        self._done = 0
        while self._stored < spec.start:
            self._play(1.0)

    def advance(self, updates: int) -> None:
        """Play and learn."""
        for _ in range(updates):
            self._play(float(self.spec.epsilon(self._done)))
            self._learn()
            self._done += 1

    def q_values(self) -> Any:
        """Return the Q values of all states."""
        return self._predict(self.online, np.arange(len(self._eye)))

    def _predict(self, model: Any, states: Any) -> Any:
        x = self._eye[states]
        return model(x, training=False).numpy() if self._by_hand else model.predict(x, batch_size=len(x), verbose=0)

    def _play(self, epsilon: float) -> None:
        count = self.spec.environments
        actions = self._rng.integers(0, 6, count)
        greedy = self._rng.random(count) >= epsilon
        if greedy.any():
            actions = np.where(greedy, self._predict(self.online, self._states).argmax(1), actions)
        reached, reward, terminated, truncated, _ = self._vector.step(actions)
        place = self._stored % len(self._memory)
        step = np.stack([self._states, actions, reward, reached, terminated], axis=1)
        self._memory[place : place + count] = step
        self._stored += count
        over = terminated | truncated
        self._states = (self._vector.reset(over=over)[0] if over.any() else reached).copy()

    def _learn(self) -> None:
        spec = self.spec
        drawn = self._rng.integers(0, min(self._stored, len(self._memory)), spec.batch)
        states, actions, rewards, reached, terminated = self._memory[drawn].T
        states, actions, reached = (part.astype(np.int64) for part in (states, actions, reached))
        targets = self._predict(self.online, states)
        best = self._predict(self.target, reached).max(1)
        targets[np.arange(spec.batch), actions] = rewards + spec.discount * (1 - terminated) * best
        x = self._eye[states]
        self.online.optimizer.learning_rate = float(spec.rate(self._done))
        if self._by_hand:
            self.online.train_on_batch(x, targets)
        else:
            self.online.fit(x, targets, batch_size=spec.batch, epochs=1, shuffle=False, verbose=0)
        pairs = zip(self.target.get_weights(), self.online.get_weights(), strict=True)
        self.target.set_weights([old + spec.polyak * (new - old) for old, new in pairs])


def make(spec: common.Spec) -> tuple[Recipe, float]:
    """Open the peer."""
    return Recipe(spec), spec.environments


if __name__ == "__main__":
    common.main(make)
