"""Sample transitions step by step, for environments without a table.

Half of the episodes follow the greedy policy, if there is one; the other half are random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deeptaxi.evaluation.rollout import VectorStep, rollout
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
        np.concatenate(column) for column in list(zip(*rows, strict=True))[:-1]
    )
    mark = np.arange(len(state)) >= length * len(rows[0][0])
    return Sample(state, action, reward, reached, terminated, truncated, time, mark, (by_greedy, by_random))


def play_rows(
    environment: Environment, choices: Bools, count: int, seeds: np.random.SeedSequence
) -> tuple[list[VectorStep], int]:
    """Run until `count` episodes have ended or `STEPS` steps are made; actions are sampled from `choices` `[S, A]`."""
    rng = np.random.default_rng(seeds)
    copies = min(count, COPIES)
    rows: list[VectorStep] = []
    ended = 0
    with blaming(environment.config.id), closing(environment.make_vector(copies, masks=False)) as vector:
        states = vector.reset(seed=rng.integers(0, 2**31, copies).tolist())[0]

        def choose(state: Ints) -> Ints:
            draws = rng.random((copies, environment.actions)) * choices[state]
            return np.asarray(draws.argmax(axis=1))

        for step in rollout(environment, vector, states, choose, environment.horizon):
            rows.append(step)
            ended += int(step.over.sum())
            if ended >= count or len(rows) * copies >= STEPS:
                break
    return rows, ended
