"""Compare groups of runs: which setting solves more seeds, scores higher, and is optimal sooner: `compare`."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeptaxi.api.group_statistics import (
    NORMALIZED,
    RETURN,
    GroupPair,
    GroupSummary,
    aggregate,
    best_run,
    limits_of,
    on,
    pairs_of,
    summarize,
)
from deeptaxi.api.group_verdict import remarks_on, verdict_of
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.run_groups import (
    check_problems,
    default_keys,
    describe_differences,
    find_keys,
    group,
    keys_on_each_problem,
    without_copies,
)
from deeptaxi.api.status import planning_status
from deeptaxi.errors import DeepTaxiError, UsageError, one_line, printable
from deeptaxi.experiments.results import FAILED, is_sweep, read_results
from deeptaxi.machine import processor
from deeptaxi.statistics.intervals import IntervalEstimate
from deeptaxi.storage.model_card import describe_network
from deeptaxi.storage.run_results import (
    NO_CURVE,
    RunResult,
    flat_settings,
    read_result,
    run_folders,
    time_to_optimum,
    value_curve,
    words_of,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deeptaxi.api.report import Report
    from deeptaxi.api.run import Run

RARE = 3  # runs named in a remark


@dataclass(frozen=True, eq=False, repr=False)
class GroupComparison(RichRepr):
    """Groups of runs, compared.

    Attributes:
        by: the labels of what they are grouped by.
        score: what the scores are: `"normalized_score"` or `"return"`.
        groups: a `GroupSummary` for each.
        pairs: the best group of each problem beside every other.
        overall: over several problems, the groups that are on all of them: the aggregates of their scores, stratified
            by problem; by the label of what remains of `by` without `env`.
        verdicts: a sentence or two for each problem.
        left_out: runs that are not compared, by name, each with the reason.
        remarks: what to know when reading it.
    """

    by: tuple[str, ...]
    score: str
    groups: tuple[GroupSummary, ...]
    pairs: tuple[GroupPair, ...]
    overall: Mapping[str, Mapping[str, IntervalEstimate]]
    verdicts: Mapping[str, str]
    left_out: Mapping[str, str]
    remarks: tuple[str, ...] = field(default=())

    @cached_property
    def verdict(self) -> str:
        """The verdict in a sentence or two; of several problems, a line for each."""
        if len(self.verdicts) == 1:
            return next(iter(self.verdicts.values()))
        return "\n".join(f"{place}: {verdict}" for place, verdict in self.verdicts.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi compare --json` prints."""
        return {
            "by": list(self.by),
            "score": self.score,
            "verdict": self.verdict,
            "verdicts": dict(self.verdicts),
            "best_run": best_run(self.groups).name,
            "groups": [summary.to_dict() for summary in self.groups],
            "pairs": [asdict(pair) for pair in self.pairs],
            "overall": {
                label: {name: asdict(value) for name, value in found.items()} for label, found in self.overall.items()
            },
            "left_out": [{"run": name, "why": why} for name, why in self.left_out.items()],
            "remarks": list(self.remarks),
        }

    def report(
        self, path: str | Path, *, figures: str | Path | None = None, force: bool = False, trust_env: bool = False
    ) -> Report:
        """Write an HTML page: the groups beside each other, and the best run looked into.

        Args:
            path: the HTML file.
            figures: folder to also write the figures to, as PNG and SVG files.
            force: whether to overwrite existing files.
            trust_env: whether to import the environment module that the best run names, which executes its code.

        Raises:
            UsageError: a file exists and `force` is not set, or the best run is not saved, or cannot be opened.
        """
        from deeptaxi.api.load import load
        from deeptaxi.api.report import check_places, report_groups
        from deeptaxi.report.content import GroupContent

        page, pictures, best = Path(path), None if figures is None else Path(figures), best_run(self.groups)
        check_places(page, pictures, force)
        if best.folder is None:
            raise UsageError(
                f"{best.name} is not saved: the page looks into the best run, so save it first, run.save(…)"
            )
        curves = {(one.group.environment, one.group.label): [run.curve for run in one.group.runs]
                  for one in self.groups}  # fmt: skip
        content = GroupContent(self.to_dict(), curves)
        return report_groups(load(best.folder, trust_env=trust_env), content, page, pictures, force)

    def __repr__(self) -> str:
        return f"GroupComparison({len(self.groups)} groups: {self.verdict})"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display.group_tables import comparison_page

        return comparison_page(self.to_dict())


def compare(runs: str | Path | Run | Iterable[str | Path | Run], by: str | Sequence[str] = ()) -> GroupComparison:
    """Compare groups of runs, such as those of a sweep, each a setting trained from many seeds.

    No model is loaded: model cards and logs say it all.

    Args:
        runs: run folders, folders that hold some at any depth, or runs, such as those that `train` returns for `seeds`.
        by: settings to group by, as options or TOML keys name them; or `env`, `network`, `preset`, `folder`. By
            default those in which the runs differ, besides the seed. The runs of a sweep on several problems are
            grouped by `env` too.

    Returns:
        The groups with the share of seeds that are optimal, their scores, and the time they took, all with intervals,
        and a verdict.

    Raises:
        UsageError: there are no finished runs, they are on different problems, or a setting does not exist.
    """
    from deeptaxi.api.sweep import SweepResult

    if isinstance(runs, SweepResult) and runs.folder is not None:
        runs = runs.folder  # and open no model
    given = [runs] if isinstance(runs, str | Path) or not isinstance(runs, Iterable) else list(runs)
    names = [by] if isinstance(by, str) else list(by)
    with planning_status("reading the runs …"):
        results, left_out, sweeps = gather(given)
    return compare_results(results, names, left_out, on_each_problem=is_one_sweep(results, sweeps))


def is_one_sweep(results: Sequence[RunResult], sweeps: Sequence[Path]) -> bool:
    """Return whether all runs are of the same sweep, which has all settings on each of its problems."""
    return len(sweeps) == 1 and all(run.folder is not None and sweeps[0] in run.folder.parents for run in results)


def gather(given: Sequence[str | Path | Run]) -> tuple[list[RunResult], dict[str, str], list[Path]]:
    """Return the results of all runs, why others are left out, by name, and the folders of sweeps that they are in."""
    results: list[RunResult] = []
    left_out: dict[str, str] = {}
    sweeps: dict[Path, None] = {}
    collecting = gc.isenabled()
    gc.disable()  # it would scan all cards again and again
    try:
        for folder in run_folders([Path(one) for one in given if isinstance(one, str | Path)]):
            try:
                results.append(read_result(folder))
            except DeepTaxiError as error:
                left_out[str(folder)] = printable(str(error))
            sweeps |= {place: None for place in folder.parents if is_sweep(place)}
    finally:
        if collecting:
            gc.enable()
    for place in sweeps:
        left_out = {**failed_jobs(place), **left_out}
    results += [result_of(run) for run in given if not isinstance(run, str | Path)]
    return results, left_out, list(sweeps)


def failed_jobs(sweep: Path) -> dict[str, str]:
    """Return the jobs of a sweep that failed, most of which have left no folder, each with the reason."""
    return {
        str(sweep / name): f"its training failed: {one_line(line.get('reason') or 'nothing says why')}"
        for name, line in read_results(sweep).items()
        if line["status"] == FAILED
    }


def result_of(run: Run) -> RunResult:
    """Return the result of a run in memory.

    Raises:
        UsageError: it is a bare model, or something else.
    """
    from deeptaxi.api.run import Run

    if not isinstance(run, Run) or run.config is None:
        what = "a model without its training" if isinstance(run, Run) else f"{type(run).__name__}"
        raise UsageError(f"expected run folders or runs to compare, received {what}")
    exact, config = run.exact, run.config
    return RunResult(
        name=run.name,
        folder=run.folder,
        environment=words_of(config.environment.id, config),
        objective_discount=config.evaluation.objective_discount,
        settings=flat_settings(config),
        exact=exact,
        mean_return=exact["return"] if exact else run.episodes["mean_return"] if run.episodes else None,
        network=describe_network(config),
        preset=run.facts.get("preset", "none"),
        digest=run.weights_digest,
        processor=processor(),
        time_to_optimum=None if run.history is None else time_to_optimum(run.history),
        curve=NO_CURVE if run.history is None else value_curve(run.history),
    )


def compare_results(
    results: Sequence[RunResult], by: Sequence[str], left_out: Mapping[str, str], on_each_problem: bool = False
) -> GroupComparison:
    """Compare runs that were read, those on several problems on each of them, or not at all. See `compare`."""
    left_out = dict(left_out)
    if not results:
        some = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:RARE])
        raise UsageError(f"there is no finished run to compare: {some}")
    found, copies = without_copies(results)
    left_out.update({run.name: f"it is the same training as {first.name}" for run, first in copies})
    unknown = [run for run in found if run.mean_return is None]
    left_out.update({run.name: "nothing says how good it is: `deeptaxi evaluate` plays episodes" for run in unknown})
    found = [run for run in found if run.mean_return is not None]
    if not found:
        raise UsageError(f"nothing says how good {unknown[0].name} is, nor the others: train them with a table")
    keys = find_keys(by, found) if by else None
    several = len({run.environment for run in found}) > 1 and not any(key.of_environment for key in keys or ())
    if on_each_problem and several:
        keys = keys_on_each_problem(found, keys)
    check_problems(found, keys)
    chosen = bool(by)
    keys = keys or default_keys(found)
    score = NORMALIZED if all(run.normalized_score is not None for run in found) else RETURN
    groups = group(found, keys)
    with planning_status("drawing the runs again and again, for the intervals …"):
        limits = limits_of(found, score)
        summaries = tuple(summarize(one, score, limits[one.environment]) for one in groups)
        pairs = tuple(pair for place in limits for pair in pairs_of(on(summaries, place)))
        overall = aggregate(summaries, keys)
    return GroupComparison(
        by=tuple(key.label for key in keys),
        score=score,
        groups=summaries,
        pairs=pairs,
        overall=overall,
        verdicts={place: verdict_of(on(summaries, place), [p for p in pairs if p.environment == place], score)
                  for place in limits},
        left_out=left_out,
        remarks=(*describe_differences(groups, keys, chosen), *remarks_on(summaries, score, left_out)),
    )  # fmt: skip
