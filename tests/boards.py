"""Environments whose spaces have far more observations than ever occur."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))


class Picture(gymnasium.Env):
    """Walk from the first cell of an n × n grid to the last; the grid is a picture with a bright pixel."""

    action_space = Discrete(4)

    def __init__(self, n=3):
        self.n = n
        self.observation_space = Box(0, 255, (n, n), np.uint8)

    def picture(self):
        pixels = np.zeros((self.n, self.n), np.uint8)
        pixels[self.cell] = 255
        return pixels

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = (0, 0)
        return self.picture(), {}

    def step(self, action):
        self.cell = tuple(
            min(max(at + by, 0), self.n - 1) for at, by in zip(self.cell, MOVES[int(action)], strict=True)
        )
        done = self.cell == (self.n - 1, self.n - 1)
        return self.picture(), 1.0 if done else -0.1, done, False, {}


class Wander(Picture):
    """The same, where the wind drops a step with a chance that no table tells; cut after 20 steps."""

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return super().reset(seed=seed)

    def step(self, action):
        self.time += 1
        calm = self.np_random.random() ** 2 < 0.8
        pixels, reward, done, _, info = super().step(action) if calm else (self.picture(), -0.1, False, False, {})
        return pixels, reward, done, self.time >= 20, info
