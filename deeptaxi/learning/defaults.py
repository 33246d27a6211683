"""Settings for a table that nobody tuned anything for, from the table's own numbers. Pure, and imports no Keras.

`docs/presets.md` says what each of them is for. With γ the table's discount, at most `LONGEST`:

    value range     the largest |r|, times the rewards that an episode may gather: one where all rewards come with the
                    end, else 1/(1 − γ) or the time limit
    reward_scale    the power of two (scaling back is exact) that brings the value range to about `RANGE`
    initial_value   where nothing ends, the mean reward forever: Q values then need not climb there
    updates, copies, minibatch   by the number of pairs S·A, and by whether chance plays a part
    evaluation      as often as it costs no more than the updates between two
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deeptaxi.mdp.table import TransitionTable

RANGE = 16.0
BATCH = 512
LONGEST = 0.99  # learning at more takes hundreds of thousands of updates; see `docs/presets.md`
PLAIN_DISCOUNT = 0.99


def power_of_two(value: float) -> float:
    """Return the power of two that is nearest to `value` > 0 in proportion."""
    return 2.0 ** round(math.log2(value))


def between(low: float, value: float, high: float) -> float:
    """Return `value`, or the limit that it passes."""
    return min(max(value, low), high)


def learning_discount(table: TransitionTable) -> float:
    """Return the discount to learn with."""
    return min(PLAIN_DISCOUNT if table.discount is None else table.discount, LONGEST)


def ends_only(table: TransitionTable) -> bool:
    """Whether rewards come with the end of an episode alone, so that it gathers but one."""
    return not (table.reward * table.continuation).any()


def is_random(table: TransitionTable) -> bool:
    """Whether some pair has several outcomes."""
    return bool((table.probability > 0).sum(axis=-1).max() > 1)


def never_ends(table: TransitionTable) -> bool:
    """Whether nothing terminates."""
    return bool((table.continuation == table.probability).all())


def value_range(table: TransitionTable) -> float:
    """Return a bound on |V|: what the largest reward comes to in an episode."""
    largest = float(np.abs(table.reward * (table.probability > 0)).max())
    if ends_only(table):
        return largest
    return largest * min(1 / (1 - learning_discount(table)), table.time_limit or math.inf)


def mean_value(table: TransitionTable) -> float:
    """Return the value of the mean reward forever; 0 where episodes end, for there it is no guide."""
    if not never_ends(table):
        return 0.0
    allowed = np.ones(table.expected_reward.shape, bool) if table.action_mask is None else table.action_mask
    return float(table.expected_reward[allowed].mean()) / (1 - learning_discount(table))


def eval_every(table: TransitionTable, updates: int) -> int:
    """Return the updates between two evaluations: as long as an evaluation takes, at 25 updates a millisecond."""
    states, outcomes = table.states, table.probability.shape[2]
    steps = table.time_limit or (5_000 if never_ends(table) else 1_000)
    walk = steps * (5 + states * outcomes * 0.01) / 1_000 if states > 256 else 1.0  # milliseconds
    return int(between(250, 250 * round((10 + walk + (states / 200) ** 3) * 25 / 250), updates // 8))


def table_rate(table: TransitionTable) -> float:
    """Return the learning rate of a Q table, whose weights move only when their pair is in the minibatch."""
    return between(0.02, 0.02 * table.states * table.actions / BATCH, 0.2)


def table_settings(table: TransitionTable, kind: str, compiled: bool) -> dict[str, Any]:
    """Return the settings of a training on `table`, nested as in a configuration.

    Args:
        table: the problem.
        kind: of network, ``"q-table"`` or another.
        compiled: whether the compiled loop runs; elsewhere an update takes a millisecond, and states cannot be set.
    """
    bound = value_range(table)
    settings: dict[str, Any] = {
        "discount": learning_discount(table),
        "target": {
            "reward_scale": power_of_two(bound / RANGE) if bound else 1.0,
            "polyak": 0.05 if kind == "q-table" else 0.02,
        },
        "network": {"initial_value": mean_value(table), **({} if kind == "q-table" else {"hidden": [64]})},
    }
    if not compiled:
        return settings
    updates = 40_000 if is_random(table) else 20_000
    return {
        **settings,
        "updates": updates,
        "exploration": {"exploring_starts": 0.2},
        "interaction": {"environments": int(between(32, power_of_two(2_048 / table.actions), 256))},
        "replay": {"batch_size": BATCH, "capacity": 500_000},
        "optimizer": {
            "learning_rate": table_rate(table) if kind == "q-table" else 0.003,
            "schedule": "exponential",
            "final_fraction": 0.001,
        },
        "evaluation": {"every": eval_every(table, updates)},
    }
