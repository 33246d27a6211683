"""Monitor a running training: a few cheap checks of its records, each reported once.

Planning runs only if a record raises a suspicion, except for the facts of the configuration, which are looked at once,
at the start, on tables of at most `MOST_STATES` states. Nothing is reported while the last evaluation finds the policy
optimal.

- the facts of `forecast` that leave a bad policy: at the start, before the first update.
- ``diverged``: a non-finite loss. ``learning-rate-too-high``: Q left the range r_min/(1 − γ) … r_max/(1 − γ),
  which updates that do not overshoot cannot leave, by a tenth of its width and a fresh network's noise, at two
  consecutive snapshots.
- ``one-action-collapse``: in the second half of the updates, at `LASTING` consecutive snapshots, one action is greedy
  nearly everywhere, and an optimal policy differs.
- ``epsilon-fell-too-early``: ε is at its end, pairs are untried, and `LASTING` consecutive snapshots added almost none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from deeptaxi.config import EnvironmentConfig, TrainConfig
from deeptaxi.diagnosis.exploration import LITTLE_EPSILON, epsilon_at_end, exploration_cure
from deeptaxi.diagnosis.forecast import MOST_STATES, foresee
from deeptaxi.diagnosis.ideal_training import Training
from deeptaxi.diagnosis.learning_curves import OVERSHOT, fresh_noise, lower_rate
from deeptaxi.diagnosis.policy import EXCESS
from deeptaxi.mdp import planning
from deeptaxi.mdp.remembered_values import once
from deeptaxi.mdp.table import Bools, TransitionTable
from deeptaxi.metrics import Evaluated, Progress, Snapshot, Started, Warned

LASTING = 3  # consecutive snapshots
EVERYWHERE = 0.95  # fraction of states
COVERED = 0.95  # fraction of pairs
GROWTH = 0.005  # fraction of pairs that a snapshot must add


class Monitor:
    """A callback that monitors one training and returns its findings as warnings.

    Args:
        config: the training configuration.
        table: the transition table, or None.
        allowed: the allowed actions, `[S, A]`, or None for the table's own.
        usual: returns the settings that are usual for the problem, or None; it takes time, and is called if needed.
    """

    def __init__(
        self,
        config: TrainConfig,
        table: TransitionTable | None,
        allowed: Bools | None = None,
        usual: Callable[[], TrainConfig | None] = lambda: None,
    ) -> None:
        self._config = config
        self._table = table
        self._usual = usual
        self._mask = allowed if allowed is not None or table is None else table.action_mask
        self._snapshots: list[Snapshot] = []
        self._epsilon = math.inf
        self._optimal = False
        self._found: set[str] = set()

    def __call__(self, record: object) -> list[Warned]:
        """Process the next event; return the findings that it makes certain."""
        if isinstance(record, Warned):  # by the training that this one resumes
            self._found.add(record.finding)
        elif isinstance(record, Evaluated):
            self._optimal = bool(record.optimal)
        elif isinstance(record, Progress):
            self._epsilon = record.epsilon
        elif isinstance(record, Snapshot):
            self._snapshots = [*self._snapshots[-LASTING:], record]
        if self._optimal:
            return []
        texts = {name: check() for name, check in self._checks(record) if name not in self._found}
        texts |= self._foresee() if isinstance(record, Started) else {}
        update = getattr(record, "update", 0)
        warnings = [
            Warned(update, name, f"{name}: {text}") for name, text in texts.items() if text and name not in self._found
        ]
        self._found.update(warning.finding for warning in warnings)
        return warnings

    def _checks(self, record: object) -> tuple[tuple[str, Callable[[], str | None]], ...]:
        """Return what is checked at a record, and how."""
        if isinstance(record, Progress):
            return (("diverged", lambda: self._check_loss(record)),)
        if isinstance(record, Snapshot):
            return (
                ("learning-rate-too-high", lambda: self._check_range(record)),
                ("one-action-collapse", lambda: self._check_collapse(record)),
                ("epsilon-fell-too-early", lambda: self._check_exploration(record)),
            )
        return ()

    def _foresee(self) -> dict[str, str | None]:
        """Return what of the configuration leaves a bad policy, for a training on a small table."""
        if self._table is None or self._table.states > MOST_STATES:
            return {}
        config, table = replace(self._config, seed=0, environment=EnvironmentConfig()), self._table
        allowed = np.ones(table.expected_reward.shape, np.bool_) if self._mask is None else self._mask

        def compute() -> dict[str, str | None]:
            facts = foresee(Training(self._config, table, allowed, self._usual()))
            return {name: f"{fact.text}; {fact.cure}" for name, fact in facts.items() if fact.leaves_bad_policy}

        # The seed and the environment's arguments make no difference: the runs of a group share the facts.
        return once(table, f"foreseen {config} {planning.mask_digest(allowed)}", compute)

    def _check_loss(self, record: Progress) -> str | None:
        # A log has null for non-finite numbers.
        if math.isfinite(math.nan if record.loss is None else record.loss):
            return None
        return f"the loss is no longer finite; {lower_rate(self._config, usual=self._usual())}"

    def _check_range(self, record: Snapshot) -> str | None:
        if self._table is None or len(self._snapshots) < 2:
            return None
        low, high = self._possible
        margin = OVERSHOT * (high - low) + fresh_noise(self._config, self._table.states, self._table.actions)
        beyond = [item.q_max > high + margin or item.q_min < low - margin for item in self._snapshots[-2:]]
        if not all(beyond):
            return None
        return (
            f"Q values of {record.q_min:.3g} to {record.q_max:.3g} where only {low:.3g} to {high:.3g} are possible; "
            f"{lower_rate(self._config, usual=self._usual())}"
        )

    @cached_property
    def _possible(self) -> tuple[float, float]:
        """The lowest and highest possible sum of rewards, extended by 0 and the initial value."""
        if self._table is None or self._config.discount >= 1:
            return -math.inf, math.inf
        rewards = self._table.reward[self._table.probability > 0] / (1 - self._config.discount)
        start = self._config.network.initial_value
        return min(0.0, start, float(rewards.min())), max(0.0, start, float(rewards.max()))

    def _check_collapse(self, record: Snapshot) -> str | None:
        recent = self._snapshots[-LASTING:]
        if self._table is None or record.update < self._config.updates / 2:
            return None
        lasting = len(recent) == LASTING and min(item.greedy_share for item in recent) >= EVERYWHERE
        if not lasting or len({item.greedy_action for item in recent}) > 1:
            return None
        best = self._optimal_shares[record.greedy_action]
        if best > record.greedy_share - EXCESS:
            return None
        return (
            f"action {record.greedy_action} in {record.greedy_share:.0%} of the states for {LASTING} snapshots; an "
            f"optimal policy takes it in at most {best:.0%}"
        )

    @cached_property
    def _optimal_shares(self) -> list[float]:
        """For each action, the fraction of the reachable states where it is optimal."""
        if self._table is None:
            return []
        q = planning.value_iteration(self._table, self._config.evaluation.objective_discount, self._mask).q
        shares: list[float] = planning.optimal_actions(q)[self._reached].mean(axis=0).tolist()
        return shares

    @cached_property
    def _reached(self) -> Bools:
        if self._table is None:
            return np.zeros(0, np.bool_)
        return planning.reachable(self._table, self._mask)

    @cached_property
    def _pairs(self) -> int:
        """The number of pairs that can be tried."""
        reached = self._reached
        if self._table is None:
            return 0
        return int(reached.sum()) * self._table.actions if self._mask is None else int(self._mask[reached].sum())

    def _check_exploration(self, record: Snapshot) -> str | None:
        exploration = self._config.exploration
        if self._table is None or len(self._snapshots) <= LASTING:
            return None
        if min(exploration.start, exploration.end) > LITTLE_EPSILON or self._epsilon > epsilon_at_end(exploration):
            return None
        grown = record.pairs_covered - self._snapshots[0].pairs_covered
        if record.pairs_covered >= COVERED * self._pairs or grown > LASTING * GROWTH * self._pairs:
            return None
        untried = self._pairs - record.pairs_covered
        return (
            f"ε is {self._epsilon:.2g}, {untried:,} of {self._pairs:,} pairs were never tried, and "
            f"almost none are being added; {exploration_cure(self._config, self._usual())}"
        )
