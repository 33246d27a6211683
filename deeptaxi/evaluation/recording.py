"""Recordings of episodes: the same ones that `watch` plays, short enough to be replayed from the transition table.

A policy and a table determine all of an episode but its start and what the environment answers where it has a choice.
A recording holds just that: for each step with several possible outcomes, the number of the one that occurred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation.watching import EpisodeStep, Show, watch
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import Ints, TransitionTable

MOST_SEEDS = 10
MOST_STEPS = 20_000  # of all recordings together: some seconds, and some tens of kilobytes
MOST_OUTCOMES = 100_000  # of all (state, action) pairs together


class UnknownOutcomeError(DeepTaxiError):
    """The environment answered what its transition table does not contain."""


@dataclass(frozen=True)
class Recording:
    """An episode of a policy.

    Attributes:
        start: the first state.
        outcomes: for each step whose (state, action) has several possible outcomes, which of them occurred, from 0;
            outcomes of probability 0 do not count.
        length: the number of steps.
        ending: how it ended, as in `EpisodeStep`.
    """

    start: int
    outcomes: tuple[int, ...]
    length: int
    ending: str


def record(environment: Environment, table: TransitionTable, policy: Ints, seed: int) -> Recording:
    """Play the episode of `policy` `[S]` that `watch` plays with this seed, and record it.

    Raises:
        UnknownOutcomeError: the table does not contain what the environment answered.
        DeepTaxiError: the environment failed.
    """
    before: EpisodeStep | None = None
    start, outcomes, length = 0, [], 0
    for step in watch(environment, policy, Show(seed=seed)):
        if before is None:
            start = step.state
        else:
            chosen = find_outcome(table, before, step)
            if chosen is not None:
                outcomes.append(chosen)
        before, length = step, step.step
    return Recording(start, tuple(outcomes), length, "" if before is None else before.ending or "")


def find_outcome(table: TransitionTable, before: EpisodeStep, after: EpisodeStep) -> int | None:
    """Return which of the possible outcomes of a step occurred; None if only one is possible.

    Raises:
        UnknownOutcomeError: none of them did.
    """
    row = (before.state, before.action)
    possible = np.flatnonzero(table.probability[row] > 0)
    fits = (
        (table.next_state[row][possible] == after.state)
        & np.isclose(table.reward[row][possible], after.reward or 0.0, rtol=1e-9, atol=1e-12)
        & (table.terminated[row][possible] == (after.ending == "terminated"))
    )
    if not fits.any():
        raise UnknownOutcomeError(
            f"in state {before.state}, after action {before.action}, the environment answered what its transition "
            "table does not contain"
        )
    return None if len(possible) == 1 else int(np.argmax(fits))


def is_small(table: TransitionTable) -> bool:
    """Whether all outcomes of a table may be listed beside the recordings."""
    size = table.probability.size
    return size <= MOST_OUTCOMES or (size <= 50 * MOST_OUTCOMES and int((table.probability > 0).sum()) <= MOST_OUTCOMES)


def record_seeds(
    environment: Environment, table: TransitionTable, policies: Mapping[str, Ints]
) -> dict[int, dict[str, Recording]]:
    """Record the episodes of some policies by seed and name: the seeds from 0, until there are enough steps.

    Raises:
        UnknownOutcomeError: the table does not contain what the environment answered.
        DeepTaxiError: the environment failed.
    """
    found: dict[int, dict[str, Recording]] = {}
    steps = 0
    for seed in range(MOST_SEEDS):
        found[seed] = {name: record(environment, table, policy, seed) for name, policy in policies.items()}
        steps += sum(recording.length for recording in found[seed].values())
        if steps * (seed + 2) > MOST_STEPS * (seed + 1):  # the next would be too many
            break
    return found
