"""Q beside Q* of the training's discount, pair by pair.

**Overestimation.** With d = Q − Q*, the mean of d at the greedy actions is what the agent believes too much of itself.
Part of it is an error that all actions share, the mean of d over all pairs; the rest comes from maximizing over noise
(Thrun & Schwartz, Issues in Using Function Approximation for Reinforcement Learning, 1993), and is what double DQN
(van Hasselt et al., 2016) takes away.
"""

from __future__ import annotations

import numpy as np

from deeptaxi.evaluation.diagnosis.case import Case, the
from deeptaxi.evaluation.diagnosis.check import Check
from deeptaxi.evaluation.diagnosis.findings import Finding

BELIEVED = 0.05  # of the range of Q*
BY_MAXIMIZING = 0.3  # share of the bias
LARGE, SMALL = 300.0, 0.003  # in units of what the network sees
OFF = 0.2  # of the largest |Q*|


def overestimation(case: Case) -> Finding | None:
    """Name an agent that thinks too well of its own choice, and say what double DQN would do."""
    with np.errstate(invalid="ignore"):  # −∞ − (−∞), where the agent may not act: no pair that was learned
        difference = np.asarray(the(case.q) - case.q_star, float)
    states = np.flatnonzero(case.reached & case.learned_pairs.any(axis=1))
    greedy = float(difference[states, case.policy[states]].mean())
    shared = float(difference[case.learned_pairs].mean())
    by_maximizing = greedy - shared
    if case.span == 0 or greedy < BELIEVED * case.span or by_maximizing < BY_MAXIMIZING * greedy:
        return None
    double = case.config is not None and case.config.target.double
    return Finding(
        "overestimation",
        case.worst,
        f"Q of its own choice is {greedy:.3g} above Q* in the mean; {by_maximizing:.3g} of that come from maximizing "
        f"over noise",
        {"bias_of_greedy_action": greedy, "bias_of_all_pairs": shared, "by_maximizing": by_maximizing,
         "range_of_q_star": case.span, "double": double, "bias_without_maximizing": shared},
        "exact",
        "max over noisy Q values picks the one that chance has lifted most, and the td_target passes it on",
        "a smaller --learning-rate with --learning-rate-schedule exponential, and a larger --batch-size"
        if double
        else f"--double (it takes away what maximizing adds: about {by_maximizing:.3g} of the {greedy:.3g})",
    )  # fmt: skip


def reward_scale_off(case: Case) -> Finding | None:
    """Name Q values that are far from 1 in units of the network, which did not get there."""
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
        f"the network has to give Q values up to {seen:.3g}, and its own are off by {error:.0%} of that",
        {"largest_q_star": size, "reward_scale": scale, "largest_in_network": seen, "error": error},
        "exact",
        "an optimizer such as Adam moves weights by its learning rate whatever the size of the rewards: "
        "to large Q values it is far to go, small ones drown in the noise of the weights",
        f"--reward-scale {2.0 ** round(np.log2(size / 16)):g}",
    )


CHECKS = (
    Check("reward-scale-off", ("q", "discount"), reward_scale_off),
    Check("overestimation", ("q", "discount"), overestimation),
)
