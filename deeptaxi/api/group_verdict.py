"""A comparison of groups in sentences: which is better, how surely, what more seeds would tell, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deeptaxi.api.group_statistics import NORMALIZED, RETURN, GroupPair, GroupSummary, TimeSummary
from deeptaxi.api.run_groups import listed
from deeptaxi.display.group_tables import p_value, percentage
from deeptaxi.statistics import differences

FEW_SEEDS = 5


def verdict_of(summaries: Sequence[GroupSummary], pairs: Sequence[GroupPair], score: str) -> str:
    """Return the verdict on the groups of a problem in a sentence or two."""
    if len(summaries) == 1:
        return describe_alone(summaries[0])
    by_label = {one.group.label: one for one in summaries}
    pair = pairs[0]
    best, other = by_label[pair.best], by_label[pair.other]
    first = describe_pair(best, other, pair, score)
    if len(pairs) == 1 or not best.optimal:
        return first
    certain = sum(is_significant(one.p_adjusted) and best_is_more(by_label[one.other], best) for one in pairs)
    if not certain:
        return first
    return f"{first} {certain} of the {len(pairs)} others certainly solve{'s' * (certain == 1)} fewer."


def is_significant(p: float | None) -> bool:
    """Whether a p-value is below the level."""
    return p is not None and p < differences.LEVEL


def best_is_more(other: GroupSummary, best: GroupSummary) -> bool:
    """Whether a larger share of the runs of the best group is optimal."""
    return (best.optimal or 0) / best.seeds > (other.optimal or 0) / other.seeds


def describe_alone(one: GroupSummary) -> str:
    """Describe a single group, with which there is nothing to compare."""
    seeds = f"{one.seeds} seed{'s' * (one.seeds > 1)}"
    if one.share is None or one.share.low is None or one.share.high is None:
        return f"There is one group, of {seeds}, and nothing to compare it with."
    if one.seeds == 1:
        what = "is optimal" if one.optimal else "is not optimal"
        return f"There is one run, and it {what}. One seed says nothing of others: train more, with --seeds 0-9"
    between = f"between {percentage(one.share.low)} and {percentage(one.share.high)}"
    return (
        f"{one.optimal} of {seeds} are optimal: {between} of all seeds would be (95 %). There is one group, and "
        "nothing to compare it with."
    )


def describe_pair(best: GroupSummary, other: GroupSummary, pair: GroupPair, score: str) -> str:
    """Say which of two groups is better, or how many more seeds would tell."""
    if min(best.seeds, other.seeds) == 1:
        return (
            f"A single seed cannot tell {pair.best} from {pair.other}: another may reverse the order, and there is no "
            "interval. Train each from the same number of seeds, five or more."
        )
    if best.optimal is None or other.optimal is None:
        return describe_scores(pair, score)
    counts = f"{best.optimal} of {best.seeds} against {other.optimal} of {other.seeds}"
    if best_is_more(other, best):
        if is_significant(pair.p_adjusted):
            return f"{pair.best} solves more seeds than {pair.other}: {counts}, {equals(pair.p_adjusted)}."
        return (
            f"These seeds do not tell {pair.best} from {pair.other}: {counts} solved, {equals(pair.p_adjusted)}. "
            f"{more_seeds(best, other, pair)}"
        )
    if best.optimal == 0:
        return f"No seed of {pair.best} or {pair.other} is solved. {describe_scores(pair, score)}"
    return f"{pair.best} and {pair.other} solve the same share of seeds: {counts}. {describe_times(best, other, pair)}"


def more_seeds(best: GroupSummary, other: GroupSummary, pair: GroupPair) -> str:
    """Say how many more seeds would tell shares apart, if they are as they look."""
    more = max(0, (pair.seeds_to_tell or 0) - min(best.seeds, other.seeds))
    if not more:
        return "If the shares are as they look, as many seeds tell in four of five such experiments."
    return f"If the shares are as they look, about {more:,} more seeds each would tell."


def describe_times(best: GroupSummary, other: GroupSummary, pair: GroupPair) -> str:
    """Say which of two groups that solve equally many seeds takes less time."""
    one, two = best.updates_to_optimum, other.updates_to_optimum
    if one is None or two is None or pair.time_p_adjusted is None:
        return "Without logs of both, it is not known which is faster."
    medians = f"a median of {updates(one)} against {updates(two)} updates, {equals(pair.time_p_adjusted)} (log-rank)"
    if is_significant(pair.time_p_adjusted):
        return f"{pair.best} is optimal sooner: {medians}."
    return f"Nor does the time to the optimum tell: {medians}."


def describe_scores(pair: GroupPair, score: str) -> str:
    """Say which of two groups scores higher."""
    found = pair.probability_of_improvement
    if pair.score_p_adjusted is None or found.low is None or found.high is None or found.estimate is None:
        return "Their scores do not tell them apart."
    what = "normalized score" if score == NORMALIZED else "return"
    interval = f"{percentage(found.estimate)} (95 %: {percentage(found.low)} to {percentage(found.high)})"
    likely = (
        f"a seed of {pair.best} has a higher {what} than one of {pair.other} with a probability of {interval}, "
        f"{equals(pair.score_p_adjusted)}"
    )
    if is_significant(pair.score_p_adjusted) and found.estimate > 0.5:
        return f"{pair.best} scores higher than {pair.other}: {likely}."
    return f"Their scores do not tell them apart: {likely}."


def updates(found: TimeSummary) -> str:
    """Format a median number of updates."""
    return "–" if found.median.estimate is None else f"{found.median.estimate:,.0f}"


def equals(p: float | None) -> str:
    """Format a p-value in a sentence."""
    shown = p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def remarks_on(summaries: Sequence[GroupSummary], score: str, left_out: Mapping[str, str]) -> list[str]:
    """Say what limits a comparison."""
    runs = [run for one in summaries for run in one.group.runs]
    remarks = []
    sampled = [run for run in runs if run.exact is None]
    if sampled:
        whose = "all runs" if len(sampled) == len(runs) else f"{len(sampled)} of {len(runs)} runs"
        remarks.append(
            f"There is no exact verdict on {whose}: their returns are means of sampled episodes, and whether they are "
            "optimal is not known."
        )
    elif score == RETURN:
        remarks.append("Some runs have no normalized score: the scores are returns, in the unit of the rewards.")
    undecided = [run for run in runs if run.exact is not None and run.optimal is None]
    if undecided:
        remarks.append(f"Whether {undecided[0].name} is optimal cannot be determined: its group has no share.")
    failed = sum("training failed" in why for why in left_out.values())
    if failed:
        remarks.append(f"{failed} of the runs left out failed: they do not count as seeds that are not solved.")
    silent = [run for run in runs if run.time_to_optimum is None and run.exact is not None]
    if silent:
        remarks.append(f"The times to the optimum are without {listed(run.name for run in silent)}: no log says them.")
    if len({run.processor for run in runs}) > 1:
        remarks.append("The runs were trained on different processors: their seconds do not compare.")
    return remarks + remarks_on_intervals(summaries)


def remarks_on_intervals(summaries: Sequence[GroupSummary]) -> list[str]:
    """Say where intervals say little."""
    remarks = []
    single = [one for one in summaries if one.seeds == 1]
    if single:
        remarks.append(
            f"{listed(one.group.name for one in single)}: one seed has no interval of its score, and the share of "
            "seeds that are optimal is hardly bounded."
        )
    few = [one for one in summaries if 1 < one.seeds < FEW_SEEDS]
    if few:
        remarks.append(
            f"{listed(one.group.name for one in few)}: fewer than {FEW_SEEDS} seeds. A bootstrap draws from what is "
            "there, so the intervals of the scores are too narrow; that of the share holds for few seeds too."
        )
    equal = [one for one in summaries if one.seeds > 1 and np.ptp(one.scores) == 0]
    if equal and len(few) < len(summaries):
        remarks.append(
            f"{listed(one.group.name for one in equal)}: all seeds score the same, so that the bootstrap has no "
            "width. That is not certainty: see the interval of the share."
        )
    return remarks
