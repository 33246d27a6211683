"""What groups of runs achieved, and how the best of them stands beside the others, all with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deeptaxi.api.run_groups import ENV, Key, RunGroup
from deeptaxi.statistics import differences, survival
from deeptaxi.statistics.intervals import (
    AGGREGATES,
    Floats,
    IntervalEstimate,
    bootstrap_interval,
    performance_profile,
    wilson,
)
from deeptaxi.statistics.survival import SurvivalCurve
from deeptaxi.storage.run_results import RunResult

NORMALIZED, RETURN = "normalized_score", "return"
THRESHOLDS = 51  # of a performance profile


@dataclass(frozen=True, eq=False)
class TimeSummary:
    """How long the runs of a group take to become optimal for good.

    Attributes:
        median: the median time, with its interval; None where the runs do not reach it.
        reached: how many became optimal.
        censored: how many ended without.
        curve: the share that is not optimal yet, over time.
    """

    median: IntervalEstimate
    reached: int
    censored: int
    curve: SurvivalCurve

    def to_dict(self) -> dict[str, Any]:
        """Return it as in the JSON; `curve` starts at the first time."""
        curve = {name: getattr(self.curve, name).tolist() for name in ("times", "share", "low", "high")}
        return {
            "median": asdict(self.median),
            "reached": self.reached,
            "censored": self.censored,
            "not_optimal_yet": curve,
        }


@dataclass(frozen=True, eq=False)
class GroupSummary:
    """What the runs of a group achieved.

    Attributes:
        group: its settings and runs.
        optimal: how many runs are optimal; None if that is not known of all.
        share: their share, with its Wilson interval, or None.
        scores: the scores, `[runs]`.
        score: mean, median and interquartile mean of the scores, by name.
        updates_to_optimum, seconds_to_optimum: of the runs whose log is there; None without any.
        profile: thresholds, share of runs above, and the ends of its interval, `[T]` each; None of one run.
    """

    group: RunGroup
    optimal: int | None
    share: IntervalEstimate | None
    scores: Floats
    score: Mapping[str, IntervalEstimate]
    updates_to_optimum: TimeSummary | None
    seconds_to_optimum: TimeSummary | None
    profile: tuple[Floats, Floats, Floats, Floats] | None

    @property
    def seeds(self) -> int:
        """The number of its runs."""
        return len(self.group.runs)

    def to_dict(self) -> dict[str, Any]:
        """Return it as in the JSON."""
        times = {name: getattr(self, name) for name in ("updates_to_optimum", "seconds_to_optimum")}
        profile = None
        if self.profile is not None:
            names = ("thresholds", "share_above", "low", "high")
            profile = {name: part.tolist() for name, part in zip(names, self.profile, strict=True)}
        return {
            "label": self.group.label,
            "settings": dict(self.group.settings),
            "environment": self.group.environment,
            "runs": [run.name for run in self.group.runs],
            "seeds": [run.seed for run in self.group.runs],
            "optimal": self.optimal,
            "share_optimal": None if self.share is None else asdict(self.share),
            "scores": self.scores.tolist(),
            "score": {name: asdict(value) for name, value in self.score.items()},
            **{name: None if found is None else found.to_dict() for name, found in times.items()},
            "performance_profile": profile,
        }


@dataclass(frozen=True)
class GroupPair:
    """The best group of a problem beside another one.

    Attributes:
        environment: the problem.
        best, other: their labels.
        p: p-value of Boschloo's test on the shares of optimal runs, or None.
        score_p: p-value of the test of Mann and Whitney on the scores; None if a group has one run.
        time_p: p-value of the log-rank test on updates to the optimum, or None.
        p_adjusted, score_p_adjusted, time_p_adjusted: the same times the number of all pairs of groups, at most 1.
        probability_of_improvement: that a run of the best group scores higher than one of the other, with its interval.
        seeds_to_tell: seeds in each group that would tell shares as observed apart, with a power of 0.8; None if they
            are equal or unknown.
    """

    environment: str
    best: str
    other: str
    p: float | None
    p_adjusted: float | None
    score_p: float | None
    score_p_adjusted: float | None
    time_p: float | None
    time_p_adjusted: float | None
    probability_of_improvement: IntervalEstimate
    seeds_to_tell: int | None


def on(summaries: Sequence[GroupSummary], environment: str) -> list[GroupSummary]:
    """Return the groups on one problem."""
    return [one for one in summaries if one.group.environment == environment]


def score_of(run: RunResult, score: str) -> float:
    """Return the score of a run."""
    value = run.normalized_score if score == NORMALIZED else run.mean_return
    return float(value if value is not None else math.nan)


def limits_of(runs: Sequence[RunResult], score: str) -> dict[str, tuple[float, float]]:
    """Return between which scores profiles are drawn, by problem: from 0 at most to 1, or those that there are."""
    limits = {}
    for place in dict.fromkeys(run.environment for run in runs):
        scores = [score_of(run, score) for run in runs if run.environment == place]
        limits[place] = (min(0.0, *scores, 0.0), 1.0) if score == NORMALIZED else (min(scores), max(scores))
    return limits


def summarize(members: RunGroup, score: str, limits: tuple[float, float]) -> GroupSummary:
    """Compute what the runs of a group achieved."""
    runs = members.runs
    scores = np.array([score_of(run, score) for run in runs])
    verdicts = [run.optimal for run in runs]
    optimal = None if None in verdicts else sum(map(bool, verdicts))
    times = [found for found in (run.time_to_optimum for run in runs) if found is not None and optimal is not None]
    profile = None
    if len(runs) > 1:
        thresholds = np.linspace(*limits, THRESHOLDS)
        profile = (thresholds, *performance_profile([scores], thresholds))
    return GroupSummary(
        group=members,
        optimal=optimal,
        share=None if optimal is None else wilson(optimal, len(runs)),
        scores=scores,
        score={name: bootstrap_interval(statistic, [scores]) for name, statistic in AGGREGATES.items()},
        updates_to_optimum=time_summary([(found.updates, found.reached) for found in times]),
        seconds_to_optimum=time_summary([(found.seconds, found.reached) for found in times]),
        profile=profile,
    )


def time_summary(times: Sequence[tuple[float, bool]]) -> TimeSummary | None:
    """Summarize times, each with whether the optimum was reached; None if there are none."""
    if not times:
        return None
    reached = np.array([end for _, end in times], np.bool_)
    curve = survival.kaplan_meier(np.array([time for time, _ in times]), reached)
    return TimeSummary(curve.median, int(reached.sum()), int((~reached).sum()), curve)


def quality(one: GroupSummary) -> tuple[float, float, float]:
    """Return what groups are ranked by: the share that is optimal, the interquartile mean, the time to the optimum."""
    share = one.share.estimate if one.share is not None and one.share.estimate is not None else -1.0
    score = one.score["iqm"].estimate
    time = one.updates_to_optimum.median.estimate if one.updates_to_optimum is not None else None
    return share, -math.inf if score is None else score, -math.inf if time is None else -time


def best_run(summaries: Sequence[GroupSummary]) -> RunResult:
    """Return the run with the highest score in the best group; of equals, the one that was optimal first."""
    best = max(summaries, key=quality)

    def merit(number: int) -> tuple[float, float]:
        time = best.group.runs[number].time_to_optimum
        return float(best.scores[number]), -time.updates if time is not None and time.reached else -math.inf

    return best.group.runs[max(range(best.seeds), key=merit)]


def pairs_of(summaries: Sequence[GroupSummary]) -> list[GroupPair]:
    """Compare the best group of a problem with each of the others, from the next best on."""
    ranked = sorted(summaries, key=quality, reverse=True)
    return [pair_of(ranked[0], other, len(ranked)) for other in ranked[1:]]


def pair_of(best: GroupSummary, other: GroupSummary, groups: int) -> GroupPair:
    """Compare the best of several groups with another one."""
    p = needed = None
    if best.optimal is not None and other.optimal is not None:
        p = differences.boschloo(best.optimal, best.seeds, other.optimal, other.seeds)
        needed = differences.runs_to_tell(best.optimal / best.seeds, other.optimal / other.seeds, groups)
    times = [
        [found for found in (run.time_to_optimum for run in one.group.runs) if found is not None]
        for one in (best, other)
    ]
    time_p = None
    if all(len(found) > 1 for found in times):
        updates = [np.array([found.updates for found in part]) for part in times]
        reached = [np.array([found.reached for found in part], np.bool_) for part in times]
        time_p = survival.log_rank((updates[0], updates[1]), (reached[0], reached[1]))
    score_p = None
    if min(best.seeds, other.seeds) > 1:
        score_p = differences.mann_whitney(best.scores, other.scores)
    return GroupPair(
        environment=best.group.environment,
        best=best.group.label,
        other=other.group.label,
        p=p,
        p_adjusted=None if p is None else differences.adjust(p, groups),
        score_p=score_p,
        score_p_adjusted=None if score_p is None else differences.adjust(score_p, groups),
        time_p=time_p,
        time_p_adjusted=None if time_p is None else differences.adjust(time_p, groups),
        probability_of_improvement=bootstrap_interval(
            differences.probability_of_improvement, [best.scores], [other.scores]
        ),
        seeds_to_tell=needed,
    )


def aggregate(
    summaries: Sequence[GroupSummary], keys: Sequence[Key]
) -> dict[str, dict[str, IntervalEstimate]]:  # fmt: skip
    """Aggregate the scores of groups that are on all of several problems, stratified by problem."""
    places = list(dict.fromkeys(one.group.environment for one in summaries))
    rest = [key.label for key in keys if key.name != ENV]
    if len(places) < 2 or not rest or all(key.name != ENV for key in keys):
        return {}
    found: dict[str, dict[str, list[Floats]]] = {}
    for one in summaries:
        label = " ".join(f"{name}={one.group.settings[name]}" for name in rest)
        found.setdefault(label, {}).setdefault(one.group.environment, []).append(one.scores)
    tasks = {
        label: [np.concatenate(scores[place]) for place in places]
        for label, scores in found.items()
        if len(scores) == len(places)
    }
    return {
        label: {name: bootstrap_interval(statistic, scores) for name, statistic in AGGREGATES.items()}
        for label, scores in tasks.items()
    }
