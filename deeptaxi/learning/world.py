"""The environment as data: a transition table laid out so that a compiled program can step through it.

An *outcome* (s, a, k) is one number, (s·A + a)·K + k; what follows is looked up under it. The replay memory holds
nothing but such numbers, 4 bytes a transition. Outcomes and start states are drawn by the method of aliases (`alias`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi import xla
from deeptaxi.learning.alias import alias_table, value_of
from deeptaxi.mdp.table import TransitionTable


class World(NamedTuple):
    """The arrays of an environment. ``None`` where there is nothing to look up."""

    state: Any  # int32 [S·A·K], s of the outcome
    action: Any  # int32 [S·A·K], a of the outcome
    next_state: Any  # int32 [S·A·K]
    reward: Any  # float32 [S·A·K]
    terminated: Any  # bool [S·A·K]
    share: Any  # float32 [S·A·K]; None where K = 1
    alias: Any  # int32 [S·A·K], values 0 … K−1; None where K = 1
    starts: Any  # int32 [n], the start states
    start_share: Any  # float32 [n]; None where all are equally likely
    start_alias: Any  # int32 [n]
    anywhere: Any  # int32 [m], the states of exploring starts
    allowed: Any  # bool [S, A]; None where everything is allowed
    seed: Any  # int32, of all random numbers: in here, one compiled program serves all seeds


class Sizes(NamedTuple):
    """What is known of the world when the program is compiled."""

    states: int
    actions: int
    outcomes: int
    time_limit: int | None


def build_world(
    table: TransitionTable,
    reward_scale: float,
    allowed: NDArray[np.bool_] | None,
    anywhere: NDArray[np.bool_],
    seed: int,
) -> World:
    """Lay the table out.

    Args:
        table: the problem.
        reward_scale: rewards are divided by it.
        allowed: bool `[S, A]`, or None.
        anywhere: bool `[S]`, the states of exploring starts.
        seed: of all random numbers, below 2³¹.
    """
    states, actions, outcomes = table.probability.shape
    share = alias = None
    if outcomes > 1:
        share, alias = (part.reshape(-1) for part in alias_table(table.probability.reshape(-1, outcomes)))
    pairs = np.arange(states * actions, dtype=np.int32).repeat(outcomes)
    return World(
        pairs // actions,
        pairs % actions,
        table.next_state.reshape(-1).astype(np.int32),
        (table.reward.reshape(-1) / reward_scale).astype(np.float32),
        table.terminated.reshape(-1),
        share,
        alias,
        *start_arrays(table.start),
        np.flatnonzero(anywhere).astype(np.int32),
        allowed,
        np.int32(seed),
    )


def start_arrays(start: NDArray[np.float64]) -> tuple[NDArray[np.int32], Any, Any]:
    """Return (starts, start_share, start_alias) of a `World`, for the distribution `start` `[S]` of the first state."""
    starts = np.flatnonzero(start).astype(np.int32)
    chances = start[starts]
    if np.allclose(chances, chances[0], rtol=1e-12):
        return starts, None, None
    share, alias = alias_table(chances[None])
    return starts, share[0], alias[0]


def outcome(world: World, sizes: Sizes, states: Any, actions: Any, pick: Any, uniform: Any) -> Any:
    """Return outcomes of states and actions; `pick` are random integers from 0, `uniform` in [0, 1); all are `[N]`."""
    pair = states * sizes.actions + actions
    if sizes.outcomes == 1:
        return pair
    first = pair * sizes.outcomes
    return first + value_of(world.share, world.alias, pick % sizes.outcomes, uniform, first)


def start_state(world: World, pick: Any, uniform: Any) -> Any:
    """Return start states `[N]`; `pick` `[N]` are random integers from 0, `uniform` `[N]` in [0, 1)."""
    slot = pick % world.starts.shape[0]
    if world.start_share is not None:
        slot = value_of(world.start_share, world.start_alias, slot, uniform)
    return xla.gather(world.starts, slot)


def any_state(world: World, pick: Any) -> Any:
    """Return states `[N]` for exploring starts, each equally likely; `pick` `[N]` are random integers from 0."""
    return xla.gather(world.anywhere, pick % world.anywhere.shape[0])
