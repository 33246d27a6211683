"""The sampled verdict: episodes played by the greedy policy, their mean return and its uncertainty.

Each copy of the environment plays a fixed share of the episodes. Counting instead the first N episodes to end over all
copies would favour short ones. The interval is the percentile bootstrap (Efron & Tibshirani, An Introduction to the
Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.foreign import blaming, closing
from deeptaxi.mdp.table import Bools, Floats, Ints

COPIES = 64
RESAMPLES = 2_000
BLOCK = 4_000_000  # numbers drawn at a time


@dataclass(frozen=True)
class Episodes:
    """What was seen in `count` episodes."""

    count: int
    mean_return: float
    ci95: tuple[float, float]
    mean_length: float
    terminated_fraction: float
    standard_error: float

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON says."""
        values = dataclasses.asdict(self)
        del values["standard_error"]
        return {**values, "ci95": list(self.ci95)}


def play(environment: Environment, policy: Ints, count: int, seed: int) -> Episodes:
    """Play `count` episodes with the actions `policy` `[S]`.

    An episode without a time limit is cut at the horizon, so that this always ends.
    """
    sequence, resampling = np.random.SeedSequence(seed).spawn(2)
    copies = min(count, COPIES)
    share = np.full(copies, count // copies)
    share[: count % copies] += 1
    ended = run_copies(environment, policy, share, sequence.generate_state(copies).tolist())
    returns, lengths, terminated = (np.array(column) for column in zip(*ended, strict=True))
    error = float(returns.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
    interval = bootstrap(returns, np.random.default_rng(resampling))
    return Episodes(count, float(returns.mean()), interval, float(lengths.mean()), float(terminated.mean()), error)


def run_copies(
    environment: Environment, policy: Ints, share: Ints, seeds: list[int | None]
) -> list[tuple[float, int, bool]]:
    """Play ``share[i]`` episodes in copy i; return (return, length, terminated) of each."""
    ended: list[tuple[float, int, bool]] = []
    left = share.copy()
    total, length = np.zeros(len(share)), np.zeros(len(share), np.int64)
    with blaming(environment.config.id), closing(environment.make_vector(len(share))) as vector:
        state = environment.codec.encode(vector.reset(seed=seeds)[0])
        while left.any():
            observation, reward, terminated, truncated, _ = vector.step(policy[state] + environment.first_action)
            total += reward
            length += 1
            over: Bools = terminated | truncated | (length >= environment.horizon)
            ended += [(total[i], length[i], terminated[i]) for i in np.flatnonzero(over & (left > 0))]
            left[over & (left > 0)] -= 1
            total[over], length[over] = 0.0, 0
            if over.any():
                observation, _ = vector.reset(options={"reset_mask": over})
            state = environment.codec.encode(observation)
    return ended


def bootstrap(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of `values`."""
    means: list[Floats] = []
    block = max(1, BLOCK // len(values))
    for first in range(0, RESAMPLES, block):
        draws = rng.integers(0, len(values), (min(block, RESAMPLES - first), len(values)))
        means.append(values[draws].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
