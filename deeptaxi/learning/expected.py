"""Expected updates: the backup over all outcomes of a (state, action) pair instead of the one that was sampled.

Where the transition table is known, chance need not be sampled (Sutton & Barto 2018, "Reinforcement Learning", §8.5,
"Expected vs. Sample Updates"). With the outcomes k of (s, a),

    td_target = Σ_k p_k · r_k + Σ_k γ · p_k · (1 − terminated_k) · max_a' q_target(s'_k)[a'],

which is the mean of the sampled td_target. All else stays the recipe: which pairs are updated is sampled from replay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import TrainConfig
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.mdp.table import TransitionTable


class ExpectedOutcomes(NamedTuple):
    """What an expected update looks up, for each of the S·A pairs.

    With K the largest number of outcomes of a pair: unused ones have a bootstrap factor of 0.
    """

    rewards: NDArray[np.float32]  # [S·A], Σ_k p_k · r_k
    next_states: NDArray[np.int32]  # [S·A, K]
    discounts: NDArray[np.float32]  # [S·A, K], bootstrap factors γ · p_k · (1 − terminated_k)


def expected_outcomes(table: TransitionTable, discount: float, reward_scale: float) -> ExpectedOutcomes:
    """Return the expected outcomes of a table.

    Args:
        table: the transition table.
        discount: γ.
        reward_scale: divisor of the rewards.
    """
    outcomes = table.probability.shape[2]
    return ExpectedOutcomes(
        (table.expected_reward.reshape(-1) / reward_scale).astype(np.float32),
        table.next_state.reshape(-1, outcomes).astype(np.int32),
        (discount * table.continuation.reshape(-1, outcomes)).astype(np.float32),
    )


def outcomes_of(config: TrainConfig, table: TransitionTable | None) -> ExpectedOutcomes | None:
    """Return what the updates of a training look up; None if they are not expected updates of several outcomes."""
    if config.target.backup != "expected" or table is None or table.probability.shape[2] == 1:
        return None  # a single outcome is its own expectation
    return expected_outcomes(table, config.discount, config.target.reward_scale)


def expect(batch: Batch, outcomes: ExpectedOutcomes, actions: int) -> Batch:
    """Replace the sampled outcome of each transition by all outcomes of its pair.

    Args:
        batch: B transitions of one step each.
        outcomes: of the environment.
        actions: A.

    Returns:
        the batch with next states and bootstrap factors `[B, K]`.
    """
    pairs = batch.states * actions + batch.actions
    return batch._replace(
        rewards=outcomes.rewards[pairs],
        next_states=outcomes.next_states[pairs],
        discounts=outcomes.discounts[pairs],
    )
