"""Check the greedy policy for symptoms, whose cause another finding may name.

**One action.** The fraction of reachable non-terminal states in which the most common greedy action is taken, compared
with the fraction in which that action is optimal: an optimal policy that breaks all ties in its favor takes it no more
often. **Loops.** The greedy policy is a graph; a start state is stuck if no path from it leads to termination, although
a path of optimal actions does.
"""

from __future__ import annotations

import numpy as np

from deeptaxi.diagnosis.case import Case, Check, Finding, Source, Unchecked, the
from deeptaxi.mdp.table import Bools

COLLAPSED = 0.75  # fraction of states
EXCESS = 0.2  # above the fraction of an optimal policy
COLLAPSED_UNSEEN = 0.95  # if the optimal policy is unknown
EXPLAINED_ELSEWHERE = ""  # the symptom takes its cause and cure from another finding, see `run`


def favorite(case: Case, states: Bools) -> tuple[int, float]:
    """Return the action that is greedy in the most of `states` `[S]`, and the fraction where it is."""
    counts = np.bincount(case.policy[states], minlength=case.actions)
    return int(counts.argmax()), float(counts.max() / states.sum())


def one_action_collapse(case: Case) -> Finding | Unchecked | None:
    """Detect an agent that takes the same action nearly everywhere."""
    if case.verdict is not None:
        return exact_collapse(case)
    if case.given is None and (case.q is None or case.broken):
        return logged_collapse(case) if case.history else Unchecked(case.missing("q"))
    if case.visits is not None:
        action, share = favorite(case, case.visits.sum(axis=1) > 0)
        return unseen_collapse(case, action, share, "log")
    if case.sample is None:
        return Unchecked(case.missing("sample"))
    seen = np.bincount(case.sample.state, minlength=case.states) > 0
    return unseen_collapse(case, *favorite(case, seen), "episodes")


def exact_collapse(case: Case) -> Finding | None:
    """Compare the most common action with an optimal policy."""
    states = case.reached
    action, share = favorite(case, states)
    best = float(case.optimal[states, action].mean())
    if share < COLLAPSED or share < best + EXCESS:
        return None
    flat = None
    if case.q is not None:
        q = np.where(case.allowed, case.q, np.nan)[states]
        spread = np.nanmax(q, axis=1) - np.nanmin(q, axis=1)
        flat = float(np.mean(spread <= 1e-6 * (1 + np.nanmax(np.abs(q), axis=1))))
    return Finding(
        "one-action-collapse",
        case.worst,
        f"it takes {case.action(action)} in {share:.0%} of the states that it can reach; an optimal policy does "
        f"in at most {best:.0%}",
        {
            "action": action, "share": share, "optimal_share": best, "states": int(states.sum()),
            "actions_used": len(np.unique(case.policy[states])), "share_of_states_with_equal_q": flat,
        },
        "exact",
        EXPLAINED_ELSEWHERE,
        EXPLAINED_ELSEWHERE,
    )  # fmt: skip


def unseen_collapse(case: Case, action: int, share: float, source: Source) -> Finding | None:
    """Check the visited states; what an optimal policy does there is unknown."""
    if share < COLLAPSED_UNSEEN:
        return None
    return Finding(
        "one-action-collapse",
        "warning",
        f"it takes {case.action(action)} in {share:.0%} of the states that were seen; "
        "without a transition table it is not known whether that is right",
        {"action": action, "share": share},
        source,
        EXPLAINED_ELSEWHERE,
        EXPLAINED_ELSEWHERE,
    )


def logged_collapse(case: Case) -> Finding | Unchecked | None:
    """Check the last snapshot of the log."""
    snapshots = the(case.history).snapshots
    if not snapshots:
        return Unchecked("the log has no snapshot of the Q values")
    return unseen_collapse(case, snapshots[-1].greedy_action, snapshots[-1].greedy_share, "log")


def policy_loops(case: Case) -> Finding | Unchecked | None:
    """Find starts from which the greedy policy loops forever."""
    if case.verdict is None:
        return sampled_loops(case)
    table = the(case.table)
    stuck = np.flatnonzero(case.stuck_starts)
    if not stuck.size:
        return None
    chance = float(table.start[stuck].sum())
    return Finding(
        "policy-loops",
        case.worst,
        f"from {len(stuck)} of {int((table.start > 0).sum())} start states the greedy policy never ends an episode; "
        "an optimal policy does",
        {
            "start_states": len(stuck), "share_of_starts": chance, "examples": stuck[:5].tolist(),
            "states": int((case.stuck & case.reached).sum()),
        },
        "exact",
        EXPLAINED_ELSEWHERE,
        EXPLAINED_ELSEWHERE,
    )  # fmt: skip


def sampled_loops(case: Case) -> Finding | Unchecked | None:
    """Compare how often greedy and random episodes terminate."""
    if case.sample is None or (case.q is None and case.given is None):
        return Unchecked(case.missing("sample" if case.sample is None else "q"))
    sample = case.sample
    if case.broken or not any(sample.episodes):
        return Unchecked(case.missing("q") if case.broken else f"no episode ended in {len(sample.state):,} steps")
    ends = [
        float(sample.terminated[mark].sum() / max(1, count))
        for mark, count in ((sample.greedy, sample.episodes[0]), (~sample.greedy, sample.episodes[1]))
    ]
    if ends[1] == 0:
        return Unchecked("random episodes do not end by themselves either")
    if ends[0] > 0.5 * ends[1] or sample.reward[sample.greedy].mean() > 0:  # it may earn most by never ending
        return None
    seen = f"{1 - ends[0]:.0%} of its episodes do not end by themselves"
    if not sample.episodes[0]:
        seen = f"none of its episodes ended in {int(sample.greedy.sum()):,} steps"
    return Finding(
        "policy-loops",
        "warning",
        f"{seen}; {1 - ends[1]:.0%} of random ones do not",
        {"terminated": ends[0], "terminated_at_random": ends[1], "episodes": sample.episodes[0]},
        "episodes",
        EXPLAINED_ELSEWHERE,
        EXPLAINED_ELSEWHERE,
    )


CHECKS = (
    Check("one-action-collapse", (), one_action_collapse),
    Check("policy-loops", (), policy_loops),
)
