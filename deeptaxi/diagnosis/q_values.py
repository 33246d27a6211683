"""Compare Q with Q*: too high, at another scale, or right for another problem.

**Overestimation.** With d = Q − Q*, the mean of d at the greedy actions is how much the agent overestimates itself.
Part of it is an error shared by all actions, the mean of d over all pairs; the rest comes from maximizing over noise
(Thrun & Schwartz, Issues in Using Function Approximation for Reinforcement Learning, 1993), and is what double DQN
(van Hasselt et al., 2016) removes.

**Noise.** A sampled td_target r + γ·(1 − terminated)·V*(s') scatters by σ(s, a) around Q*(s, a). After n samples of
each of two actions, no average tells their Q* apart if these differ by less than `UNSURE` standard errors,
√(σ₁²/n + σ₂²/n). A sample that is replayed brings nothing new, so n is at most the number of visits; and a constant
step α weighs the samples as if there were 2/α − 1 of them.

**Alternative hypotheses.** A faulty training converges too, to the Q* of another problem: one in which terminal states
continue, a time limit terminates, the ground differs, or the discount does. Each alternative's Q* is computed exactly,
and the one nearest to Q, over the pairs that were tried, identifies the fault. It explains Q better only if Q is far
from the right Q* (`FAR` of its scatter), `NEARER` to the alternative's, and `CLOSE` to that.

Bootstrapped terminals are also detected by one backup, wherever a network's fixed point lies: with T the Bellman
operator of the problem and T' that of the one whose terminal states continue, Q is compared with T Q and T' Q over the
pairs that may end. A time limit treated as termination cuts 1/L of the transitions, where L is the mean episode
length, at most the limit: V is bootstrapped with γ·(1 − 1/L).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from deeptaxi.arguments import short_words
from deeptaxi.config import EnvironmentConfig
from deeptaxi.diagnosis import cures, rivals
from deeptaxi.diagnosis.case import Case, Check, Finding, Unchecked, the
from deeptaxi.diagnosis.environment_checks import terminating_limit
from deeptaxi.diagnosis.rivals import CLOSE, FAR, NEARER
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools, Floats, TransitionTable

UNSURE = 2.0  # standard errors
ARRIVED = 0.1  # of the range of Q*: a mean error of values that are no longer on their way
A_THIRD = 1 / 3  # of the states that are played wrongly
BELIEVED = 0.05  # of the range of Q*
BY_MAXIMIZING = 0.3  # fraction of the bias
BY_NOISE = 3.0  # times: the noise of targets is propagated, too
LARGE, SMALL = 300.0, 0.003  # in the network's units
OFF = 0.2  # of the largest |Q*|


def noise(case: Case) -> Floats:
    """Return the standard deviation of one sampled td_target with the values V* of the training discount, `[S, A]`."""
    table = the(case.table)
    value = case.q_star.max(axis=1)
    targets = table.reward + the(case.training_discount) * ~table.terminated * value[table.next_state]
    mean = (table.probability * targets).sum(axis=-1, keepdims=True)
    return np.asarray(np.sqrt((table.probability * (targets - mean) ** 2).sum(axis=-1)))


def fresh_samples(case: Case) -> Floats:
    """Return over how many sampled outcomes of its own the value of each pair can be averaged, `[S, A]`, at least 1."""
    config, done = the(case.config), the(case.history).finished
    total = (done.updates if done else config.updates) * config.replay.batch_size
    if case.visits is None:
        found = np.full((case.states, case.actions), total / max(1, int(case.pairs.sum())))
    else:
        visits = case.visits.astype(float)
        found = np.minimum(visits, total * visits / max(1.0, visits.sum()))
    step = config.optimizer.tabular_step
    constant = step is not None and config.optimizer.schedule == "constant"
    return np.asarray(np.maximum(1.0, np.minimum(found, 2 / step - 1) if step and constant else found))


def noisy_targets(case: Case) -> Finding | None:
    """Detect wrong decisions between actions that the samples of the training cannot tell apart."""
    target = the(case.config).target
    states = np.flatnonzero(case.losing)
    if target.backup != "sample" or the(case.verdict).optimal or not states.size or case.span == 0:
        return None
    right, wrong = case.q_star.argmax(axis=1)[states], case.policy[states]
    gap = case.q_star[states, right] - case.q_star[states, wrong]
    variance, samples = noise(case) ** 2, fresh_samples(case)
    of_mean = variance / samples  # the variance of an average
    error = np.sqrt(of_mean[states, right] + of_mean[states, wrong])
    unsure = (gap > 0) & (gap < UNSURE * error)
    by_chance = UNSURE * float(np.sqrt(of_mean[case.learned_pairs].mean()))
    if unsure.mean() < A_THIRD or distance(case, case.q_star) > max(ARRIVED * case.span, by_chance):
        return None
    both = np.concatenate([right[unsure], wrong[unsure]])
    scatters = float(np.median(np.sqrt(variance)[np.tile(states[unsure], 2), both]))
    seen = float(np.median(samples[np.tile(states[unsure], 2), both]))
    apart = float(np.median(gap[unsure]))
    needed = seen * float(np.median((UNSURE * error[unsure] / gap[unsure]) ** 2))
    return Finding(
        "noisy-targets",
        case.worst,
        f"in {int(unsure.sum())} of {len(states)} states that it plays wrongly, the better action is better by "
        f"{apart:.2g} where one td_target scatters by {scatters:.2g}: to tell them apart takes some {needed:,.0f} "
        f"samples of each, and the training averages over {seen:,.0f}",
        {"states": int(unsure.sum()), "wrong_states": len(states), "gap": apart, "noise": scatters,
         "samples": seen, "samples_needed": needed},
        "exact",
        "each td_target is one sampled outcome, and actions differ by less than its chance averages out to; the "
        "transition table says the probabilities, so they need not be sampled",
        "--backup expected" + (" --n-step 1" if target.n_step > 1 else ""),
    )  # fmt: skip


def overestimation(case: Case) -> Finding | None:
    """Detect an agent that overestimates its own choices, and estimate the effect of double DQN."""
    greedy, shared = biases(case)
    by_maximizing = greedy - shared
    sampled = case.config is None or case.config.target.backup == "sample"
    if not sampled or not (noise(case)[case.learned_pairs] > 0).any():
        return None  # any wrong choice is one that Q overrates: it takes noise to maximize over
    if case.span == 0 or greedy < BELIEVED * case.span or by_maximizing < BY_MAXIMIZING * greedy:
        return None
    return Finding(
        "overestimation",
        case.worst,
        f"at its own choices, Q is {greedy:.3g} above Q* on average; {by_maximizing:.3g} of that comes from maximizing "
        "over noise",
        {"bias_of_greedy_action": greedy, "bias_of_all_pairs": shared, "by_maximizing": by_maximizing,
         "range_of_q_star": case.span, "double": case.config is not None and case.config.target.double,
         "bias_without_maximizing": shared},
        "exact",
        "the max over noisy Q values picks the one that chance raised most, and td_target propagates it",
        "--double" if case.config is None else less_noise(case),
    )  # fmt: skip


def biases(case: Case) -> tuple[float, float]:
    """Return the mean of Q − Q* at the greedy actions of reached states, and over all pairs that were learned."""
    with np.errstate(invalid="ignore"):  # −∞ − (−∞) for masked actions: not learned pairs
        difference = np.asarray(the(case.q) - case.q_star, float)
    states = np.flatnonzero(case.reached & case.learned_pairs.any(axis=1))
    return float(difference[states, case.policy[states]].mean()), float(difference[case.learned_pairs].mean())


def scatters_by_noise(case: Case) -> bool:
    """Whether Q of a table scatters by the noise of its targets alone, and maximizing over it hides every gap.

    With a constant step α, the values of samples with deviation σ scatter by σ·√(α / (2 − α)) (Sutton & Barto, 2.5).
    """
    config = case.config
    step = config.optimizer.tabular_step if config is not None and config.target.backup == "sample" else None
    if step is None or case.table is None or case.q is None or case.span == 0 or not case.learned_pairs.any():
        return False
    pairs = case.learned_pairs
    expected = float(np.sqrt(np.mean(noise(case)[pairs] ** 2) * min(step, 1.0) / (2 - min(step, 1.0))))
    greedy, shared = biases(case)
    hides = greedy > case.span and greedy - shared >= BY_MAXIMIZING * greedy
    return hides and distance(case, case.q_star) <= BY_NOISE * expected


def less_noise(case: Case) -> str:
    """Return options by which Q values scatter less, or the choice is made by other values than it is judged by."""
    config = the(case.config)
    if case.table is not None and config.target.backup == "sample":
        return "--backup expected" + (" --n-step 1" if config.target.n_step > 1 else "")
    online = config.target.polyak == 1 and config.target.period == 1  # which judges its own choices either way
    if not config.target.double and not online:
        return "--double"
    falling: dict[cures.Path, Any] = {
        ("optimizer", "schedule"): "exponential",
        cures.BATCH: 4 * config.replay.batch_size,
    }
    return cures.format_options(cures.differing(config, falling))


def reward_scale_off(case: Case) -> Finding | None:
    """Detect Q values far from 1 in the network's units that the network did not reach."""
    scale = case.config.target.reward_scale if case.config else 1.0
    truth = case.q_star[case.pairs]
    size = float(np.abs(truth).max())
    seen = size / scale
    if size == 0 or SMALL <= seen <= LARGE:
        return None
    error = float(np.sqrt(np.mean((the(case.q)[case.pairs] - truth) ** 2)) / size)
    if error < OFF:
        return None
    return Finding(
        "reward-scale-off",
        case.worst,
        f"the network has to output Q values up to {seen:.3g}, and is off by {error:.0%} of that",
        {"largest_q_star": size, "reward_scale": scale, "largest_in_network": seen, "error": error},
        "exact",
        "an optimizer such as Adam moves weights by its learning rate whatever the size of the rewards: "
        "large Q values take long to reach, and small ones drown in the noise of the weights",
        cures.format_options({cures.SCALE: scale_of(case, size)}),
    )


def scale_of(case: Case, size: float) -> float:
    """Return the usual reward scale if it brings values of `size` into the network's range, else a power of two."""
    usual = case.usual.target.reward_scale if case.usual is not None else 0.0
    now = case.config.target.reward_scale if case.config is not None else 1.0
    fits = usual > 0 and SMALL <= size / usual <= LARGE and not cures.same(usual, now)
    return usual if fits else float(2.0 ** round(np.log2(size / 16)))


NOISE_CHECKS = (Check("noisy-targets", ("config", "history", "table", "q", "discount", "verdict"), noisy_targets),)
VALUE_CHECKS = (
    Check("reward-scale-off", ("q", "discount"), reward_scale_off),
    Check("overestimation", ("q", "discount"), overestimation),
)


DISCOUNTS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)  # tried if the training discount is unknown


def distance(case: Case, other: Floats, pairs: Bools | None = None) -> float:
    """Return the mean |Q − other| over `pairs`, both `[S, A]`; by default those tried. 0 if there are none."""
    where = case.learned_pairs if pairs is None else pairs
    if not where.any():
        return 0.0
    return float(np.abs(np.asarray(the(case.q), float)[where] - other[where]).mean())


def optimum(case: Case, table: TransitionTable, discount: float) -> Floats:
    """Return Q* of an alternative, `[S, A]`."""
    return planning.value_iteration(table, discount, case.allowed).q


def discounts(case: Case) -> tuple[float, ...]:
    """Return the training discount, or those to try."""
    known = case.training_discount
    return DISCOUNTS if known is None else (min(known, 0.999),)


def nearest(case: Case, table: TransitionTable) -> tuple[float, float, Floats]:
    """Return the distance to the nearest Q* of `table`, its discount and that Q*, `[S, A]`."""
    found = [(optimum(case, table, discount), discount) for discount in discounts(case)]
    return min(((distance(case, q), discount, q) for q, discount in found), key=lambda item: item[0])


def scatter(case: Case, q: Floats) -> float:
    """Return the standard deviation of Q* over the pairs that were tried; never 0."""
    return float(max(q[case.learned_pairs].std(), 1e-9))


def explains_better(case: Case, right: tuple[float, float, Floats], alternative: tuple[float, float, Floats]) -> bool:
    """Whether an alternative explains Q and the right problem does not."""
    far = right[0] > FAR * scatter(case, right[2])
    near = alternative[0] < NEARER * right[0] and alternative[0] < CLOSE * scatter(case, alternative[2])
    return far and near and not rivals.is_beaten(case, alternative[0])


def terminal_states_bootstrapped(case: Case) -> Finding | Unchecked | None:
    """Detect a training that bootstrapped from terminal states."""
    table = the(case.table)
    if ours(case) or not (table.terminated & (table.probability > 0)).any():
        return None
    endless = replace(table, terminated=np.zeros_like(table.terminated))
    right, alternative = nearest(case, table), nearest(case, endless)
    local = one_backup(case, endless, alternative[1], scatter(case, right[2]))
    if local and rivals.is_beaten(case, alternative[0]):
        local = {}
    if not explains_better(case, right, alternative) and not local:
        return None
    return Finding(
        "terminal-states-bootstrapped",
        case.worst,
        f"Q is off by {right[0]:.3g} from Q* of the problem, and by {alternative[0]:.3g} from that of one whose "
        "terminal states continue"
        if not local
        else f"where an episode may end, Q is off by {local['right']:.3g} from its own td_target, and by "
        f"{local['bootstrapped']:.3g} from one that adds the value of the terminal state",
        {
            "distance": right[0],
            "distance_bootstrapped": alternative[0],
            "discount": alternative[1],
            "one_backup": local or None,
        },
        "exact",
        "td_target adds discount · max Q(next state) even where the next state is terminal",
        "multiply the bootstrap by (1 − terminated), as `deeptaxi train` does; in an environment of your own, return "
        "terminated=True at the end",
    )


def one_backup(case: Case, endless: TransitionTable, discount: float, scale: float) -> dict[str, float]:
    """Return the distance of Q from its backup and from the bootstrapped one, if that distinguishes them.

    If Q does not agree with its backup elsewhere either, within `scale`, the test is inconclusive.
    """
    q = np.where(case.allowed, np.asarray(the(case.q), float), -np.inf)
    value = q.max(axis=1)
    proper = planning.bellman(the(case.table), value, discount)
    wrong = planning.bellman(endless, value, discount)
    ending = ((the(case.table).terminated) & (the(case.table).probability > 0)).any(axis=2) & case.learned_pairs
    apart = np.abs(wrong - proper)
    telling = ending & (apart > FAR * scatter(case, proper))
    if not telling.any():
        return {}
    right, bootstrapped = distance(case, proper, telling), distance(case, wrong, telling)
    elsewhere = distance(case, proper, case.learned_pairs & ~ending)
    near = bootstrapped < NEARER**2 * right and elsewhere < min(NEARER**2 * right, scale)
    return {"right": right, "bootstrapped": bootstrapped} if near else {}


def truncation_as_terminal(case: Case) -> Finding | Unchecked | None:
    """Detect a training that treated the time limit as termination."""
    if case.table is None:
        return Unchecked(case.missing("sample")) if case.sample is None else terminating_limit(case, case.sample)
    if case.training_discount is None or case.q is None or case.broken:
        return Unchecked(case.missing("discount") if case.training_discount is None else case.missing("q"))
    limit = case.config.environment.time_limit if case.config else None
    limits = [limit] if limit else [10, 20, 50, 100, 200]
    if ours(case):
        return None
    right = nearest(case, case.table)
    alternatives = []
    for steps in limits:
        q = optimum(case, case.table, min(case.training_discount, 0.999) * (1 - 1 / steps))
        alternatives.append((distance(case, q), float(steps), q))
    alternative = min(alternatives, key=lambda item: item[0])
    if not explains_better(case, right, alternative):
        return None
    return Finding(
        "truncation-as-terminal",
        case.worst,
        f"Q is off by {right[0]:.3g} from Q*, and by {alternative[0]:.3g} from that of a problem that ends by chance "
        f"after {alternative[1]:.0f} steps",
        {"distance": right[0], "distance_truncated": alternative[0], "steps": alternative[1]},
        "exact",
        "where the time limit cut an episode, td_target left out the value of the next state",
        "bootstrap unless terminated, even if truncated: store `terminated`, never `terminated or truncated`",
    )


def ours(case: Case) -> bool:
    """Whether deeptaxi trained the model on this very table, so that td_target is right and Q at most unfinished."""
    return case.config is not None and moved(case) is None


def moved(case: Case) -> EnvironmentConfig | None:
    """Return the environment the model was trained on if it is known to be a different one."""
    trained = case.config.environment if case.config else None
    if trained is None or (trained.id, dict(trained.kwargs)) == (case.environment.id, dict(case.environment.kwargs)):
        return None
    return trained


def wrong_environment(case: Case) -> Finding | None:
    """Detect a model trained for another environment, from its configuration or its Q values."""
    trained = moved(case)
    if case.misfit is not None:
        return other(
            case, "severe", f"{case.misfit}, the environment has {case.states} and {case.actions}", {}, "network"
        )
    if trained is not None and (trained.id, dict(trained.kwargs)) != (
        case.environment.id,
        dict(case.environment.kwargs),
    ):
        problems = [f"{place.id} {short_words(place.kwargs)}".strip() for place in (trained, case.environment)]
        return other(case, case.worst, f"it was trained on {problems[0]} and is evaluated on {problems[1]}",
                     {"trained_on": problems[0], "looked_at_on": problems[1]}, "network")  # fmt: skip
    if case.config is not None or not case.siblings or case.q is None or case.broken:
        return None
    right = nearest(case, the(case.table))
    alternatives = {name: nearest(case, table) for name, table in case.siblings.items()}
    name = min(alternatives, key=lambda name: alternatives[name][0])
    if not explains_better(case, right, alternatives[name]):
        return None
    return other(
        case,
        case.worst,
        f"Q is off by {right[0]:.3g} from Q* of {case.environment.id}, and by {alternatives[name][0]:.3g} from that of "
        f"{name}",
        {"distance": right[0], "distance_to_sibling": alternatives[name][0], "sibling": name},
        "exact",
    )


def other(case: Case, severity: str, summary: str, evidence: dict[str, object], source: str) -> Finding:
    """Create the finding."""
    place = case.config.environment.id if case.config else str(evidence.get("sibling", "ENV"))
    return Finding(
        "wrong-environment",
        severity,  # type: ignore[arg-type]
        summary,
        evidence,
        source,  # type: ignore[arg-type]
        "the model fits another problem than the one it is diagnosed on",
        f"--env {place} with the arguments of its training, or train it for {case.environment.id}",
    )


HYPOTHESIS_CHECKS = (
    Check("wrong-environment", (), wrong_environment),
    *rivals.CHECKS,
    Check("terminal-states-bootstrapped", ("table", "q"), terminal_states_bootstrapped),
    Check("truncation-as-terminal", (), truncation_as_terminal),
)
