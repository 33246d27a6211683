"""What a configuration cannot learn, from the configuration and the transition table alone, before the first update.

`diagnose` takes these facts as causes of a bad policy. `train` warns, before it starts, of those that leave one: the
policy at the fixed point, or wherever values get to, scores below `GOOD`. With U updates of B transitions, a learning
rate lr_t and the values Q* at the training's discount:

    initial value   beyond what luck can earn by more than its whole range: every pair has to come down, or up, first
    hidden units    Q of h units has rank h, besides the bias of each action: the nearest such Q to Q* is its singular
                    value decomposition (Eckart & Young, 1936), and its policy is bad
    n steps         the fixed point of uncorrected sums under the mean ε of the training has a bad policy
    step            samples of a pair add up in a minibatch: the tabular step times B over the pairs is above 1
    samples         U·B over the pairs: fewer than 10, or than a value needs to travel
    travel          Adam moves a weight by about lr_t an update: their sum, times what all units add to a Q value,
                    is less than half of the way from the initial value to the farthest V*; plain SGD moves a value by
                    its step's share of the error for each sample
    refreshes       a hard copy of the target network carries values back n steps: fewer than the policy needs
    reward scale    the largest |Q*| over the scale is far from 1
    discount        at the training's discount, actions that the objective tells apart are equal
    noise           where the policy passes, sampled targets scatter by more than averages can tell actions apart

The policy that a fact leaves is mostly that of an ideal training (`ideal_training`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from deeptaxi.config import OWN_KIND
from deeptaxi.diagnosis import cures, learning_curves, setup
from deeptaxi.diagnosis.case import GOOD, Case, Check, Finding, Severity, only, the
from deeptaxi.diagnosis.ideal_training import (
    Training,
    least_epsilon,
    longest_way,
    mean_epsilon,
    n_step_score,
    overshooting_score,
    sum_of_rates,
    total_share,
)
from deeptaxi.mdp import planning

BEYOND = 1.0  # of the possible range: an initial value outside by more
MOST_STATES = 1_000  # of a table: the scores of larger ones take too long
TRAVEL = 0.5  # of the way to the farthest V*: less is not arriving
DIVERGES = 2.0  # times the error: a step by more ends farther off than it began
LARGE, SMALL = 300.0, 0.003  # in the network's units
USUAL_RATE, USUAL_TABLE_RATE = 0.003, 0.05
USUAL_MEAN = 0.5  # of a cosine schedule, over its beginning
UNSURE = 2.0  # standard errors
MANY_UNSURE = 1 / 3  # of the states on an optimal policy's path


@dataclass(frozen=True)
class Fact:
    """A fact of a configuration.

    Attributes:
        text: one sentence with the numbers that matter.
        evidence: numbers by name.
        cause: the likely cause of a bad policy, one sentence.
        cure: the options that mend it.
        score: returns the normalized score of the policy that it leaves; None if that is unknown.
    """

    text: str
    evidence: Mapping[str, Any]
    cause: str
    cure: str
    score: Callable[[], float | None]  # it takes longer than the fact, so it is computed only if that holds

    @property
    def leaves_bad_policy(self) -> bool:
        """Whether the training cannot be expected to find a good policy."""
        score = self.score()
        return score is not None and score < GOOD


_trainings: WeakKeyDictionary[Case, Training] = WeakKeyDictionary()


def of_case(case: Case) -> Training:
    """Return the training that a case is of, the same for all of its checks."""
    if case not in _trainings:
        _trainings[case] = Training(the(case.config), the(case.table), case.allowed, case.usual)
    return _trainings[case]


def initial_value_off(training: Training) -> Fact | None:
    """Detect an initial value that is far outside of what the problem can return."""
    start = training.config.network.initial_value
    if training.config.network.kind == OWN_KIND or start == 0:
        return None
    low, high = learning_curves.possible_range(training.table, min(training.discount, 0.999), 0.0)
    width = max(high - low, 1e-9)
    beyond = max(low - start, start - high) / width
    if beyond <= BEYOND:
        return None
    usual = training.usual.network.initial_value if training.usual is not None else 0.0
    return Fact(
        f"Q values begin at {start:g}, and only {low:.3g} to {high:.3g} can be earned",
        {"initial_value": start, "lowest": low, "highest": high, "beyond": beyond},
        "every pair has to be corrected by more than all the problem's values before any can be told apart, and what "
        "is not tried again keeps its initial value",
        cures.format_options({cures.INITIAL: usual}),
        lambda: training.score_reached,
    )


def network_too_small(training: Training) -> Fact | None:
    """Detect fewer hidden units than the actions need."""
    hidden, q = training.config.network.hidden, training.q_star
    if not hidden or q is None or min(hidden) >= training.table.actions:
        return None
    units, states = min(hidden), training.pairs.any(axis=1)
    mean = q[states].mean(axis=0)
    left, sizes, right = np.linalg.svd(q[states] - mean, full_matrices=False)
    nearest = q.copy()
    nearest[states] = (left[:, :units] * sizes[:units]) @ right[:units] + mean
    score, error = training.score_of_q(nearest), float(np.sqrt((sizes[units:] ** 2).sum() / q[states].size))
    if score >= GOOD:
        return None
    sufficient = max(64, training.table.actions)
    usual = training.usual.network.hidden if training.usual is not None else ()
    wanted = usual if usual and min(usual) >= training.table.actions else (sufficient,)
    return Fact(
        f"{units} hidden unit{'s' if units > 1 else ''} cannot tell {training.table.actions} actions apart: Q values "
        f"of that rank are off by {error:.3g} at least, and the policy of the nearest scores {score:.3g}",
        {"units": units, "actions": training.table.actions, "error": error, "score": score},
        "the Q values of a network have no more independent columns than its narrowest layer has units",
        cures.format_options({cures.HIDDEN: wanted}),
        lambda: score,
    )


def n_step_off_policy(training: Training) -> Fact | None:
    """Detect uncorrected n-step sums under behavior that explores so much that what they converge to is bad."""
    target = training.config.target
    if target.n_step == 1 or target.cuts:
        return None
    epsilon = mean_epsilon(training.config)
    score = n_step_score(training, epsilon)
    if score >= GOOD:
        return None
    return Fact(
        f"sums of {target.n_step} rewards under ε = {epsilon:.2g} are not corrected: what they converge to scores "
        f"{score:.3g}",
        {"n_step": target.n_step, "epsilon": epsilon, "score": score},
        "sums of n rewards follow the behavior, which explores, so they learn partly how good exploring is",
        cures.format_options({cures.N_STEP: 1}),
        lambda: max(n_step_score(training, least_epsilon(training.config)), training.score_reached),
    )


def tabular_step_too_large(training: Training) -> Fact | None:
    """Detect a step of plain SGD on a Q table that overshoots, as samples of a pair add up in a minibatch."""
    step = training.config.optimizer.tabular_step
    if step is None or not training.is_table:
        return None
    together = max(1.0, training.config.replay.batch_size / max(1, int(training.pairs.sum())))
    if step * together <= 1:
        return None
    sound = float(f"{min(0.5, 0.5 / together):.2g}")
    return Fact(
        f"a tabular step of {step:g} with {together:.3g} samples of a pair in a minibatch moves its value by "
        f"{step * together:.3g} times the error",
        {"tabular_step": step, "samples_together": together, "overshoot": step * together},
        "the steps of samples of the same pair add up, and a move by more than the error overshoots",
        cures.format_options({cures.TABULAR_STEP: sound}),
        lambda: overshooting_score(training, step) if step * together > DIVERGES else None,
    )


def untrained(training: Training) -> Fact | None:
    """Detect so few updates that no pair is sampled often enough, or that no value arrives at a usual rate."""
    config, pairs = training.config, int(training.pairs.sum())
    short = training.samples < learning_curves.SAMPLES
    rate = initial_rate(training) if is_slower_than_usual(training) else None
    missed = missed_way(training, rate) is not None and target_too_stale(training) is None
    slow = not short and (missed or is_too_short(training))
    if not short and not slow:
        return None
    each = f"{training.samples:.2g}" if training.samples < 100 else f"{training.samples:,.0f}"
    return Fact(
        f"{config.updates:,} updates of {config.replay.batch_size} transitions are {each} for each of "
        f"{pairs:,} pairs" + ("" if short else ", and too few to carry values there at usual rates"),
        {"updates": config.updates, "batch_size": config.replay.batch_size, "pairs": pairs,
         "samples_per_pair": training.samples},
        "the training is too short to learn anything",
        cures.format_options(learning_curves.enough_samples(config, training.usual, pairs)),
        lambda: training.score_reached,
    )  # fmt: skip


def is_too_short(training: Training) -> bool:
    """Whether there are too few updates for values to come back to where episodes start, at any usual target speed."""
    config = training.config
    if config.updates > learning_curves.MANY or training.depth is None:
        return False
    return learning_curves.is_too_short(config, training.usual, config.updates, training.depth)


def learning_rate_too_low(training: Training) -> Fact | None:
    """Detect steps so small, or that end so early, that values cannot arrive."""
    missed = missed_way(training, None)
    if missed is None or training.samples < learning_curves.SAMPLES or not is_slower_than_usual(training):
        return None
    if missed_way(training, initial_rate(training)) is not None:
        return None  # there are too few updates, whatever the rate
    way, needed = missed
    ends_early = training.config.schedule_length < training.config.updates / 2
    path, size = cures.step_size(training.config)
    cure = cures.larger_step(training.config, training.usual)
    if training.usual is None:
        cure = {path: float(f"{size * max(10.0, 2 * needed / max(way, 1e-12)):.2g}")}
    if ends_early:
        cure = cures.whole_schedule(training.config, training.usual)
    return Fact(
        f"the steps of all {training.config.updates:,} updates add up to {way:.2g}, and values have {needed:.3g} to go",
        {"way": way, "needed": needed, "updates": training.config.updates,
         "schedule_updates": training.config.schedule_length},
        "the schedule of the learning rate ends long before the training does"
        if ends_early
        else "the updates are so small that the training ends before the values arrive",
        cures.format_options(cure),
        lambda: training.score_reached,
    )  # fmt: skip


def is_slower_than_usual(training: Training) -> bool:
    """Whether the mean step size is clearly below that of the usual settings, or may be, as far as these are known."""
    config, usual = training.config, training.usual
    path, mean = cures.step_size(config)[0], sum_of_rates(config) / config.updates
    if usual is not None and cures.step_size(usual)[0] == path:
        return cures.CLEARLY * mean < sum_of_rates(usual) / usual.updates
    return path != cures.RATE or cures.CLEARLY * mean < USUAL_MEAN * initial_rate(training)


def initial_rate(training: Training) -> float:
    """Return the learning rate at which networks of this kind usually begin."""
    return USUAL_TABLE_RATE if training.is_table else USUAL_RATE


def missed_way(training: Training, rate: float | None) -> tuple[float, float] | None:
    """Return how far values get and how far they have to, if that is clearly too short.

    At another, constant learning `rate`, if one is given. None where it suffices, or where
    nothing is known of the optimizer's steps.
    """
    needed = training.farthest
    if needed == 0:
        return None
    way = longest_way(training, rate)
    share = total_share(training) if rate is None else math.inf
    found = min(way, share * needed)
    return (found, needed) if found < TRAVEL * needed else None


def target_too_stale(training: Training) -> Fact | None:
    """Detect fewer refreshes of the target network than values need to travel."""
    target, updates = training.config.target, training.config.updates
    refreshes = updates / target.period * target.polyak
    if refreshes * target.n_step > learning_curves.MANY or training.depth is None:
        return None
    steps = (math.floor(refreshes) + 1) * target.n_step
    if steps >= training.depth or is_too_short(training):
        return None
    return Fact(
        f"the target network is refreshed {refreshes:.3g} times, which carries values back by {steps} steps; the "
        f"optimal policy needs {training.depth}",
        {"refreshes": refreshes, "n_step": target.n_step, "steps": steps, "depth": training.depth},
        "a value travels back one step at each refresh of the target network",
        learning_curves.faster_target(training.config, training.usual, updates, training.depth),
        lambda: training.score_reached,
    )


def reward_scale_off(training: Training) -> Fact | None:
    """Detect Q values far from 1 in the network's units."""
    size, scale = training.largest, training.config.target.reward_scale
    if size == 0 or SMALL <= size <= LARGE or (training.is_table and size < SMALL):
        return None
    found = size * scale
    usual = training.usual.target.reward_scale if training.usual is not None else 0.0
    wanted = usual if usual > 0 and SMALL <= found / usual <= LARGE else float(2.0 ** round(math.log2(found / 16)))
    return Fact(
        f"the network has to output Q values up to {size:.3g} with --reward-scale {scale:g}",
        {"largest_q_star": found, "reward_scale": scale, "largest_in_network": size},
        "an optimizer such as Adam moves weights by its learning rate whatever the size of the rewards: large Q values "
        "take long to reach, and small ones drown in the noise of the weights",
        cures.format_options({cures.SCALE: wanted}),
        lambda: training.score_reached,
    )


def discount_too_small(training: Training) -> Fact | None:
    """Detect a discount at which even the best policy is bad, or cannot be told from bad ones."""
    if training.discount >= training.objective:
        return None
    found = setup.promise(training.table, training.objective, training.discount, training.allowed)
    if found is None or min(found.score, found.blurred) >= GOOD:
        return None
    return Fact(
        setup.cost(found, training.discount, training.objective),
        {"score": found.score, "score_at_resolution": found.blurred},
        "rewards that are many steps away count for nothing at this discount",
        f"--discount {training.objective:g}",
        lambda: max(found.score, training.score_reached),
    )


def discount_too_large(training: Training) -> Fact | None:
    """Detect a discount above the objective's at which actions tie that the objective tells apart."""
    if training.discount <= training.objective or training.q_star is None:
        return None
    q = np.where(training.allowed, training.q_star, -np.inf)
    coarse = setup.RESOLUTION * max(float(np.abs(training.q_star).max()), 1e-9)
    alike = (q >= q.max(axis=1, keepdims=True) - coarse) & training.allowed
    score = training.score(planning.uniform_policy(training.table, alike))
    if score >= GOOD:
        return None
    usual = training.usual.discount if training.usual is not None else 1.0
    return Fact(
        f"at discount {training.discount:g} every action that loses nothing is as good as the best: a policy that "
        f"chooses among those scores {score:.3g} at {training.objective:g}",
        {"discount": training.discount, "objective_discount": training.objective, "score_of_ties": score},
        "without a discount or a cost a step, it is all the same when a reward comes, and whether it does today",
        f"--discount {usual if usual < training.discount else training.objective:g}",
        lambda: max(score, training.score_reached),
    )


def noisy_targets(training: Training) -> Fact | None:
    """Detect sampled targets whose average cannot tell actions apart on most of an optimal policy's path."""
    config, q = training.config, training.q_star
    if config.target.backup != "sample" or q is None or training.table.probability.shape[2] == 1:
        return None
    steps = config.updates * config.interaction.environments * config.interaction.steps_per_update
    each = min(steps + config.replay.start, config.updates * config.replay.batch_size) / int(training.pairs.sum())
    table, value = training.table, np.where(training.allowed, q, -np.inf).max(axis=1)
    targets = table.reward + training.discount * ~table.terminated * value[table.next_state]
    mean = (table.probability * targets).sum(axis=-1, keepdims=True)
    variance = (table.probability * (targets - mean) ** 2).sum(axis=-1)
    ranked = np.sort(np.where(training.allowed, q, -np.inf), axis=1)
    optimal = planning.optimal_actions(np.where(training.allowed, q, -np.inf))
    passed = planning.reachable(table, only(planning.greedy_policy(q, training.allowed), table.actions))
    worth = passed & ~(optimal | ~training.allowed).all(axis=1)
    second = np.where(optimal, -np.inf, np.where(training.allowed, q, -np.inf)).max(axis=1)
    gap, error = ranked[:, -1] - second, np.sqrt(2 * variance.mean(axis=1) / max(each, 1.0))
    unsure = worth & (gap < UNSURE * error)
    if not worth.any() or unsure.sum() < MANY_UNSURE * worth.sum():
        return None
    return Fact(
        f"in {int(unsure.sum())} of {int(worth.sum())} states the best action is better by about "
        f"{float(np.median(gap[unsure])):.2g}, and an average of {each:,.0f} sampled targets is off by "
        f"{float(np.median(error[unsure])):.2g}",
        {"states": int(unsure.sum()), "of": int(worth.sum()), "samples": each},
        "each td_target is one sampled outcome, and actions differ by less than its chance averages out to",
        "--backup expected" + (" --n-step 1" if config.target.n_step > 1 else ""),
        lambda: training.score(planning.uniform_policy(table, training.allowed & (q >= (value - error)[:, None]))),
    )


Look = Callable[[Training], Fact | None]
FACTS: dict[str, Look] = {
    "discount-too-small": discount_too_small,
    "discount-too-large": discount_too_large,
    "initial-value-off": initial_value_off,
    "network-too-small": network_too_small,
    "reward-scale-off": reward_scale_off,
    "n-step-off-policy": n_step_off_policy,
    "tabular-step-too-large": tabular_step_too_large,
    "untrained": untrained,
    "learning-rate-too-low": learning_rate_too_low,
    "target-too-stale": target_too_stale,
    "noisy-targets": noisy_targets,
}
NEEDS = ("config", "table", "verdict")
OWN = ("discount-too-large", "initial-value-off", "network-too-small", "tabular-step-too-large")  # no check besides


def foresee(training: Training) -> dict[str, Fact]:
    """Return the facts of a training that cannot go well, by the name of the finding."""
    found = {name: look(training) for name, look in FACTS.items()}
    return {name: fact for name, fact in found.items() if fact is not None}


def check_fact(name: str, case: Case) -> Finding | None:
    """Return the finding that a fact is, for a policy that is bad; None if it does not hold, or did no harm.

    It is no more than a warning where an ideal training finds a good policy in spite of it.
    """
    if the(case.config).discount != case.training_discount or case.harmful is False:
        return None
    fact = FACTS[name](of_case(case))
    if fact is None:
        return None
    worst: Severity = case.worst if case.states > MOST_STATES or fact.leaves_bad_policy else "warning"
    return Finding(name, worst, fact.text, fact.evidence, "exact", fact.cause, fact.cure)


def check_of(name: str) -> Check:
    """Return the check of a fact."""
    return Check(name, NEEDS, lambda case: check_fact(name, case))


CHECKS = tuple(check_of(name) for name in OWN)
