"""Evaluate the network during training and keep the best weights.

The best weights are those with the highest exact value, the later ones on ties; without a table, the last weights.
The network learns Q values in units of the reward scale; evaluated and saved Q values are unscaled.
Once the user has asked to stop, an evaluation that takes long is abandoned (`mdp.stopping`), and leaves no trace.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import OWN_KIND, TrainConfig
from deeptaxi.errors import DivergedError
from deeptaxi.evaluation import exact
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.initial_network import network_spec
from deeptaxi.learning.progress import Loop
from deeptaxi.learning.state import StateMismatchError, TrainingState, array, count, fact
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.stopping import StopPlanning
from deeptaxi.mdp.table import Bools, Ints, TransitionTable
from deeptaxi.metrics import Evaluated
from deeptaxi.network.build import with_mask
from deeptaxi.network.lazy import LazyNetwork, borrowed_network
from deeptaxi.network.own import copy_network, scale_q_values
from deeptaxi.network.tabulate import tabulate

Judged = tuple[exact.Reference, Ints, exact.Verdict]


class Best(NamedTuple):
    """The best weights so far.

    Attributes:
        weights: as `Model.get_weights` returns them.
        value: of their policy.
        learned: their Q values `[S, A]`, neither unscaled nor masked; None if only the weights were saved.
    """

    weights: list[Any]
    value: float
    learned: NDArray[np.floating] | None


class Evaluator:
    """Evaluates the network of a loop and keeps the best weights.

    Args:
        config: the training.
        environment: its environment.
        loop: its loop.
        masks: the allowed actions.

    `q_values` are the most recently evaluated ones, `[S, A]`, unscaled; −∞ for disallowed actions.
    """

    q_values: NDArray[np.float32]

    def __init__(self, config: TrainConfig, environment: Environment, loop: Loop, masks: ActionMaskTable) -> None:
        self._config = config
        self._environment = environment
        self._loop = loop
        self._masks = masks
        self._reference: tuple[int, exact.Reference] | None = None
        self._best: Best | None = None
        self._latest: Judged | None = None
        self._latest_best: Judged | None = None  # the evaluation of the best weights
        self.best_update = 0
        self.last = -1
        self.in_a_row = 0

    def __call__(self, update: int) -> Generator[Evaluated]:
        """Evaluate the weights after `update`; yield the evaluation if there is a table.

        Raises:
            StopPlanning: the user asked to stop; it is as if it had not been called.
        """
        online = self._loop.network
        learned = self._tabulated(online)
        self.q_values = self._masked(learned * np.float32(self._config.target.reward_scale))
        verdict = self._verdict(self.q_values)
        if verdict is None:
            if not np.isfinite(learned).all():
                raise DivergedError(f"the training diverged before update {update}: train with a lower --learning-rate")
            self.best_update = self.last = update
            return
        self.last = update
        self.in_a_row = self.in_a_row + 1 if verdict.optimal else 0
        slack = exact.ZERO * (1 + abs(verdict.value)) if math.isfinite(verdict.value) else 0.0
        if self._best is None or verdict.value >= self._best.value - slack:
            self._best = Best(copies(online), verdict.value, learned)
            self.best_update, self._latest_best = update, self._latest
        yield record_of(update, verdict)

    def state_dict(self) -> TrainingState:
        """Return the best weights so far and their evaluation."""
        weights, value, _ = self._best or ([], None, None)
        facts = {"value": value, "best_update": self.best_update, "last": self.last, "in_a_row": self.in_a_row}
        return TrainingState({f"best.{i}": weight.copy() for i, weight in enumerate(weights)}, {"evaluator": facts})

    def load_state_dict(self, saved: TrainingState) -> None:
        """Restore the best weights.

        Raises:
            StateMismatchError: the weights belong to another network.
        """
        facts = TrainingState({}, fact(saved, "evaluator", dict))
        most = self._config.updates
        self.best_update, self.in_a_row = (count(facts, name, most) for name in ("best_update", "in_a_row"))
        self.last = count(facts, "last", most, least=-1)  # before the first evaluation
        if facts.facts.get("value") is not None:
            like = self._loop.network.get_weights()
            weights = [array(saved, f"best.{i}", item.shape, item.dtype).copy() for i, item in enumerate(like)]
            value = fact(facts, "value", float)
            if math.isnan(value):
                raise StateMismatchError("'value' is no number")
            self._best = Best(weights, value, None)

    @property
    def reachable(self) -> Bools | None:
        """The non-terminal states that an episode can reach, `[S]`; None without a table or before an evaluation."""
        return self._reference[1].visited if self._reference else None

    def has_something_to_keep(self) -> bool:
        """Return whether a failure now would leave weights worth saving: evaluated ones, or finite last ones."""
        if self._environment.table is not None:
            return self._best is not None
        return self.last > 0 and bool(np.isfinite(self._tabulated(self._loop.network)).all())

    def best(self) -> tuple[LazyNetwork, exact.Verdict | None]:
        """Return a new network with the best weights, including its mask, and the verdict on it.

        The weights are the current ones if none were evaluated. If the user asked to stop, the verdict is what is known
        of it: without the lengths of episodes, or None.
        """
        network, learned = self._best_network()
        q_values, verdict = self._masked(learned), None
        self._latest = self._latest_best or self._latest
        with contextlib.suppress(StopPlanning):
            verdict = self._verdict(q_values)
            verdict = self._verdict(q_values, final=True)
        return network, verdict

    def _best_network(self) -> tuple[LazyNetwork, NDArray[np.floating]]:
        """Return a new network with the best weights, and its Q values `[S, A]`, both unscaled, without its mask."""
        config, allowed = self._config, self._masks.allowed
        weights, _, learned = self._best or Best(copies(self._loop.network), math.nan, None)
        if config.network.kind == OWN_KIND:
            network = copy_network(self._loop.network)
            network.set_weights(weights)
            network = scale_q_values(network, config.target.reward_scale)
            learned = self._tabulated(network)
            return LazyNetwork.of(network if allowed is None else with_mask(network, allowed)), learned
        spec = network_spec(config, self._environment)
        if learned is None or config.target.reward_scale != 1:
            with borrowed_network(spec, weights) as network:
                weights = copies(scale_q_values(network, config.target.reward_scale))
                learned = self._tabulated(network)
        return LazyNetwork(spec, weights, allowed), learned

    def _tabulated(self, network: keras.Model) -> NDArray[np.floating]:
        """Return the Q values of all states, `[S, A]`.

        Of too many states for a table: of none, or one row of NaN if a weight is not finite.
        """
        if self._environment.tabulated:
            return tabulate(network, self._environment.states)
        finite = all(np.isfinite(weight).all() for weight in network.get_weights())
        return np.full((0 if finite else 1, self._environment.actions), np.nan, np.float32)

    def _masked(self, q_values: NDArray[np.float32]) -> NDArray[np.float32]:
        allowed = self._masks.allowed
        return q_values if allowed is None else np.where(allowed, q_values, np.float32(-np.inf))

    def _verdict(self, q_values: NDArray[np.float32], final: bool = False) -> exact.Verdict | None:
        """Evaluate the greedy policy; not again if it is the latest that was evaluated.

        Only the `final` verdict has intervals and the lengths of episodes: each takes about as long as all the rest.
        """
        table, resets = self._environment.table, self._environment.start_resets
        if table is None:
            return None
        target = self._target(table)
        policy = exact.policy_of(q_values, table.action_mask, table)
        latest = self._latest
        other = latest is None or latest[0] is not target or not np.array_equal(latest[1], policy)
        if latest is None or other or (final and table.logged is not None):
            latest = self._latest = target, policy, exact.evaluate_policy(target, policy, resets, intervals=final)
        verdict = exact.with_lengths(latest[2], target, policy) if final else latest[2]
        return exact.with_q_error(verdict, target, q_values)

    def _target(self, table: TransitionTable) -> exact.Reference:
        """Return the optima, recomputed whenever more of the mask is known."""
        if self._reference is None or self._reference[0] != self._masks.known:
            discounts = (self._config.evaluation.objective_discount, self._config.discount)
            found = exact.reference(table, self._environment.horizon, *discounts, self._masks.allowed)
            self._reference = (self._masks.known, found)
        return self._reference[1]


def copies(network: keras.Model) -> list[Any]:
    """Return copies of a network's weights."""
    return [weight.copy() for weight in network.get_weights()]


def record_of(update: int, verdict: exact.Verdict) -> Evaluated:
    """Return the part of a verdict that is logged."""
    known = math.isfinite(verdict.value)
    return Evaluated(
        update,
        verdict.optimal,
        verdict.value if known else None,
        verdict.value_gap if known else None,
        verdict.gap,
        verdict.start_states,
        verdict.optimal_start_states,
        verdict.q_error.max if verdict.q_error else None,
    )
