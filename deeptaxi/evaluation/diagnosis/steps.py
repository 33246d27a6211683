"""What the curves of the log tell about the length of the steps: did Q values overshoot, and did they come to rest?

**Possible values.** A td_target is an outcome's reward and the discounted value of where it led. So as long as updates
do not overshoot, that is, move Q values at most to their targets, all of them stay in the range of what the best and
the worst luck can bring, which is computed exactly; 0 and the value that the network starts at belong to it, with the
noise about that value that a network of random weights is born with (a Q table has none).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import TrainConfig
from deeptaxi.evaluation.diagnosis.case import Case, the
from deeptaxi.evaluation.diagnosis.check import Check, Unchecked
from deeptaxi.evaluation.diagnosis.findings import Finding
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Floats, TransitionTable
from deeptaxi.metrics import History, Snapshot, Started

NOISE = 0.25  # of a fresh network's Q values about the value that it starts at, before --reward-scale
OVERSHOT = 0.1  # of the possible range
FAR_OUT = 1.0  # of the possible range: no noise does that
RESTLESS_POLICY = 0.1  # share of the states whose greedy action changes between two snapshots
NO_REST = 0.3  # the same, where there can be no doubt
RESTLESS_VALUES = 0.02  # mean change of Q between two snapshots, over the range of Q
GROWN = 3.0  # times the smallest td_error on the way
DRIFT = 0.1  # of the range of Q*, still to go


def possible_range(table: TransitionTable, discount: float, start_value: float) -> tuple[float, float]:
    """Return the lowest and the highest value that luck can bring, with 0 and the value at the start."""
    best = planning.value_iteration(with_luck(table), discount).value.max()
    worst = -planning.value_iteration(with_luck(replace(table, reward=-table.reward)), discount).value.max()
    return min(0.0, start_value, float(worst)), max(0.0, start_value, float(best))


def with_luck(table: TransitionTable) -> TransitionTable:
    """Return the problem in which the outcome is chosen as well: an action for each (action, outcome)."""
    shape = (table.states, -1, 1)
    possible = table.probability > 0
    if table.action_mask is not None:
        possible &= table.action_mask[:, :, None]
    first = np.argmax(possible.reshape(table.states, -1), axis=1)  # stands for the impossible ones

    def chosen(values: NDArray[Any]) -> NDArray[Any]:
        flat = values.reshape(table.states, -1)
        filled = np.where(possible.reshape(flat.shape), flat, flat[np.arange(table.states), first][:, None])
        return np.asarray(filled.reshape(shape))

    return TransitionTable(
        np.ones_like(chosen(table.probability)),
        chosen(table.next_state),
        chosen(table.reward),
        chosen(table.terminated),
        table.start,
    )


def finite(values: Iterable[float | None]) -> Floats:
    """Return a curve of the log as numbers; what was no number is NaN."""
    return np.array([math.nan if value is None else value for value in values], np.float64)


def part(values: Floats, first: float, last: float) -> Floats:
    """Return the part of a curve between two shares of its length, at least one point of it."""
    start = min(int(first * len(values)), max(0, len(values) - 1))
    return values[start : max(start + 1, math.ceil(last * len(values)))]


def diverged(case: Case) -> Finding | None:
    """Name Q values or losses that are no numbers any more."""
    history = case.history
    losses = finite(item.loss for item in history.progress) if history else np.zeros(0)
    failure = history.failure if history else None
    lost = int((~np.isfinite(losses)).sum())
    if not case.broken and not lost and not (failure and "the training diverged" in failure):
        return None
    where = (
        f"{case.broken} of {case.states} states have Q values that are no numbers"
        if case.broken
        else (failure or f"{lost} of {len(losses)} reports of the log have a loss that is no number")
    )
    return Finding(
        "diverged",
        "severe",
        where,
        {"broken_states": case.broken, "broken_reports": lost, "failure": failure},
        "network" if case.broken else "log",
        "the steps were too long: each overshot its target by more than the one before",
        lower_rate(case.config, history.started if history else None),
    )


def lower_rate(config: TrainConfig | None, begun: Started | None = None) -> str:
    """Return the option of a tenth of the learning rate; `begun` tells it where there is no configuration."""
    if config is None and begun is not None and begun.tabular_step is not None:
        return f"--tabular-step {min(begun.tabular_step / 10, 0.1):.2g}"
    if config is None:
        return "--learning-rate 0.003"
    if config.optimizer.tabular_step is not None:
        return f"--tabular-step {min(config.optimizer.tabular_step / 10, 0.1):.2g}"
    sound = 0.05 if config.network.kind == "q-table" else 0.003
    return f"--learning-rate {min((config.optimizer.learning_rate or sound) / 10, sound):.2g}"


def learning_rate_too_high(case: Case) -> Finding | Unchecked | None:
    """Name updates that overshoot: Q out of its possible range, or Q, policy and td_error that do not come to rest."""
    history = the(case.history)
    snapshots = history.snapshots
    if len(snapshots) < 2:
        return Unchecked("the log has fewer than two snapshots of the Q values")
    signs = {**overshooting(case, history), **restless(history)}
    if case.harmful is False:
        return None  # it came to rest all the same, or was stopped as soon as it was good
    if not signs:
        return None
    told = {
        "overshoot": "Q or its td_error left the range of values that are possible, by {overshoot:.2g} times its width",
        "td_error_grew": "the td_error grew to {td_error_grew:.3g} times its smallest value on the way",
        "policy_change": "in the last quarter, {policy_change:.0%} of the greedy actions still change from snapshot to "
        "snapshot, and Q by {q_change:.1%} of its range",
    }
    exactly = "overshoot" in signs
    certain = signs.get("overshoot", 0) > FAR_OUT or "td_error_grew" in signs or signs.get("policy_change", 0) > NO_REST
    return Finding(
        "learning-rate-too-high",
        case.worst if certain else "warning",
        "; ".join(text.format(**signs) for key, text in told.items() if key in signs),
        {**signs, "learning_rate": history.started.learning_rate if history.started else None},
        "exact" if exactly else "log",
        "each update overshoots its target, so that Q values swing about the right ones instead of settling",
        lower_rate(case.config),
    )


def overshooting(case: Case, history: History) -> dict[str, float]:
    """Return by how much Q left its possible range on the way, in widths of it; nothing where it did not.

    A td_error, the distance of two values of that range, is at most its width.
    """
    discount = case.training_discount
    if case.table is None or discount is None or discount >= 1:
        return {}
    start, scale, noise = 0.0, 1.0, NOISE
    if case.config is not None:
        start, scale, noise = case.config.network.initial_value, case.config.target.reward_scale, born(case.config)
    low, high = possible_range(case.table, discount, start)
    width = max(high - low, 1e-9)
    errors = scale * finite(item.td_error for item in history.progress)
    values = [max(low - item.q_min, item.q_max - high) - noise for item in numbered(history)]
    overshoot = max([*values, float(np.nanmax(errors, initial=0.0)) - width - 2 * noise]) / width
    return {"overshoot": overshoot, "lowest": low, "highest": high} if overshoot > OVERSHOT else {}


def numbered(history: History) -> list[Snapshot]:
    """Return the snapshots whose Q values were numbers; a log holds null where a network had run away."""
    return [item for item in history.snapshots if None not in (item.q_min, item.q_max, item.q_mean)]


def born(config: TrainConfig) -> float:
    """Return how far a fresh network's Q values may lie from the value that it starts at."""
    return 0.0 if config.network.kind == "q-table" else NOISE * config.target.reward_scale


def restless(history: History) -> dict[str, float]:
    """Return the signs of a training that does not come to rest, by name."""
    signs: dict[str, float] = {}
    errors = finite(item.td_error for item in history.progress)
    snapshots = numbered(history)
    if len(errors) >= 10 and snapshots:
        blocks = [float(np.median(block)) for block in np.array_split(errors, 10)]
        scale = max(abs(snapshots[-1].q_max), abs(snapshots[-1].q_min), 1e-9)
        if blocks[-1] > GROWN * max(min(blocks), 1e-9) and blocks[-1] > OVERSHOT * scale:
            signs["td_error_grew"] = blocks[-1] / max(min(blocks), 1e-9)
    moves = [item for item in snapshots if item.q_change is not None and item.policy_change is not None]
    if len(moves) < 4:
        return signs
    late = moves[-max(2, len(moves) // 4) :]
    policy = float(np.median([item.policy_change for item in late if item.policy_change is not None]))
    values = float(np.median([(item.q_change or 0.0) / max(item.q_max - item.q_min, 1e-9) for item in late]))
    if policy >= RESTLESS_POLICY and values >= RESTLESS_VALUES:
        signs |= {"policy_change": policy, "q_change": values}
    return signs


def learning_rate_too_low(case: Case) -> Finding | Unchecked | None:
    """Name Q values that still move in one direction at the end, toward values that are far off."""
    snapshots = numbered(the(case.history))
    if len(snapshots) < 8 or case.harmful is False:
        return None if case.harmful is False else Unchecked("the log has fewer than eight snapshots of the Q values")
    means = finite(item.q_mean for item in snapshots[len(snapshots) // 2 :])
    steps, moved = np.diff(means), float(means[-1] - means[0])
    steady = float((np.sign(steps) == np.sign(moved)).mean())
    left = float((case.q_star[case.learned_pairs] - the(case.q)[case.learned_pairs]).mean())
    if steady < 0.9 or abs(left) < DRIFT * case.span or np.sign(left) != np.sign(moved) or abs(moved) > 5 * abs(left):
        return None
    return Finding(
        "learning-rate-too-low",
        "warning",
        f"in the second half the mean Q value moved by {moved:.3g}, always in the same direction, and {left:.3g} is "
        "still to go",
        {"moved": moved, "to_go": left, "steady": steady, "updates": snapshots[-1].update},
        "exact",
        "the steps are so short that the training ended on the way",
        f"{higher_rate(case.config)} or --updates {10 * snapshots[-1].update}",
    )


def higher_rate(config: TrainConfig | None) -> str:
    """Return the option of ten times the learning rate."""
    if config is None:
        return "--learning-rate 0.005"
    if config.optimizer.tabular_step is not None:
        return f"--tabular-step {min(config.optimizer.tabular_step * 10, 0.5):.2g}"
    return f"--learning-rate {(config.optimizer.learning_rate or 0.0005) * 10:.2g}"


CHECKS = (
    Check("diverged", (), diverged),
    Check("learning-rate-too-high", ("history",), learning_rate_too_high),
    Check("learning-rate-too-low", ("history", "q", "discount"), learning_rate_too_low),
)
