"""Coverage: what the training tried, from its counts `[S, A]`, compared with what it could have tried.

A pair is *critical* if it is optimal, was not tried (or was forgotten), and the agent takes a suboptimal action in that
state, which its own policy visits: there the gap was costly. Only then is it severe.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeptaxi.config import TrainConfig
from deeptaxi.diagnosis import cures
from deeptaxi.diagnosis.case import Case, Check, Finding, Severity, Unchecked, the
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import Bools
from deeptaxi.schema import value_at

UNVISITED_CAUSE = "too little exploration to get there, or too short a training"
EXPLORE = "--epsilon-start 1 --epsilon-end 0.5 --epsilon-fraction 0.5"
MUCH: dict[cures.Path, Any] = {
    ("exploration", "start"): 1.0,
    ("exploration", "end"): 0.5,
    ("exploration", "fraction"): 0.5,
}
STARTS = 0.1  # of exploring starts, in the compiled loop
FEW = 0.01  # fraction of pairs below which a gap is only a note
FORGOTTEN = 0.05
LITTLE_EPSILON = 0.3
NEAR_END = 0.05  # fraction of the decay of ε


def exploration_cure(config: TrainConfig | None, usual: TrainConfig | None = None) -> str:
    """Return options for more exploration, or for more steps if it already explores that much."""
    if config is None:
        return EXPLORE
    compiled, now = config.loop == "compiled", config.exploration
    wanted: dict[cures.Path, Any]
    if usual is not None and explores(usual) > cures.CLEARLY * explores(config):
        wanted = {path: value_at(usual, path) for path in cures.EXPLORATION}
    elif min(now.start, now.end) < 0.5 or now.fraction < 0.5 or (compiled and now.exploring_starts < STARTS):
        starts = max(STARTS, now.exploring_starts) if compiled else 0.0
        wanted = MUCH | {("exploration", "exploring_starts"): starts}
    else:
        return cures.format_options(more_steps(config, usual))
    more = {path: value for path, value in wanted.items() if compiled or path[-1] != "exploring_starts"}
    return cures.format_options(cures.differing(config, more))


def explores(config: TrainConfig) -> float:
    """Return how much a training explores: ε at its end, and how often it starts elsewhere."""
    return config.exploration.end + config.exploration.exploring_starts


def more_steps(config: TrainConfig, usual: TrainConfig | None) -> dict[cures.Path, Any]:
    """Return more environments if that is usual, else a longer training."""
    copies = usual.interaction.environments if usual is not None else 0
    if copies > cures.CLEARLY * config.interaction.environments:
        return {cures.COPIES: copies}
    return cures.more_updates(config, usual)


def critical(case: Case, lacking: Bools) -> int:
    """Count the `lacking` pairs `[S, A]` that are optimal in states where the agent acts suboptimally.

    States on an optimal policy's path count too: nothing is known about the agent in states it never visited.
    """
    if case.verdict is None:
        return 0
    ideal = planning.reachable(the(case.table), case.optimal)
    return int((lacking & case.optimal & (case.losing & (case.passed | ideal))[:, None]).sum())


def severity(case: Case, share: float, costly: int) -> Severity:
    """Return the severity of a gap: severe if it was costly, a note if it is small."""
    if case.harmful and costly:
        return "severe"
    return "warning" if share >= FEW else "note"


def states_never_visited(case: Case) -> Finding | Unchecked | None:
    """Find reachable states that the training never visited."""
    if case.table is None:
        return sampled_unvisited(case)
    never = case.reached & (the(case.visits).sum(axis=1) == 0)
    if not never.any():
        return None
    share = float(never.sum() / case.reached.sum())
    costly = critical(case, np.repeat(never[:, None], case.actions, axis=1))
    return Finding(
        "states-never-visited",
        severity(case, share, costly),
        f"the training never visited {int(never.sum())} of {int(case.reached.sum())} states that it can reach",
        {"states": int(never.sum()), "of": int(case.reached.sum()), "share": share, "critical_pairs": costly,
         "examples": np.flatnonzero(never)[:5].tolist()},
        "exact",
        UNVISITED_CAUSE,
        exploration_cure(case.config, case.usual),
    )  # fmt: skip


def sampled_unvisited(case: Case) -> Finding | Unchecked | None:
    """Find states that sampled episodes visit and the training did not."""
    if case.sample is None:
        return Unchecked(case.missing("sample"))
    seen = np.bincount(case.sample.state, minlength=case.states) > 0
    never = seen & (the(case.visits).sum(axis=1) == 0)
    share = float(never.sum() / seen.sum())
    if share < FEW:
        return None
    return Finding(
        "states-never-visited",
        "warning",
        f"the training never visited {int(never.sum())} of {int(seen.sum())} states that came up in episodes",
        {"states": int(never.sum()), "of": int(seen.sum()), "share": share,
         "examples": np.flatnonzero(never)[:5].tolist()},
        "episodes",
        UNVISITED_CAUSE,
        exploration_cure(case.config, case.usual),
    )  # fmt: skip


def states_full(case: Case) -> Finding | None:
    """Detect steps from observations that no number was left for, where these are numbered as they are first seen."""
    visits, capacity = the(case.visits), case.environment.state_capacity
    if case.table is not None or not capacity or not visits[-1].any():
        return None
    steps, shared = int(visits.sum()), int(visits[-1].sum())
    return Finding(
        "states-full",
        "warning" if shared / steps >= FEW else "note",
        f"in {shared:,} of the {steps:,} steps of the training, the observation had no number of its own: "
        f"{capacity - 1:,} are numbered, and all others share one state and its action",
        {"steps": shared, "of": steps, "share": shared / steps, "state_capacity": capacity},
        "log",
        "more observations occur than there is room for",
        f"--state-capacity {10 * capacity}",
    )


def pairs_never_tried(case: Case) -> Finding | Unchecked | None:
    """Find actions that were never tried in visited states."""
    visits = the(case.visits)
    visited = visits.sum(axis=1) > 0
    possible = case.allowed & visited[:, None]
    if case.table is not None:
        possible &= case.reached[:, None]
    never = possible & (visits == 0)
    if not never.any():
        return None
    share = float(never.sum() / possible.sum())
    costly = critical(case, never)
    return Finding(
        "pairs-never-tried",
        severity(case, share, costly),
        f"{int(never.sum())} of {int(possible.sum())} actions of the visited states were never tried",
        {"pairs": int(never.sum()), "of": int(possible.sum()), "share": share, "critical_pairs": costly,
         "examples": np.argwhere(never)[:5].tolist()},
        "exact" if case.table is not None else "log",
        "too little exploration: an action that is never tried keeps its initial Q value",
        exploration_cure(case.config, case.usual),
    )  # fmt: skip


def epsilon_fell_too_early(case: Case) -> Finding | Unchecked | None:
    """Detect an ε that was near its end while much was untried, so that coverage stopped growing."""
    exploration, visits = the(case.config).exploration, the(case.visits)
    tried = int((visits > 0).sum())
    possible = (
        int(case.pairs.sum()) if case.table is not None else int((case.allowed & (visits.sum(1) > 0)[:, None]).sum())
    )
    missing = 1 - tried / possible
    if min(exploration.end, exploration.start) > LITTLE_EPSILON or missing <= FEW:
        return None
    low = near_end(case)
    then = next((item for item in the(case.history).snapshots if item.update >= low), None)
    lacking = (case.pairs if case.table is not None else case.allowed) & (visits == 0)
    costly = critical(case, lacking)
    return Finding(
        "epsilon-fell-too-early",
        severity(case, missing, costly),
        f"from update {low:,} on, ε was at most {epsilon_at_end(exploration):.2g}, and {missing:.0%} of the pairs were "
        "never tried",
        {"update": low, "epsilon": epsilon_at_end(exploration), "updates": the(case.config).updates,
         "pairs_covered_then": then.pairs_covered if then else None, "pairs_covered": tried, "pairs": possible,
         "critical_pairs": costly},
        "exact" if case.table is not None else "log",
        "the agent stopped exploring before it had tried everything, and repeats what looked good at first",
        exploration_cure(case.config, case.usual),
    )  # fmt: skip


def epsilon_at_end(exploration: Any) -> float:
    """Return the ε that counts as near the end of its decay."""
    return float(exploration.end + NEAR_END * max(0.0, exploration.start - exploration.end))


def near_end(case: Case) -> int:
    """Return the first update from which ε was near its end."""
    limit = epsilon_at_end(the(case.config).exploration)
    return next((item.update for item in the(case.history).progress if item.epsilon <= limit + 1e-9), 0)


def replay_forgot_pairs(case: Case) -> Finding | Unchecked | None:
    """Find pairs that were tried but are no longer in the replay buffer at the end."""
    visits, replay = the(case.visits), the(case.replay)
    tried = case.allowed & (visits > 0)
    if case.table is not None:
        tried &= case.reached[:, None]
    forgotten = tried & (replay == 0)
    share = float(forgotten.sum() / max(1, tried.sum()))
    if share < FORGOTTEN:
        return None
    held, capacity = int(replay.sum()), the(case.config).replay.capacity
    costly = critical(case, forgotten)
    return Finding(
        "replay-forgot-pairs",
        severity(case, share, costly),
        f"at the end, the replay buffer held none of {int(forgotten.sum())} of {int(tried.sum())} pairs tried",
        {"pairs": int(forgotten.sum()), "of": int(tried.sum()), "share": share, "critical_pairs": costly,
         "held": held, "capacity": capacity, "steps": int(visits.sum())},
        "exact" if case.table is not None else "log",
        f"a replay buffer of {capacity:,} transitions holds only the last of {int(visits.sum()):,} steps: "
        "what the policy no longer does is forgotten",
        cures.format_options({cures.CAPACITY: larger_buffer(the(case.config), case.usual, int(visits.sum()))}),
    )  # fmt: skip


def larger_buffer(config: TrainConfig, usual: TrainConfig | None, steps: int) -> int:
    """Return a capacity that holds more of the `steps`: the usual one, or that of all, up to half a million."""
    there = usual.replay.capacity if usual is not None else 0
    wanted = max(there, 50_000, min(steps, 500_000))
    return wanted if wanted > cures.CLEARLY * config.replay.capacity else 4 * config.replay.capacity


def rank_gaps(findings: list[Finding]) -> list[Finding]:
    """Return the findings with those about gaps in the order of how many decisions the gaps cost, in their places."""
    ranks = [i for i, finding in enumerate(findings) if "critical_pairs" in finding.evidence]
    gaps = sorted((findings[i] for i in ranks), key=lambda finding: -finding.evidence["critical_pairs"])
    ranked = dict(zip(ranks, gaps, strict=True))
    return [ranked.get(i, finding) for i, finding in enumerate(findings)]


CHECKS = (
    Check("epsilon-fell-too-early", ("config", "history", "visits", "q"), epsilon_fell_too_early),
    Check("replay-forgot-pairs", ("config", "replay", "q"), replay_forgot_pairs),
    Check("states-never-visited", ("visits",), states_never_visited),
    Check("pairs-never-tried", ("visits",), pairs_never_tried),
    Check("states-full", ("visits",), states_full),
)
