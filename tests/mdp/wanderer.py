"""An environment for worker processes, in a module of its own, which they import."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

NAME = "tests.mdp.wanderer:Wanderer"
SIZE, LIMIT = 12, 9
HEAVY = ("keras", "tensorflow", "jax", "torch", "matplotlib", "pytest")


class Wanderer(gymnasium.Env):
    """Walks on a ring by chance until it comes to 0, or for nine steps; actions are 3 and 4, and masked by the state.

    Args:
        fault: what happens at step `at`.
        at: the step, counted over all episodes of the copy.
        boards: whether to observe one of 3^40 boards instead of a number.
    """

    def __init__(self, fault="", at=20, boards=False):
        self.observation_space = MultiDiscrete([3] * 40) if boards else Discrete(SIZE)
        self.action_space = Discrete(2, start=3)
        self.fault, self.at, self.boards, self.steps = fault, at, boards, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.time = int(self.np_random.integers(1, SIZE)), 0
        return self.observed(), self.info()

    def step(self, action):
        self.steps, self.time = self.steps + 1, self.time + 1
        if self.steps == self.at and not Path("mended").exists():
            self.fail()
        self.state = (self.state + (1 if action == 4 else -1) + int(self.np_random.integers(2))) % SIZE
        return self.observed(), self.state / 8, self.state == 0, self.time >= LIMIT, self.info()

    def info(self):
        return {"action_mask": np.array([self.state % 3 != 1, True])}

    def observed(self):
        if not self.boards:
            return self.state
        return np.array([(self.state >> part % 4) % 2 for part in range(40)])

    def fail(self):
        if self.fault == "exit":
            os._exit(3)
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "raise":
            raise KeyError("no such place")
        if self.fault == "chance":
            random.random()
        if self.fault == "hang":
            time.sleep(60)


def list_imports(parent, render_mode=None):
    """Make no environment, but tell what this process has imported, if it is not the parent."""
    assert os.getpid() != parent
    raise RuntimeError(f"imported: {[name for name in HEAVY if name in sys.modules]}")
