"""Sample transitions step by step, for environments without a table.

Half of the episodes follow the greedy policy, if there is one; the other half are random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import Bools, Floats, Ints

COPIES = 16
STEPS = 20_000  # at most, for all environments together, for each of the two policies


@dataclass(frozen=True, eq=False)
class Sample:
    """Transitions, `[n]` each.

    Attributes:
        state, action, reward, next_state, terminated, truncated: of each transition.
        time: the step within its episode, from 1.
        greedy: whether the greedy policy chose the action.
        episodes: the number of episodes ended, by the greedy policy and at random.
    """

    state: Ints
    action: Ints
    reward: Floats
    next_state: Ints
    terminated: Bools
    truncated: Bools
    time: Ints
    greedy: Bools
    episodes: tuple[int, int]


Row = tuple[Ints, Ints, Floats, Ints, Bools, Bools, Ints]


def play_sample(environment: Environment, policy: Ints | None, allowed: Bools | None, count: int, seed: int) -> Sample:
    """Run `count` episodes with `policy` `[S]`, if given, and `count` with random `allowed` actions `[S, A]`."""
    greedy, random = np.random.SeedSequence(seed).spawn(2)
    shape = (environment.states, environment.actions)
    everything = np.ones(shape, np.bool_) if allowed is None else allowed
    rows, ended = play_rows(environment, everything, count, random)
    by_random, by_greedy, length = ended, 0, len(rows)
    if policy is not None:
        chosen = np.asarray(policy[:, None] == np.arange(environment.actions))
        more, by_greedy = play_rows(environment, chosen, count, greedy)
        rows += more
    state, action, reward, reached, terminated, truncated, time = (
        np.concatenate(column) for column in zip(*rows, strict=True)
    )
    mark = np.arange(len(state)) >= length * len(rows[0][0])
    return Sample(state, action, reward, reached, terminated, truncated, time, mark, (by_greedy, by_random))


def play_rows(
    environment: Environment, choices: Bools, count: int, seeds: np.random.SeedSequence
) -> tuple[list[Row], int]:
    """Run until `count` episodes have ended or `STEPS` steps are made; actions are sampled from `choices` `[S, A]`."""
    rng = np.random.default_rng(seeds)
    copies = min(count, COPIES)
    rows: list[Row] = []
    ended, time = 0, np.zeros(copies, np.int64)
    with blaming(environment.config.id), closing(environment.make_vector(copies, masks=False)) as vector:
        state = vector.reset(seed=rng.integers(0, 2**31, copies).tolist())[0].copy()
        while ended < count and len(rows) * copies < STEPS:
            action = np.argmax(rng.random((copies, environment.actions)) * choices[state], axis=1)
            observation, reward, terminated, truncated, _ = vector.step(action + environment.first_action)
            reached, time = observation.copy(), time + 1
            rows.append((state, action, reward.astype(float), reached, terminated.copy(), truncated.copy(), time))
            over: Bools = terminated | truncated | (time >= environment.horizon)
            ended, time = ended + int(over.sum()), np.where(over, 0, time)
            state = reached
            if over.any():
                state = vector.reset(options={"reset_mask": over})[0].copy()
    return rows, ended
