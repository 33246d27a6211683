"""Settings for a table that nobody tuned anything for, from the table's own numbers. Pure, and imports no Keras.

What is asked of a table, and what follows (`docs/presets.md` says why):

    rewards      the largest |r|                  reward_scale: a power of two, so that scaling back is exact
    baseline     the mean of all expected rewards initial_value: where Q values of endless episodes lie
    size         S·A                              copies, minibatch, and the number of updates
    chance       whether outcomes are random      more data, a learning rate that falls further
    way          how far a value has to travel    polyak: how fast the target network follows
    compiled     whether the compiled loop runs   exploring starts
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deeptaxi.mdp.table import TransitionTable

SCALED = 4.0  # what the largest reward is scaled to, within a factor of √2
PLAIN_DISCOUNT = 0.99


def power_of_two(value: float) -> float:
    """Return the power of two that is nearest to `value` > 0 in proportion."""
    return 2.0 ** round(math.log2(value))


def between(low: float, value: float, high: float) -> float:
    """Return `value`, or the limit that it passes."""
    return min(max(value, low), high)


def reward_scale(table: TransitionTable) -> float:
    """Return what to divide rewards by; 1 where there are none."""
    largest = float(np.abs(table.reward[table.probability > 0]).max(initial=0.0))
    return power_of_two(largest / SCALED) if largest > 0 else 1.0


def baseline(table: TransitionTable, discount: float) -> float:
    """Return the value of the mean reward for ever; 0 where episodes end, for there it is no guide."""
    if (table.terminated & (table.probability > 0)).any():
        return 0.0
    allowed = np.ones(table.expected_reward.shape, bool) if table.action_mask is None else table.action_mask
    return float(table.expected_reward[allowed].mean()) / (1 - discount)


def is_random(table: TransitionTable) -> bool:
    """Whether some pair has several outcomes."""
    return bool((table.probability > 0).sum(axis=-1).max() > 1)


def table_settings(table: TransitionTable, kind: str, compiled: bool) -> dict[str, Any]:
    """Return the settings of a training on `table`, nested as in a configuration.

    Args:
        table: the problem.
        kind: of network, ``"q-table"`` or another.
        compiled: whether the compiled loop runs; elsewhere an update takes a millisecond, and states cannot be set.
    """
    discount = table.discount if table.discount is not None and table.discount < 1 else PLAIN_DISCOUNT
    settings: dict[str, Any] = {
        "target": {"reward_scale": reward_scale(table), "polyak": 0.05},
        "network": {"initial_value": baseline(table, discount)},
    }
    if not compiled:
        return settings
    return {
        **settings,
        "updates": 40_000 if is_random(table) else 20_000,
        "exploration": {"exploring_starts": 0.1},
        "interaction": {"environments": 128},
        "replay": {"batch_size": 256, "capacity": 500_000},
        "optimizer": {"final_fraction": 0.001},
        "judgement": {"every": 500},
    }
