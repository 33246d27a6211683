"""Read the log's curves: step size, length of the training, and how far values propagated.

**Possible values.** A td_target is an outcome's reward plus the discounted value of the next state. So as long as
updates do not overshoot, that is, move Q values at most to their targets, all of them stay within the range of the
best and worst luck, which is computed exactly and extended by 0 and the network's initial value, with the noise about
that value of randomly initialized weights (a Q table has none), which their initializers and sizes determine.

**Staleness.** A value propagates one step back per refresh of the target network (up to n steps with n-step targets).
After m hard copies Q is at best the m + 1-th sweep of value iteration, so a policy that needs more sweeps cannot be
found.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import OWN_KIND, TrainConfig
from deeptaxi.diagnosis import cures
from deeptaxi.diagnosis.case import Case, Check, Finding, Unchecked, only, the
from deeptaxi.diagnosis.fit import measure_fit, plain_pairs
from deeptaxi.diagnosis.q_values import scatters_by_noise
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools, Floats, TransitionTable
from deeptaxi.metrics import History, Snapshot, Started

OWN_DEVIATION = 0.1  # of the fresh Q values of a network that the user builds, before --reward-scale: a guess
RARELY = 3.0  # standard deviations beyond the expected maximum: P ≤ exp(−3²/2) = 0.011
OVERSHOT = 0.1  # of the possible range
FAR_OUT = 1.0  # of the possible range: more than noise can explain
RESTLESS_POLICY = 0.1  # fraction of states whose greedy action changes between two snapshots
NO_REST = 0.3  # the same, beyond doubt
RESTLESS_VALUES = 0.02  # mean change of Q between two snapshots, relative to the range of Q
GROWN = 3.0  # relative to the smallest td_error so far
DRIFT = 0.1  # of the range of Q*, still to go
FAR_BELOW = 5.0  # times: a step that is that much smaller than the usual one
HARDLY = 0.25  # of the way from the initial value to a plain reward


def possible_range(table: TransitionTable, discount: float, start_value: float) -> tuple[float, float]:
    """Return the lowest and highest value that luck allows, extended by 0 and the initial value."""
    best = planning.value_iteration(with_luck(table), discount).value.max()
    worst = -planning.value_iteration(with_luck(replace(table, reward=-table.reward)), discount).value.max()
    return min(0.0, start_value, float(worst)), max(0.0, start_value, float(best))


def with_luck(table: TransitionTable) -> TransitionTable:
    """Return the problem in which the agent also chooses the outcome: one action per (action, outcome)."""
    shape = (table.states, -1, 1)
    possible = table.probability > 0
    if table.action_mask is not None:
        possible &= table.action_mask[:, :, None]
    first = np.argmax(possible.reshape(table.states, -1), axis=1)  # stands in for the impossible ones

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
    """Convert a curve of the log to numbers, with NaN for missing ones."""
    return np.array([math.nan if value is None else value for value in values], np.float64)


def part(values: Floats, first: float, last: float) -> Floats:
    """Return the part of a curve between two fractions of its length, at least one point."""
    start = min(int(first * len(values)), max(0, len(values) - 1))
    return values[start : max(start + 1, math.ceil(last * len(values)))]


def diverged(case: Case) -> Finding | None:
    """Detect Q values or losses that are no longer finite."""
    history = case.history
    losses = finite(item.loss for item in history.progress) if history else np.zeros(0)
    failure = history.failure if history else None
    lost = int((~np.isfinite(losses)).sum())
    if not case.broken and not lost and not (failure and "the training diverged" in failure):
        return None
    where = (
        f"{case.broken} of {case.states} states have NaN or infinite Q values"
        if case.broken
        else (failure or f"{lost} of {len(losses)} records of the log have a loss that is not finite")
    )
    return Finding(
        "diverged",
        "severe",
        where,
        {"broken_states": case.broken, "broken_reports": lost, "failure": failure},
        "network" if case.broken else "log",
        "the updates were too large: each overshot its target by more than the one before",
        lower_rate(case.config, history.started if history else None, case.usual),
    )


def lower_rate(config: TrainConfig | None, begun: Started | None = None, usual: TrainConfig | None = None) -> str:
    """Return the options for smaller steps; `begun` supplies the present ones without a configuration."""
    if config is None and begun is not None and begun.tabular_step is not None:
        return f"--tabular-step {min(begun.tabular_step / 10, 0.1):.2g}"
    if config is None:
        return "--learning-rate 0.003"
    return cures.format_options(cures.smaller_step(config, usual))


def learning_rate_too_high(case: Case) -> Finding | Unchecked | None:
    """Detect updates that overshoot: Q outside its possible range, or Q, policy and td_error that do not settle."""
    history = the(case.history)
    snapshots = history.snapshots
    if len(snapshots) < 2:
        return Unchecked("the log has fewer than two snapshots of the Q values")
    signs = {**overshooting(case, history), **restless(history)}
    if case.harmful is False:
        return None  # it settled anyway, or was stopped as soon as it was good
    if not signs:
        return None
    texts = {
        "overshoot": "Q or its td_error left the range of possible values by {overshoot:.2g} times its width",
        "td_error_grew": "the td_error grew to {td_error_grew:.3g} times its earlier minimum",
        "policy_change": "in the last quarter, {policy_change:.0%} of the greedy actions still change from snapshot to "
        "snapshot, and Q by {q_change:.1%} of its range",
    }
    exactly = "overshoot" in signs
    certain = signs.get("overshoot", 0) > FAR_OUT or "td_error_grew" in signs or signs.get("policy_change", 0) > NO_REST
    if not is_large_step(case.config, case.usual, 1 / cures.CLEARLY if exactly else cures.CLEARLY):
        return None  # others learn with such steps: something else keeps it from settling
    if scatters_by_noise(case):
        return None  # as any step would let it that does not become smaller
    return Finding(
        "learning-rate-too-high",
        case.worst if certain else "warning",
        "; ".join(text.format(**signs) for key, text in texts.items() if key in signs),
        {**signs, "learning_rate": history.started.learning_rate if history.started else None},
        "exact" if exactly else "log",
        "each update overshoots its target, so Q values oscillate around the right ones instead of settling",
        lower_rate(case.config, usual=case.usual),
    )


def is_large_step(config: TrainConfig | None, usual: TrainConfig | None, times: float) -> bool:
    """Whether the steps are larger than so many times the usual ones, or may be, as far as that is known."""
    if config is None or usual is None or cures.step_size(config)[0] != cures.step_size(usual)[0]:
        return True
    same = config.optimizer.name == usual.optimizer.name
    return not same or cures.step_size(config)[1] > times * cures.step_size(usual)[1]


def overshooting(case: Case, history: History) -> dict[str, float]:
    """Return how far Q left its possible range during training, relative to its width; empty if it did not.

    A td_error, the distance between two values in that range, is at most its width.
    """
    discount = case.training_discount
    if case.table is None or discount is None or discount >= 1:
        return {}
    start, scale, noise = 0.0, 1.0, largest_of(OWN_DEVIATION, case.states, case.actions)
    if case.config is not None:
        start, scale = case.config.network.initial_value, case.config.target.reward_scale
        noise = fresh_noise(case.config, case.states, case.actions)
    low, high = possible_range(case.table, discount, start)
    width = max(high - low, 1e-9)
    errors = scale * finite(item.td_error for item in history.progress)
    values = [max(low - item.q_min, item.q_max - high) - noise for item in numbered_snapshots(history)]
    overshoot = max([*values, float(np.nanmax(errors, initial=0.0)) - width - 2 * noise]) / width
    return {"overshoot": overshoot, "lowest": low, "highest": high} if overshoot > OVERSHOT else {}


def numbered_snapshots(history: History) -> list[Snapshot]:
    """Return the snapshots with finite Q values; the log holds null if the network diverged."""
    return [item for item in history.snapshots if None not in (item.q_min, item.q_max, item.q_mean)]


def fresh_noise(config: TrainConfig, states: int, actions: int) -> float:
    """Return how far the Q values of a fresh network may lie from its initial value, in the rewards' units."""
    return largest_of(fresh_deviation(config, states, actions), states, actions)


def largest_of(deviation: float, states: int, actions: int) -> float:
    """Return what the largest of `states` · `actions` = n Gaussian values exceeds in one of a hundred networks.

    On average it is σ·√(2·ln n) at most, and it scatters about its mean by σ at most, however the values depend on each
    other (Borell, 1975; Tsirelson, Ibragimov & Sudakov, 1976).
    """
    return deviation * (math.sqrt(2 * math.log(max(states * actions, 2))) + RARELY)


def fresh_deviation(config: TrainConfig, states: int, actions: int) -> float:
    """Return the standard deviation of a fresh network's Q values, in the rewards' units; 0 without hidden layers.

    Glorot's uniform weights have the variance 2 / (fan_in + units) (Glorot & Bengio, 2010, equation 16), of which one
    row is read per factor of the state; ReLU passes half of the second moment, other activations at most all of it.
    A dueling head adds the variance of the value to that of the advantage about its mean.
    """
    hidden, dueling = config.network.hidden, config.network.dueling
    if config.network.kind == OWN_KIND:
        return OWN_DEVIATION * config.target.reward_scale
    if not hidden:
        return 0.0
    factored = config.network.encoding == "factored"
    parts = max(1.0, math.log2(states)) if factored else 1.0  # at most: a factor has two values or more
    variance = 2 * parts / ((parts if factored else states) + hidden[0])
    passes = 0.5 if config.network.activation == "relu" else 1.0
    for before, after in itertools.pairwise(hidden):
        variance *= passes * before * 2 / (before + after)
    inputs = passes * hidden[-1] * variance  # the sum of squares that an output sees
    advantage = inputs * 2 / (hidden[-1] + actions)
    if dueling:
        advantage = advantage * (1 - 1 / actions) + inputs * 2 / (hidden[-1] + 1)
    return math.sqrt(advantage) * config.target.reward_scale


def restless(history: History) -> dict[str, float]:
    """Return the signs of a training that does not settle, by name."""
    signs: dict[str, float] = {}
    errors = finite(item.td_error for item in history.progress)
    snapshots = numbered_snapshots(history)
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
    """Detect Q values that are not fitted yet: small steps, or values that drift in one direction to the end."""
    if case.harmful is False:
        return None
    for unfitted in (unfitted_by_small_steps(case), hardly_left(case)):
        if unfitted is not None:
            return unfitted
    snapshots = numbered_snapshots(the(case.history))
    if len(snapshots) < 8:
        return Unchecked("the log has fewer than eight snapshots of the Q values")
    means = finite(item.q_mean for item in snapshots[len(snapshots) // 2 :])
    steps, moved = np.diff(means), float(means[-1] - means[0])
    steady = float((np.sign(steps) == np.sign(moved)).mean())
    left = float((case.q_star[case.learned_pairs] - the(case.q)[case.learned_pairs]).mean())
    if steady < 0.9 or abs(left) < DRIFT * case.span or np.sign(left) != np.sign(moved) or abs(moved) > 5 * abs(left):
        return None
    if scatters_by_noise(case):
        return None  # as values of any sign do that wander
    return Finding(
        "learning-rate-too-low",
        "warning",
        f"in the second half the mean Q value moved by {moved:.3g}, always in the same direction, and still has "
        f"{left:.3g} to go",
        {"moved": moved, "to_go": left, "steady": steady, "updates": snapshots[-1].update},
        "exact",
        "the updates are so small that the training ended before the values arrived",
        higher_rate(case.config, case.usual),
    )


def unfitted_by_small_steps(case: Case) -> Finding | None:
    """Detect steps far below the usual ones where even plain rewards, which need no other value, are not fitted."""
    config, usual = case.config, case.usual
    if config is None or usual is None or config.optimizer.name != usual.optimizer.name:
        return None
    (setting, step), (usual_setting, common) = cures.step_size(config), cures.step_size(usual)
    if setting != usual_setting or step * FAR_BELOW > common:
        return None
    fit = measure_fit(case)
    if fit is None or fit.plain_rewards is None or fit.kind != "not fitted":
        return None
    pairs = f"the {fit.plain_pairs} pairs" if fit.plain_pairs > 1 else "the one pair"
    return Finding(
        "learning-rate-too-low",
        "warning",
        f"the steps are {common / step:.3g} times smaller than usual, and even at {pairs} whose target is a plain "
        f"reward Q is still off by {fit.plain_rewards:.3g}, where Q* ranges over {fit.span:.3g}",
        {"step": step, "usual_step": common, "plain_rewards": fit.plain_rewards, "plain_pairs": fit.plain_pairs,
         "span": fit.span, "updates": config.updates},
        "exact",
        "the updates are so small that the training ended before the values arrived",
        higher_rate(config, usual),
    )  # fmt: skip


def hardly_left(case: Case) -> Finding | None:
    """Detect values that hardly left where they began, by an optimizer whose steps compare to no usual ones."""
    config, usual, fit = case.config, case.usual, measure_fit(case)
    if config is None or usual is None or steps_alike(config, usual):
        return None
    if fit is None or fit.plain_rewards is None or fit.kind != "not fitted":
        return None
    plain, start = plain_pairs(case) & case.learned_pairs, config.network.initial_value
    way = the(case.table).expected_reward - start
    far = plain & (np.abs(way) >= np.abs(way[plain]).max() / 2)  # a reward of 0 is near to a fresh network's values
    whole = float(np.abs(way[far]).mean())
    moved = float(((the(case.q)[far] - start) * np.sign(way[far])).mean())
    if abs(moved) > HARDLY * whole:
        return None
    held = [f"clip_norm {config.optimizer.clip_norm:g}"] if config.optimizer.clip_norm is not None else []
    held += [f"{name} {value}" for name, value in config.optimizer.options.items()]
    pairs = f"the {int(far.sum())} pairs" if far.sum() > 1 else "the one pair"
    return Finding(
        "learning-rate-too-low",
        "warning",
        f"at {pairs} whose target is a plain reward, {whole:.3g} from the initial value, Q moved by {moved:.2g}: "
        f"{config.optimizer.name} makes small steps with its learning rate" + "".join(f" and {one}" for one in held),
        {"moved": moved, "whole_way": whole, "pairs": int(far.sum()), "plain_rewards": fit.plain_rewards,
         "span": fit.span, "updates": config.updates},
        "exact",
        "the updates are so small that the training ended before the values arrived",
        with_usual_steps(config, usual),
    )  # fmt: skip


def with_usual_steps(config: TrainConfig, usual: TrainConfig) -> str:
    """Return what makes steps usual ones: options, and in words what no option takes back."""
    typed = cures.format_options(cures.to_usual(config, usual, *cures.STEP))
    if config.optimizer.options == usual.optimizer.options:
        return typed or higher_rate(config, usual)
    return "leave out [optimizer.options] of the configuration" + (f", with {typed}" if typed else "")


def steps_alike(config: TrainConfig, usual: TrainConfig) -> bool:
    """Whether learning rates compare: of one optimizer with the same options."""
    return all(
        getattr(config.optimizer, name) == getattr(usual.optimizer, name) for name in ("name", "clip_norm", "options")
    )


def higher_rate(config: TrainConfig | None, usual: TrainConfig | None) -> str:
    """Return the options for larger steps, or for more of them where the step is as large as usual."""
    if config is None:
        return "--learning-rate 0.005"
    if config.schedule_length < config.updates / 2:  # the last steps are small, not the first
        return cures.format_options(cures.whole_schedule(config, usual))
    step, now = cures.larger_step(config, usual), cures.step_size(config)[1]
    if usual is not None and cures.step_size(usual)[1] <= cures.CLEARLY * now and config.updates < usual.updates:
        step = cures.more_updates(config, usual)
    return cures.format_options(step)


STEP_SIZE_CHECKS = (
    Check("diverged", (), diverged),
    Check("learning-rate-too-high", ("history",), learning_rate_too_high),
    Check("learning-rate-too-low", ("history", "q", "discount"), learning_rate_too_low),
)


SAMPLES = 10  # of a pair, below which nothing can be learned
TOO_DEEP = 2_000  # sweeps
PROBES = 256  # start states that are looked at first
MANY = 1_000  # steps of propagation that suffice for any problem
PLACE = re.compile(r"\(([^()]+:\d+, in [^()]+)\)$")  # at the end of an environment's error
DIVERGED = "the training diverged"  # the wording of divergence errors
QUICK = 0.05  # polyak over period, as quick as targets usually follow
FRESH = 0.2  # fraction by which the target network moves per update


def depth(case: Case, discount: float, start_value: float) -> int | None:
    """Return how many sweeps make the greedy policy optimal on its path; see `depth_of`."""
    return depth_of(the(case.table), case.optimal, discount, start_value)


def depth_of(table: TransitionTable, optimal: Bools, discount: float, start_value: float) -> int | None:
    """Return how many sweeps of value iteration make the greedy policy `optimal` `[S, A]` on its path from the starts.

    Sweeps begin at Q = `start_value`. None if `TOO_DEEP` sweeps do not suffice.
    """
    mask = table.action_mask
    q, starts = np.full((table.states, table.actions), start_value), np.flatnonzero(table.start > 0)
    probes = starts[:: -(-len(starts) // PROBES)]
    for sweep in range(1, TOO_DEEP):
        value = planning.greatest(q if mask is None else np.where(mask, q, -np.inf))
        better = planning.bellman(table, value, discount, mask)
        some = planning.greedy_policy(better[probes], None if mask is None else mask[probes])
        policy = planning.greedy_policy(better, mask) if optimal[probes, some].all() else None
        if policy is not None and optimal[starts, policy[starts]].all():  # else the path is not needed
            passed = np.flatnonzero(planning.reachable(table, only(policy, table.actions)))
            if optimal[passed, policy[passed]].all():
                return sweep
        if np.array_equal(better, q):
            return None
        q = better
    return None


def target_too_stale(case: Case) -> Finding | Unchecked | None:
    """Detect a target network refreshed less often than values have to propagate."""
    config = the(case.config)
    target, finished = config.target, the(case.history).finished
    updates = finished.updates if finished else config.updates
    refreshes = updates / target.period * target.polyak
    if refreshes * target.n_step > MANY:
        return None
    needed = depth(case, the(case.training_discount), config.network.initial_value)
    steps = (math.floor(refreshes) + 1) * target.n_step
    exactly = target.polyak == 1
    if needed is None or steps >= needed or (case.harmful is False and not exactly):
        return None
    if is_too_short(config, case.usual, updates, needed):
        return None  # which no target network would make up for
    return Finding(
        "target-too-stale",
        case.worst if exactly else "warning",
        f"the target network was refreshed {refreshes:.3g} times, which carries values back by {steps} steps; "
        f"the optimal policy needs {needed}",
        {"refreshes": refreshes, "n_step": target.n_step, "steps": steps, "depth": needed},
        "exact" if exactly else "log",
        "a value travels back one step at each refresh of the target network",
        faster_target(config, case.usual, updates, needed),
    )


def is_too_short(config: TrainConfig, usual: TrainConfig | None, updates: int, needed: int) -> bool:
    """Whether values could not come back by the `needed` steps at a usual speed of the target network either."""
    speeds = [one.target.polyak / one.target.period for one in (config, usual) if one is not None]
    speed = max(*speeds, QUICK)
    return (math.floor(updates * speed) + 1) * config.target.n_step < needed


def faster_target(config: TrainConfig, usual: TrainConfig | None, updates: int, needed: int) -> str:
    """Return the options by which the target network follows sooner, or else for as many refreshes as are needed."""
    target = config.target
    speed = target.polyak / target.period
    polyak, period = (usual.target.polyak, usual.target.period) if usual is not None else (0.02, 1)
    sooner = (polyak, period) if polyak / period > cures.CLEARLY * speed else (0.02, 1)
    if sooner[0] / sooner[1] > cures.CLEARLY * speed:
        return cures.format_options(cures.differing(config, {cures.PERIOD: sooner[1], cures.POLYAK: sooner[0]}))
    enough = 1_000 * math.ceil(2 * needed / speed / target.n_step / 1_000)
    return cures.format_options(cures.more_updates(config, usual, max(enough, 2 * updates)))


def target_too_fresh(case: Case) -> Finding | None:
    """Detect a target network that follows immediately, with shared weights that do not settle."""
    config = the(case.config)
    speed, signs = config.target.polyak / config.target.period, restless(the(case.history))
    if speed < FRESH or config.network.kind == "q-table" or not signs:
        return None
    return Finding(
        "target-too-fresh",
        "warning",
        f"the target network moves by {config.target.polyak:g} every {config.target.period} updates, and the training "
        "does not settle",
        {"polyak": config.target.polyak, "period": config.target.period, **signs},
        "log",
        "a network that shares weights chases its own predictions if the target follows immediately",
        cures.format_options(cures.differing(config, {cures.POLYAK: 0.02, cures.PERIOD: 1})),
    )


def interrupted(case: Case) -> Finding | Unchecked | None:
    """Detect a training that did not finish, without an error of its own."""
    history = the(case.history)
    done = history.finished
    if case.running is not None:
        return Unchecked(f"the training is still running, by {case.running}")
    if history.failure is not None or (done is not None and done.stopped != "interrupted"):
        return None
    if done is None and case.config is not None and case.q is not None:  # a run is saved at the end of its training
        cause = "the run was saved, so its log could not be completed, or was truncated afterwards"
        return unfinished(case, "interrupted", "its log stops there", cause, "train it again for a complete log")
    return unfinished(
        case,
        "interrupted",
        "it was stopped" if done else "it ended abruptly",
        "it was stopped" if done else "it ended abruptly",
        "resume it with `deeptaxi train --resume`, or train it again to the end",
    )


def cause_of_failure(case: Case) -> str | None:
    """Return the kind of error that ended the training: "environment", "diverged" or "other"; None if none did."""
    history = the(case.history)
    if case.running is not None or history.failure is None:
        return None
    if history.finished is not None:  # a run was saved: these are the only causes
        return "diverged" if DIVERGED in history.failure else "environment"
    return history.failed.cause if history.failed else None


def environment_failed(case: Case) -> Finding | None:
    """Detect a training ended by an error of the environment."""
    if cause_of_failure(case) != "environment":
        return None
    failure = the(the(case.history).failure)
    where = PLACE.search(failure)
    cure = f"fix the environment {f'at {where[1]}' if where else 'where the error says'}, then train again"
    return unfinished(case, "environment-failed", failure, "the environment's own code ended the training", cure)


def training_failed(case: Case) -> Finding | None:
    """Detect a training ended by another error, such as a full disk."""
    if cause_of_failure(case) != "other":
        return None
    failure = the(the(case.history).failure)
    return unfinished(case, "training-failed", failure, failure, "fix what the error names, then train again")


def unfinished(case: Case, name: str, why: str, cause: str, cure: str) -> Finding:
    """Create the finding for a training that ended before its last update."""
    history = the(case.history)
    done = history.finished
    planned = history.started.updates if history.started else None
    last = done.updates if done else max((item.update for item in history.progress), default=0)
    return Finding(
        name,
        "severe" if name == "environment-failed" else case.worst,
        f"the training ended after {last:,} of {planned:,} updates: {why}" if planned else f"the training ended: {why}",
        {"updates": last, "planned": planned, "failure": history.failure},
        "log",
        cause,
        cure,
    )


def untrained(case: Case) -> Finding | Unchecked | None:
    """Detect a training in which each pair was sampled only a handful of times."""
    config, history = the(case.config), the(case.history)
    updates = history.finished.updates if history.finished else max((i.update for i in history.progress), default=0)
    if case.table is not None:
        pairs = int(case.pairs.sum())
    elif case.visits is not None:
        pairs = int((case.visits > 0).sum())
    else:
        return Unchecked(case.missing("visits"))
    samples = updates * config.replay.batch_size / max(1, pairs)
    if samples >= SAMPLES:
        return None
    return Finding(
        "untrained",
        case.worst,
        f"{updates:,} updates of {config.replay.batch_size} transitions are {samples:.2g} for each of {pairs:,} pairs",
        {"updates": updates, "batch_size": config.replay.batch_size, "pairs": pairs, "samples_per_pair": samples},
        "exact" if case.table is not None else "log",
        "the training was too short to learn anything",
        cures.format_options(enough_samples(config, case.usual, pairs)),
    )


def enough_samples(config: TrainConfig, usual: TrainConfig | None, pairs: int) -> dict[cures.Path, Any]:
    """Return as many updates and as large a minibatch as are usual, or `ENOUGH` samples for each of the pairs."""
    batch = max(config.replay.batch_size, usual.replay.batch_size if usual is not None else 1)
    larger = {cures.BATCH: batch} if batch > cures.CLEARLY * config.replay.batch_size else {}
    enough = 1_000 * max(1, math.ceil(cures.ENOUGH * pairs / batch / 1_000))
    there = usual.updates if usual is not None else 0
    longer = max(enough, there)
    return larger | (cures.more_updates(config, usual, enough) if longer > config.updates or not larger else {})


PROGRESS_CHECKS = (
    Check("interrupted", ("history",), interrupted),
    Check("environment-failed", ("history",), environment_failed),
    Check("training-failed", ("history",), training_failed),
    Check("untrained", ("config", "history", "q"), untrained),
    Check("target-too-stale", ("config", "history", "table", "discount"), target_too_stale),
    Check("target-too-fresh", ("config", "history"), target_too_fresh),
)
