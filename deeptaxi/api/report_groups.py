"""Write an HTML report on groups of runs: the comparison, and the best run looked into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeptaxi.api.group_statistics import GroupSummary, best_run
from deeptaxi.api.report import Report, check_places, gather, write_report
from deeptaxi.errors import UsageError
from deeptaxi.report.content import GroupContent


def report_groups(
    summaries: Sequence[GroupSummary],
    comparison: Mapping[str, Any],
    path: Path,
    figures: Path | None,
    force: bool,
    trust_env: bool,
) -> Report:
    """Write a page on groups, whose comparison is given as in the JSON. See `GroupComparison.report`."""
    from deeptaxi.api.load import load

    check_places(path, figures, force)
    best = best_run(summaries)
    if best.folder is None:
        raise UsageError(f"{best.name} is not saved: the page looks into the best run, so save it first, run.save(…)")
    content = gather([load(best.folder, trust_env=trust_env)])
    curves = {(one.group.environment, one.group.label): [run.curve for run in one.group.runs] for one in summaries}
    remarks = (*comparison["remarks"], *content.remarks)
    content = replace(content, remarks=remarks, groups=GroupContent(comparison, curves))
    return write_report(content, path, figures, force)
