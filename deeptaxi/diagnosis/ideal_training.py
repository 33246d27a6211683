"""An ideal training: value iteration that is as short and as slow as a configuration, and the scores on its way.

It makes a sweep for each refresh of the target network, in which no value moves farther than the steps of the optimizer
add up to. It has no noise and misses no pair, and its best policy counts, as that of early stopping does: what it
cannot learn, no training of the configuration can be expected to learn (`best_score`). Of the optimizers, with a
learning rate lr_t,

    Adam         moves a weight by about lr_t an update, whatever the error: a value by their sum, times what all units
                 add to it (`longest_way`)
    plain SGD    moves a value of a Q table by its step's share of the error for each sample (`total_share`)

Two other ends of a training have scores of their own: what uncorrected n-step sums converge to (`n_step_score`), and
the values of a step that diverges until they overflow (`overshooting_score`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from deeptaxi.config import OWN_KIND, TrainConfig
from deeptaxi.diagnosis import cures, learning_curves, rivals
from deeptaxi.diagnosis.case import GOOD, the
from deeptaxi.evaluation import exact
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable
from deeptaxi.mdp.total_reward import UndefinedError

UNITS = 0.14  # what one hidden unit adds to the change of a Q value, in learning rates, of layers as they are made


@dataclass(frozen=True, eq=False)
class Training:
    """A configuration and its problem, before any update.

    Attributes:
        config: the configuration.
        table: the transition table.
        allowed: the actions that the agent may take, `[S, A]`.
        usual: what `deeptaxi train` takes for this problem, if known.
    """

    config: TrainConfig
    table: TransitionTable
    allowed: Bools
    usual: TrainConfig | None = field(default=None)

    @property
    def discount(self) -> float:
        """The training's discount."""
        return self.config.discount

    @property
    def objective(self) -> float:
        """The objective's discount."""
        return self.config.evaluation.objective_discount

    @cached_property
    def q_star(self) -> Floats | None:
        """Q* at the training's discount, `[S, A]`, 0 where no action is allowed; None if it does not exist."""
        try:
            q = planning.value_iteration(self.table, self.discount, self.allowed).q
        except UndefinedError:
            return None
        return np.where(self.allowed, q, 0.0)

    @cached_property
    def pairs(self) -> Bools:
        """The pairs that can be tried, `[S, A]`."""
        return self.allowed & planning.reachable(self.table, self.allowed)[:, None]

    @cached_property
    def optimum(self) -> planning.Optimum:
        """The optimum at the objective's discount."""
        return planning.value_iteration(self.table, self.objective, self.table.action_mask)

    @cached_property
    def random_value(self) -> float:
        """The mean value of random play."""
        return exact.mean(
            self.table, planning.evaluate_uniform(self.table, self.objective, self.table.action_mask).value
        )

    def score(self, policy: Ints | Floats) -> float:
        """Return the normalized score of a policy `[S]` or `[S, A]`; 1 if there is no scale."""
        value = exact.mean(self.table, planning.evaluate_policy(self.table, policy, self.objective).value)
        score = exact.normalize_score(value, exact.mean(self.table, self.optimum.value), self.random_value)
        return 1.0 if score is None else score

    def score_of_q(self, q: Floats) -> float:
        """Return the normalized score of the greedy policy of Q values `[S, A]`."""
        return self.score(planning.greedy_policy(q, self.allowed))

    @cached_property
    def depth(self) -> int | None:
        """How many steps a value has to travel before the greedy policy is optimal on its path; None if unknown."""
        optimal = planning.optimal_actions(self.optimum.q)
        return learning_curves.depth_of(self.table, optimal, self.discount, self.begin)

    @cached_property
    def is_table(self) -> bool:
        """Whether the network is a Q table."""
        return self.config.network.kind == "q-table"

    @property
    def samples(self) -> float:
        """How often each pair is in a minibatch, on average."""
        return self.config.updates * self.config.replay.batch_size / max(1, int(self.pairs.sum()))

    @cached_property
    def largest(self) -> float:
        """The largest |Q*|, in the network's units; 0 if unknown."""
        if self.q_star is None:
            return 0.0
        return float(np.abs(self.q_star[self.pairs]).max()) / self.config.target.reward_scale

    @cached_property
    def farthest(self) -> float:
        """How far the value of some state has to go from the initial one, in the network's units; 0 if unknown."""
        if self.q_star is None:
            return 0.0
        return float(np.abs(self.values - self.begin).max()) / self.config.target.reward_scale

    @cached_property
    def values(self) -> Floats:
        """V* of the states that an agent can reach, `[n]`; needs Q*."""
        q = np.where(self.allowed, the(self.q_star), -np.inf)
        return np.asarray(q.max(axis=1)[self.pairs.any(axis=1)])

    @property
    def start(self) -> float:
        """The initial value."""
        return self.config.network.initial_value if self.config.network.kind != OWN_KIND else 0.0

    @cached_property
    def begin(self) -> float:
        """The initial value, or the nearest possible one: beyond that it is `initial-value-off`."""
        if self.q_star is None:
            return self.start
        return min(max(self.start, min(0.0, float(self.values.min()))), max(0.0, float(self.values.max())))

    @cached_property
    def score_reached(self) -> float:
        """The best normalized score on the way to where values get to; see `best_score`."""
        return best_score(self)


def best_score(training: Training) -> float:
    """Return the best normalized score of value iteration that is as short and as slow as the training.

    It makes a sweep for each refresh of the target network, with targets of n steps, and the values of a fresh network
    begin with its noise. Where a move is longer than the steps of the optimizer add up to, each is cut to that length,
    as Adam cuts gradients, or all are scaled alike, as those that share weights are: the better of the two counts.
    """
    return max(best_of_sweeps(training, cut_moves), best_of_sweeps(training, scale_moves))


def best_of_sweeps(training: Training, shorten: Callable[[Floats, float], Floats]) -> float:
    """Return the best normalized score of such sweeps, whose moves `[S, A]` are shortened in one way."""
    config, target, table = training.config, training.config.target, training.table
    sweeps = min(math.floor(config.updates / target.period * target.polyak) + 1, learning_curves.MANY)
    longest = target.reward_scale * longest_way(training) / sweeps
    share = 1 - math.exp(-total_share(training) / sweeps)
    epsilon = 0.0 if target.cuts else least_epsilon(config)  # sums that are cut follow the greedy policy
    q = np.full((table.states, table.actions), training.start)
    noise = learning_curves.fresh_deviation(config, table.states, table.actions)
    q += noise * np.random.default_rng(0).standard_normal(q.shape)
    best = -math.inf
    for sweep in range(1, sweeps + 1):
        targets = rivals.n_step_targets(table, q, training.discount, target.n_step, epsilon, training.allowed)
        q = q + shorten(np.where(training.allowed, share * (targets - q), 0.0), longest)
        if sweep.bit_count() == 1 or sweep == sweeps:  # a power of two
            best = max(best, training.score_of_q(q))
        if best >= GOOD:
            break
    return best


def cut_moves(moves: Floats, longest: float) -> Floats:
    """Return moves `[S, A]`, each cut to at most the longest one."""
    return np.clip(moves, -longest, longest)


def scale_moves(moves: Floats, longest: float) -> Floats:
    """Return moves `[S, A]` scaled alike, so that the largest is at most the longest one."""
    return moves * min(1.0, longest / max(float(np.abs(moves).max()), 1e-30))


def longest_way(training: Training, rate: float | None = None) -> float:
    """Return how far the updates of Adam can move a value, in the network's units; infinite for other optimizers.

    At another, constant learning `rate`, if one is given.
    """
    config = training.config
    if config.network.kind == OWN_KIND or config.optimizer.name not in ("adam", "adamw", "nadam", "adamax"):
        return math.inf
    total = rate * config.updates if rate is not None else sum_of_rates(config)
    if training.is_table:
        return total * min(1.0, 3 * config.replay.batch_size / max(1, int(training.pairs.sum())))
    return total * max(1.0, UNITS * min(config.network.hidden or (1,)))


def total_share(training: Training) -> float:
    """Return the sum of all shares of its error by which plain SGD moves a value of a Q table; else infinite."""
    config = training.config
    if config.optimizer.name != "sgd" or not training.is_table:
        return math.inf
    each = sum_of_rates(config) / config.updates
    if config.optimizer.tabular_step is None:
        each *= 2 / (training.table.actions * config.replay.batch_size)
    return each * training.samples


def sum_of_rates(config: TrainConfig) -> float:
    """Return the sum of the step sizes over all updates, by their schedule."""
    size = cures.step_size(config)[1]
    return float(size * config.updates * share_of_rate(config, (np.arange(200) + 0.5) / 200 * config.updates).mean())


def share_of_rate(config: TrainConfig, update: Floats) -> Floats:
    """Return the step size at each `update`, `[n]`, as a share of the initial one, by the schedule."""
    p, last = np.minimum(update / config.schedule_length, 1.0), config.optimizer.final_fraction
    shapes: dict[str, Callable[[Floats], Floats]] = {
        "linear": lambda p: 1 + (last - 1) * p,
        "exponential": lambda p: np.asarray(max(last, 1e-12) ** p),
        "cosine": lambda p: last + (1 - last) * 0.5 * (1 + np.cos(np.pi * p)),
    }
    return shapes.get(config.optimizer.schedule, np.ones_like)(p)


def n_step_score(training: Training, epsilon: float) -> float:
    """Return the normalized score of what uncorrected n-step sums under ε-greedy behavior converge to."""
    steps = training.config.target.n_step
    q = rivals.n_step_values(training.table, min(training.discount, 0.999), steps, epsilon, training.allowed)
    return training.score_of_q(q)


def mean_epsilon(config: TrainConfig) -> float:
    """Return the mean of ε over the training."""
    e = config.exploration
    falling = (e.start + e.end) / 2 if e.schedule != "constant" else e.start
    return e.fraction * falling + (1 - e.fraction) * (e.end if e.schedule != "constant" else e.start)


def least_epsilon(config: TrainConfig) -> float:
    """Return the least ε of the training."""
    e = config.exploration
    return e.start if e.schedule == "constant" else min(e.start, e.end)


def overshooting_score(training: Training, step: float) -> float | None:
    """Return the best normalized score evaluated before the values of a step that diverges overflow, -inf if none is.

    Until then the values grow with random signs, by how often each pair is sampled. So the policies are random: where
    there are few, an evaluation may find a good one, and early stopping keeps it. None if the values do not overflow.
    """
    config, table, rng = training.config, training.table, np.random.default_rng(0)
    together, target = config.replay.batch_size / max(1, int(training.pairs.sum())), config.target
    epsilon, best = mean_epsilon(config), -math.inf
    q = ahead = np.full((table.states, table.actions), training.start)
    targets = rivals.n_step_targets(table, ahead, training.discount, target.n_step, epsilon, training.allowed)
    steps = step * share_of_rate(config, np.arange(min(config.updates, learning_curves.MANY), dtype=float))
    for update, size in enumerate(steps, 1):
        q = q + size * rng.poisson(together, q.shape) * np.where(training.allowed, targets - q, 0.0)
        if np.abs(q).max() > np.finfo(np.float32).max:
            return best
        if update % target.period == 0:
            ahead = ahead + target.polyak * (q - ahead)
            targets = rivals.n_step_targets(table, ahead, training.discount, target.n_step, epsilon, training.allowed)
        if update % config.evaluation.every == 0:
            best = max(best, training.score_of_q(q))
        if best >= GOOD:
            return best
    return None
