"""The environment as data: a transition table laid out so that a compiled program can step through it.

An *outcome* (s, a, k) is one number, (s·A + a)·K + k, which indexes its next state, reward and termination. The replay
buffer stores only such numbers, 4 bytes per transition. Outcomes and start states are sampled by the alias method.

**The alias method** samples from a given distribution over n values in constant time, whatever n is. Walker, An
efficient method for generating discrete random variables with general distributions (1977); the table is built by
Vose's algorithm (1991). Draw a slot i uniformly from 0 … n−1 and u uniformly from [0, 1); the value is i if
u < share[i], else alias[i].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.backend import xla
from deeptaxi.learning.expected import ExpectedOutcomes
from deeptaxi.mdp.table import TransitionTable


def alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return (share, alias), each `[D, n]`, for D distributions over n values, `[D, n]`, that sum to 1.

    Values above the mean are processed in order, all D distributions at once: each gives its excess to the values below
    the mean, until it falls below the mean itself and is filled up by the next one above.
    """
    rows, count = weights.shape
    mass = weights * count
    share, alias = np.ones((rows, count)), np.tile(np.arange(count, dtype=np.int32), (rows, 1))
    order = np.argsort(mass > 1, axis=1, kind="stable")  # those below the mean first
    lights = (mass <= 1).sum(axis=1)
    light, heavy = np.zeros(rows, np.int64), lights.copy()
    row = np.flatnonzero(heavy < count)
    left = np.zeros(rows)
    left[row] = mass[row, order[row, heavy[row]]]
    while row.size:
        giver = order[row, heavy[row]]
        fill = (left[row] > 1) & (light[row] < lights[row])
        filled = np.where(fill, order[row, np.minimum(light[row], count - 1)], giver)
        after = order[row, np.minimum(heavy[row] + 1, count - 1)]
        share[row, filled] = np.where(fill, mass[row, filled], np.minimum(left[row], 1))
        alias[row, filled] = np.where(fill, giver, after)
        left[row] += mass[row, np.where(fill, filled, after)] - 1
        light[row] += fill
        heavy[row] += ~fill
        row = row[heavy[row] < count]
    return share.astype(np.float32), alias


def value_of(share: Any, alias: Any, slot: Any, uniform: Any, first: Any = 0) -> Any:
    """Return the values `[N]` for the given slots and uniform numbers; called while a program is traced.

    Args:
        share: float32, of one distribution or several, end to end.
        alias: int32, of the same shape.
        slot: int32 `[N]`, uniformly random.
        uniform: float32 in [0, 1), `[N]`.
        first: where the distribution to sample from begins, int32 `[N]`.
    """
    kept = uniform < xla.gather(share, first + slot)
    return ops.where(kept, slot, xla.gather(alias, first + slot))


class CompiledMDP(NamedTuple):
    """The arrays of an environment; ``None`` if there is nothing to look up."""

    next_state: Any  # int32 [S·A·K]
    reward: Any  # float32 [S·A·K]
    terminated: Any  # bool [S·A·K]
    share: Any  # float32 [S·A·K]; None if K = 1
    alias: Any  # int32 [S·A·K], values 0 … K−1; None if K = 1
    starts: Any  # int32 [n], the start states
    start_share: Any  # float32 [n]; None if all are equally likely
    start_alias: Any  # int32 [n]
    anywhere: Any  # int32 [m], the states of exploring starts
    allowed: Any  # bool [S, A]; None if everything is allowed
    expected: Any  # the `ExpectedOutcomes` of expected updates; None for sampled ones
    seed: Any  # int32, of all random numbers; an argument, so that one compiled program serves all seeds


class Sizes(NamedTuple):
    """The sizes of the environment that are static in the compiled program."""

    states: int
    actions: int
    outcomes: int
    time_limit: int | None


def compile_mdp(
    table: TransitionTable,
    reward_scale: float,
    allowed: NDArray[np.bool_] | None,
    anywhere: NDArray[np.bool_],
    seed: int,
    expected: ExpectedOutcomes | None = None,
) -> CompiledMDP:
    """Lay out the table as arrays.

    Args:
        table: the transition table.
        reward_scale: divisor of the rewards.
        allowed: bool `[S, A]`, or None.
        anywhere: bool `[S]`, the states of exploring starts.
        seed: of all random numbers, below 2³¹.
        expected: what expected updates look up; None for sampled ones.
    """
    outcomes = table.probability.shape[2]
    share = alias = None
    if outcomes > 1:
        share, alias = (part.reshape(-1) for part in alias_table(table.probability.reshape(-1, outcomes)))
    return CompiledMDP(
        table.next_state.reshape(-1).astype(np.int32),
        (table.reward.reshape(-1) / reward_scale).astype(np.float32),
        np.array(table.terminated.reshape(-1)),  # a mapped array cannot be written to, which PyTorch warns of
        share,
        alias,
        *start_arrays(table.start),
        np.flatnonzero(anywhere).astype(np.int32),
        allowed,
        expected,
        np.int32(seed),
    )


def start_arrays(start: NDArray[np.float64]) -> tuple[NDArray[np.int32], Any, Any]:
    """Return (starts, start_share, start_alias) of a `CompiledMDP` for the start distribution `start` `[S]`."""
    starts = np.flatnonzero(start).astype(np.int32)
    chances = start[starts]
    if np.allclose(chances, chances[0], rtol=1e-12):
        return starts, None, None
    share, alias = alias_table(chances[None])
    return starts, share[0], alias[0]


def outcome(mdp: CompiledMDP, sizes: Sizes, states: Any, actions: Any, pick: Any, uniform: Any) -> Any:
    """Sample outcomes of (state, action) pairs; `pick` is nonnegative integers, `uniform` in [0, 1); all `[N]`."""
    pair = states * sizes.actions + actions
    if sizes.outcomes == 1:
        return pair
    first = pair * sizes.outcomes
    return first + value_of(mdp.share, mdp.alias, xla.divide(pick, sizes.outcomes)[1], uniform, first)


def start_state(mdp: CompiledMDP, pick: Any, uniform: Any) -> Any:
    """Sample start states `[N]`; `pick` `[N]` is random nonnegative integers, `uniform` `[N]` in [0, 1)."""
    slot = xla.divide(pick, mdp.starts.shape[0])[1]
    if mdp.start_share is not None:
        slot = value_of(mdp.start_share, mdp.start_alias, slot, uniform)
    return xla.gather(mdp.starts, slot)


def any_state(mdp: CompiledMDP, pick: Any) -> Any:
    """Sample states `[N]` for exploring starts uniformly; `pick` `[N]` is random nonnegative integers."""
    return xla.gather(mdp.anywhere, xla.divide(pick, mdp.anywhere.shape[0])[1])
