"""Tabular Q-learning in plain Python, as in every textbook: one environment, one transition, one entry of Q.

An update is one environment step, so `batch` and `environments` are 1 by nature. The step size is `learning_rate` and
ε is `epsilon_end` throughout. The environment is Gymnasium's own.
"""

from __future__ import annotations

import random
from typing import Any

import gymnasium
import numpy as np

from benchmarks.peers import common


class Tabular:
    """The peer."""

    def __init__(self, spec: common.Spec) -> None:
        self.spec = spec
        self._random = random.Random(spec.seed)  # noqa: S311  # exploration, not secrets
        self._env = gymnasium.make("Taxi-v4", disable_env_checker=True)
        world = common.taxi()
        self.table = [[0.0] * world.actions for _ in range(world.states)]
        self._state = int(self._env.reset(seed=spec.seed)[0])

    def advance(self, updates: int) -> None:
        """Play and learn."""
        q, env, draw, state = self.table, self._env, self._random.random, self._state
        alpha, gamma, epsilon = self.spec.learning_rate, self.spec.discount, self.spec.epsilon_end
        for _ in range(updates):
            row = q[state]
            action = int(draw() * 6) if draw() < epsilon else row.index(max(row))
            reached, reward, terminated, truncated, _ = env.step(action)
            goal = reward if terminated else reward + gamma * max(q[reached])
            row[action] += alpha * (goal - row[action])
            state = int(env.reset()[0]) if terminated or truncated else reached
        self._state = state

    def q_values(self) -> Any:
        """Return the Q values of all states."""
        return np.array(self.table)


def make(spec: common.Spec) -> tuple[Tabular, float]:
    """Open the peer."""
    return Tabular(spec), 1


if __name__ == "__main__":
    common.main(make)
