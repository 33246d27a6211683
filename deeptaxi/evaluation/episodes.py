"""Sampled evaluation: episodes of the greedy policy, their mean return and its uncertainty.

Each of the vectorized environments plays a fixed share of the episodes; counting the first N episodes to end would
favor short ones. The interval is the percentile bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from deeptaxi.evaluation.rollout import rollout
from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.simulate import inverse_table
from deeptaxi.mdp.sparse_rows import leads_to, uses_sparse_rows
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable

COPIES = 64
RESAMPLES = 2_000
BLOCK = 4_000_000  # numbers drawn at a time
STEPS = 200_000  # of all environments together; a few seconds
LONG = 1_000  # steps; if episodes can be longer, check whether they end at all
LOOK_EVERY = 100  # steps of an episode between such checks


@dataclass(frozen=True)
class Episodes:
    """Statistics of `count` episodes.

    Attributes:
        count: number of episodes played.
        mean_return, ci95: mean undiscounted return, and its 95 % interval.
        mean_length: in steps.
        terminated_fraction: fraction of episodes that terminated.
        standard_error: of the mean return.
        asked: number of episodes requested; fewer are played if they take too many steps.
        endless: number of episodes that reached a state from which the policy never ends an episode. They were cut
            there, and the rest of their return was sampled from the transition table.
        endless_state: one of those states, or None.
        cut: number of episodes cut before the horizon, so that the rest of their return is missing.
        cut_steps: the number of steps after which they were cut, or None.
        steps_in_shared_state: of `steps`, those from observations without a number of their own, where observations
            are numbered as they are first seen; else None.
    """

    count: int
    mean_return: float
    ci95: tuple[float, float]
    mean_length: float
    terminated_fraction: float
    standard_error: float
    asked: int
    endless: int = 0
    endless_state: int | None = None
    cut: int = 0
    cut_steps: int | None = None
    steps_in_shared_state: int | None = None
    steps: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for the JSON."""
        values = dataclasses.asdict(self)
        del values["standard_error"]
        if self.steps_in_shared_state is None:
            del values["steps_in_shared_state"], values["steps"]
        return {**values, "ci95": list(self.ci95)}


class Ended(NamedTuple):
    """A finished episode; `endless` is the state in which it was cut because it would never end."""

    total: float
    length: int
    terminated: bool
    endless: int | None = None


def play(environment: Environment, policy: Ints, count: int, seed: int, steps: int = STEPS) -> Episodes:
    """Play `count` episodes of `policy` `[S]`.

    An episode without a time limit is cut at the horizon. After `steps` steps in total, unfinished episodes are played
    to their end and no more are started; a single episode is cut after `steps` steps. So this always returns.
    """
    sequence, resampling = np.random.SeedSequence(seed).spawn(2)
    limit = min(environment.horizon, steps)
    copies = min(count, COPIES, max(1, steps // limit))
    share = np.full(copies, count // copies)
    share[: count % copies] += 1
    codec = environment.numbering
    counting = None if codec is None or codec.shared_state is None else CountingPolicy(policy, codec.shared_state)
    ended = run_copies(
        environment, policy if counting is None else counting, share, sequence.generate_state(copies).tolist(), steps
    )
    returns, lengths, terminated = (np.array(column) for column in list(zip(*ended, strict=True))[:3])
    endless = np.array([episode.endless is not None for episode in ended])
    if environment.table is not None and endless.any():
        states = np.array([episode.endless for episode in ended if episode.endless is not None])
        rng = np.random.default_rng([seed, len(ended)])
        returns[endless] += rest_of_returns(environment.table, policy, states, limit - lengths[endless], rng)
        lengths[endless] = limit
    cut = int((~terminated & (lengths >= limit)).sum()) if limit < environment.horizon else 0
    played = len(ended)
    error = float(returns.std(ddof=1) / np.sqrt(played)) if played > 1 else 0.0
    return Episodes(
        count=played,
        mean_return=float(returns.mean()),
        ci95=bootstrap(returns, np.random.default_rng(resampling)),
        mean_length=float(lengths.mean()),
        terminated_fraction=float(terminated.mean()),
        standard_error=error,
        asked=count,
        endless=int(endless.sum()),
        endless_state=next((episode.endless for episode in ended if episode.endless is not None), None),
        cut=cut,
        cut_steps=limit if cut else None,
        steps_in_shared_state=None if counting is None else counting.in_shared_state,
        steps=None if counting is None else counting.steps,
    )


class CountingPolicy:
    """A policy `[S]` that counts how often it acts in the state that unnumbered observations share.

    Attributes:
        in_shared_state: the steps in that state.
        steps: all steps.
    """

    def __init__(self, policy: Ints, state: int) -> None:
        self._policy, self._state = policy, state
        self.in_shared_state = self.steps = 0

    def __getitem__(self, states: Any) -> Any:
        self.in_shared_state += int(np.sum(states == self._state))
        self.steps += int(np.size(states))
        return self._policy[states]


def run_copies(
    environment: Environment, policy: Ints | CountingPolicy, share: Ints, seeds: list[int | None], steps: int = STEPS
) -> list[Ended]:
    """Play ``share[i]`` episodes in environment i, fewer if `steps` steps do not suffice; return the episodes."""
    ended: list[Ended] = []
    left, made, limit = share.copy(), 0, min(environment.horizon, steps)
    total = np.zeros(len(share))
    table = environment.table if limit > LONG else None
    endless = None if table is None or isinstance(policy, CountingPolicy) else Endless(table, policy)
    with blaming(environment.config.id), closing(environment.make_vector(len(share), masks=False)) as vector:
        states = vector.reset(seed=seeds)[0]
        for step in rollout(environment, vector, states, lambda state: policy[state], limit):
            total += step.reward
            made += len(share)
            looping: Bools = np.zeros(len(share), np.bool_)
            if endless is not None:
                due = np.flatnonzero(~step.over & (step.time % LOOK_EVERY == 0))
                looping[[i for i in due if step.next_state[i] in endless]] = True
                step.over[looping] = True
            for i in np.flatnonzero(step.over & (left > 0)):
                at = int(step.next_state[i]) if looping[i] else None
                ended.append(Ended(float(total[i]), int(step.time[i]), bool(step.terminated[i]), at))
            left[step.over & (left > 0)] -= 1
            if made >= steps:
                left[step.over] = 0  # unfinished episodes are played to their end: dropping them favors short ones
            if not left.any():
                break
            total[step.over] = 0.0
    return ended


class Endless:
    """The set, queried by ``in``, of states from which a policy `[S]` never ends an episode, by the table."""

    def __init__(self, table: TransitionTable, policy: Ints) -> None:
        self._table = table
        self._policy = policy
        self._known: dict[int, bool] = {}
        if uses_sparse_rows(table):  # one search for all states, instead of one for each
            ending = leads_to(table, None, policy[:, None] == np.arange(table.actions))
            self._known = dict(enumerate((~ending).tolist()))

    def __contains__(self, state: int) -> bool:
        first = int(state)
        if first not in self._known:
            seen = self._followed(first)
            self._known |= {first: False} if seen is None else dict.fromkeys(seen, True)
        return self._known[first]

    def _followed(self, first: int) -> set[int] | None:
        """Return all states reachable from `first`; None if an episode can end in one of them."""
        seen, waiting = {first}, [first]
        while waiting:
            row = waiting.pop()
            pair = (row, self._policy[row])
            possible = self._table.probability[pair] > 0
            if self._known.get(row) is False or (possible & self._table.terminated[pair]).any():
                return None
            new = set(self._table.next_state[pair][possible].tolist()) - seen
            seen |= new
            waiting.extend(new)
        return seen


def rest_of_returns(
    table: TransitionTable, policy: Ints, states: Ints, steps: Ints, rng: np.random.Generator
) -> Floats:
    """Sample the rewards of `steps` `[n]` more steps of an endless policy from `states` `[n]`; return their sums."""
    every = np.arange(table.states)
    cumulative = inverse_table(table.probability[every, policy])
    reward, following = table.reward[every, policy], table.next_state[every, policy]
    total = np.zeros(len(states))
    for step in range(int(steps.max(initial=0))):
        k = (rng.random((len(states), 1)) >= cumulative[states]).sum(axis=1) if cumulative.shape[1] > 1 else 0
        total += np.where(step < steps, reward[states, k], 0.0)
        states = following[states, k]
    return total


def bootstrap(values: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of `values` `[n]`."""
    means: list[Floats] = []
    block = max(1, BLOCK // len(values))
    for first in range(0, RESAMPLES, block):
        draws = rng.integers(0, len(values), (min(block, RESAMPLES - first), len(values)))
        means.append(values[draws].mean(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
