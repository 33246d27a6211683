"""Logged transitions, and the table that they estimate.

With n(s, a, o) the number of logged transitions of the pair (s, a) with outcome o = (next state, terminated), and α the
prior, the estimated probability is the posterior mean under a symmetric Dirichlet prior over next states,

    p(o | s, a) = (n(s, a, o) + α·1[o is the main outcome of its next state]) / (n(s, a) + α·S'),

where S' is the number of states that occur in the log; at α = 0 it is the relative frequency. The reward of an outcome
is the mean of its logged rewards; of one that only the prior gives, the mean of the pair. Values need no more than
these means. A pair that never occurs is masked: nothing is known of it.

**Uncertainty.** With a weight w_e for each episode e, the counts become Σ_e w_e·n_e(s, a, o). Weights drawn as
M·Dirichlet(1, …, 1) over the M episodes are the Bayesian bootstrap (Rubin, The Bayesian bootstrap, Annals of
Statistics 9, 1981): resampling whole episodes, but no weight is 0, so that every pair keeps its outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

COLUMNS = ("episode", "state", "action", "next_state", "reward", "terminated")


@dataclass(frozen=True, eq=False)
class LoggedData:
    """Logged transitions, `[N]` each, in the order of time within an episode.

    Attributes:
        episode: 0 … M−1.
        state, action, next_state: int64.
        reward: float64.
        terminated: bool.
        prior: α, added to the count of every next state.
    """

    episode: Ints
    state: Ints
    action: Ints
    next_state: Ints
    reward: Floats
    terminated: Bools
    prior: float = 0.0

    @classmethod
    def from_array(cls, rows: NDArray[Any], prior: float) -> LoggedData:
        """Read the columns of a float64 array `[N, 6]`.

        Raises:
            ValueError: the array is not one of logged transitions.
        """
        if rows.ndim != 2 or rows.shape[1] != len(COLUMNS) or len(rows) == 0 or not np.isfinite(rows).all():
            raise ValueError(f"expected finite numbers of shape [N, {len(COLUMNS)}], received {list(rows.shape)}")
        columns = dict(zip(COLUMNS, rows.T, strict=True))
        reward = columns.pop("reward")
        if any(
            (column != np.floor(column)).any() or column.min() < 0 or column.max() > 2**31
            for column in columns.values()
        ):
            raise ValueError("expected whole numbers from 0, but for the rewards")
        whole = {name: column.astype(np.int64) for name, column in columns.items()}
        if len(np.unique(whole["episode"])) != whole["episode"].max() + 1 or whole["terminated"].max() > 1:
            raise ValueError("expected episodes numbered without gaps, and terminated as 0 or 1")
        terminated = whole.pop("terminated").astype(np.bool_)
        if not (np.isfinite(prior) and prior >= 0):
            raise ValueError(f"expected a prior from 0, received {prior}")
        return cls(**whole, reward=reward.astype(np.float64), terminated=terminated, prior=prior)

    def to_array(self) -> Floats:
        """Return the columns as a float64 array `[N, 6]`."""
        return np.stack([getattr(self, name).astype(np.float64) for name in COLUMNS], axis=1)

    @property
    def transitions(self) -> int:
        """N."""
        return len(self.state)

    @cached_property
    def episodes(self) -> int:
        """M."""
        return int(self.episode.max()) + 1

    @cached_property
    def first_states(self) -> Ints:
        """The first state of each episode, `[M]`."""
        _, first = np.unique(self.episode, return_index=True)
        return np.asarray(self.state[first])


@dataclass(frozen=True, eq=False)
class Estimator:
    """The outcomes of a log, arranged once to be weighted many times.

    Attributes:
        log: the transitions.
        states, actions: S and A.
        mask: the pairs that occur, bool `[S, A]`; in states where none does, all, as no action is chosen there.
        next_state: int64 `[S, A, K]`.
        terminated: bool `[S, A, K]`.
        pseudo: the prior's counts, float64 `[S, A, K]`.
        slot: where each transition counts in the flat `[S·A·K]`, int64 `[N]`.
    """

    log: LoggedData
    states: int
    actions: int
    mask: Bools
    next_state: Ints
    terminated: Bools
    pseudo: Floats
    slot: Ints

    def weighted(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Return probability and reward, `[S, A, K]`, and start, `[S]`, for weights of episodes, `[M]`."""
        shape = self.next_state.shape
        each = weights[self.log.episode]
        size = int(np.prod(shape))
        count = np.bincount(self.slot, each, minlength=size).reshape(shape)
        gain = np.bincount(self.slot, each * self.log.reward, minlength=size).reshape(shape)
        pair_count, pair_gain = count.sum(-1, keepdims=True), gain.sum(-1, keepdims=True)
        seen = pair_count > 0
        mean = np.divide(pair_gain, pair_count, out=np.zeros_like(pair_gain), where=seen)
        own = np.divide(gain, count, out=np.zeros_like(gain), where=count > 0)
        total = count + self.pseudo
        # Prior outcomes earn the mean of the pair; one that was seen too mixes both by their counts.
        mixed = np.divide(count * own + self.pseudo * mean, total, out=np.zeros_like(gain), where=total > 0)
        probability = np.divide(total, total.sum(-1, keepdims=True), out=np.zeros_like(total), where=seen)
        probability[..., 0] += ~seen[..., 0]
        start = np.bincount(self.log.first_states, weights, minlength=self.states)
        return probability, np.where(total > 0, mixed, 0.0), start / start.sum()


def arrange(log: LoggedData, states: int, actions: int) -> Estimator:
    """Arrange the outcomes of a log, with those of its prior.

    Raises:
        ValueError: the log has states or actions outside the table.
    """
    if max(log.state.max(), log.next_state.max()) >= states or log.action.max() >= actions:
        raise ValueError(f"expected states below {states} and actions below {actions}")
    pair = log.state * actions + log.action
    reached = log.next_state * 2 + log.terminated
    acted, met = np.zeros(states, np.bool_), np.zeros(states, np.bool_)
    acted[log.state] = met[log.state] = met[log.next_state] = True
    seen_pairs = np.unique(pair)
    keys = pair * (2 * states) + reached
    if log.prior > 0:  # of each state that occurs: as an end if no action is logged there, else going on
        every = np.flatnonzero(met)
        main = every * 2 + ~acted[every]
        keys_prior = (seen_pairs[:, None] * (2 * states) + main).ravel()
    else:
        keys_prior = np.zeros(0, np.int64)
    unique, where = np.unique(np.concatenate([keys, keys_prior]), return_inverse=True)
    owner = unique // (2 * states)
    counts = np.bincount(owner, minlength=states * actions)
    width = max(int(counts.max()), 1)
    flat = owner * width + np.arange(len(unique)) - (np.cumsum(counts) - counts)[owner]
    shape = (states, actions, width)
    next_state = np.broadcast_to(np.arange(states)[:, None, None], shape).copy()
    terminated, pseudo = np.ones(shape, np.bool_), np.zeros(shape)
    next_state.flat[flat] = unique % (2 * states) // 2
    terminated.flat[flat] = unique % 2 == 1
    pseudo.flat[flat[where[len(keys) :]]] = log.prior
    mask = np.zeros((states, actions), np.bool_)
    mask.flat[seen_pairs] = True
    mask[~acted] = True
    return Estimator(log, states, actions, mask, next_state, terminated, pseudo, flat[where[: len(keys)]])


def width_of(log: LoggedData, states: int, actions: int) -> int:
    """Return K, the most outcomes of a pair, without arranging them."""
    met = len(np.union1d(log.state, log.next_state)) if log.prior > 0 else 0
    keys = np.unique((log.state * actions + log.action) * (2 * states) + log.next_state * 2 + log.terminated)
    return met + int(np.bincount(keys // (2 * states)).max())


def draw_weights(episodes: int, resamples: int, seed: int = 0) -> Floats:
    """Draw the weights of the Bayesian bootstrap, `[B, M]`, with mean 1."""
    weights = np.random.default_rng(seed).exponential(size=(resamples, episodes))
    return np.asarray(weights * (episodes / weights.sum(axis=1, keepdims=True)))
