"""Stable-Baselines3's DQN: `collect_rollouts` and `train` in turn, which is the body of its `learn`.

It has no dueling head. Its Q network is a linear layer on its own one-hot vectors of the state, `hidden` ReLUs and a
linear layer; with ``"q-table"`` there is no hidden layer: one linear layer with bias, the smallest network it has.
Its own rhythm is kept: four environment steps an update, `extra["copies"]` environments stepped at once. The target
network is copied every `extra["target_period"]` environment steps. One thread, which is the fastest on one core.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.peers import common

STEPS = 4  # environment steps an update


class StableBaselines:
    """The peer."""

    def __init__(self, spec: common.Spec) -> None:
        torch.set_num_threads(1)
        copies = int(spec.extra.get("copies", 1))
        self.model = build(spec, copies)
        self._every = max(1, STEPS // copies)
        total, self._callback = self.model._setup_learn(STEPS * spec.updates + spec.start, None)
        del total
        self._started = False

    def advance(self, updates: int) -> None:
        """Play and train as `learn` does, without its evaluation and logging."""
        model = self.model
        if not self._started:
            self._started = True
            while model.num_timesteps <= model.learning_starts:
                self._collect()
        for _ in range(updates):
            self._collect()
            model.train(batch_size=model.batch_size, gradient_steps=1)

    def _collect(self) -> None:
        model = self.model
        model.collect_rollouts(
            model.env, self._callback, model.train_freq, model.replay_buffer, None, model.learning_starts, None
        )

    def q_values(self) -> Any:
        """Return the Q values of all states."""
        with torch.no_grad():
            return self.model.q_net(torch.arange(common.taxi().states)).numpy()


def build(spec: common.Spec, copies: int) -> DQN:
    """Return the model with its settings."""
    envs = DummyVecEnv([lambda: gymnasium.make("Taxi-v4")] * copies)
    model = DQN(
        "MlpPolicy",
        envs,
        learning_rate=lambda left: float(spec.rate((1 - left) * spec.updates)),
        buffer_size=spec.capacity,
        learning_starts=spec.start,
        batch_size=spec.batch,
        gamma=spec.discount,
        train_freq=max(1, STEPS // copies),
        gradient_steps=1,
        tau=spec.extra.get("tau", 1.0),
        target_update_interval=spec.extra.get("target_period", 1_000),
        exploration_fraction=spec.extra.get("exploration_fraction", 0.5),
        exploration_final_eps=spec.epsilon_end,
        max_grad_norm=spec.extra.get("max_grad_norm", 10),
        policy_kwargs={"net_arch": [spec.hidden] if spec.network == "dueling" else []},
        seed=spec.seed,
        device="cpu",
    )
    if spec.network == "q-table":
        np.testing.assert_equal(sum(p.numel() for p in model.q_net.parameters()), 500 * 6 + 6)
    return model


def make(spec: common.Spec) -> tuple[StableBaselines, float]:
    """Open the peer."""
    return StableBaselines(spec), STEPS


if __name__ == "__main__":
    common.main(make)
