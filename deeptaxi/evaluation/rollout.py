"""Roll a policy out in vectorized environments: the one place that steps a policy which does not learn."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

import numpy as np

from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import Bools, Floats, Ints
from deeptaxi.mdp.vector_env import VectorEnv


class VectorStep(NamedTuple):
    """One step of N environments; every field is `[N]`."""

    state: Ints
    action: Ints
    reward: Floats
    next_state: Ints
    terminated: Bools
    truncated: Bools
    time: Ints  # the step within its episode, from 1
    over: Bools  # whether the episode is over; a consumer may end more episodes by setting them in place


def rollout(
    environment: Environment,
    vector: VectorEnv,
    states: Ints,
    choose: Callable[[Ints], Ints],
    limit: int | None = None,
) -> Generator[VectorStep]:
    """Step all environments forever, resetting each one whose episode is over.

    Args:
        environment: the environment.
        vector: N instances of it, already reset.
        states: their states, `[N]`.
        choose: maps states `[N]` to actions `[N]`.
        limit: steps after which an episode is over, besides its own ends; None for no limit.
    """
    state, time = states.copy(), np.zeros(len(states), np.int64)
    while True:
        action = choose(state)
        reached, reward, terminated, truncated, _ = vector.step(action + environment.first_action)
        time = time + 1
        over = terminated | truncated
        if limit is not None:
            over |= time >= limit
        yield VectorStep(state, action, reward, reached, terminated, truncated, time, over)
        state = reached
        if over.any():
            time = np.where(over, 0, time)
            state = vector.reset(over=over)[0]
