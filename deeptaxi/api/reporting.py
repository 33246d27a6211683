"""Pages about runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeptaxi.api.comparing import gather
from deeptaxi.api.models import load_source
from deeptaxi.api.runs import Run
from deeptaxi.api.stages import stage
from deeptaxi.arguments import short_words
from deeptaxi.config import TrainConfig
from deeptaxi.errors import UsageError
from deeptaxi.io.atomic import check_free, write_text, written_together
from deeptaxi.mdp.environment import open_environment
from deeptaxi.storage.models import find_model


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        report: the page.
        bytes: its size.
        sections: the names of those that have something to show.
        runs: the names of the runs.
        figures: the pictures that were written beside it.
        remarks: what the reader should know about what is missing.
    """

    report: str
    bytes: int
    sections: tuple[str, ...]
    runs: tuple[str, ...]
    figures: tuple[str, ...]
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what `deeptaxi report --json` says."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def report(runs: Sequence[Run], path: Path, figures: Path | None = None, force: bool = False) -> Report:
    """Write a page about one run, or about several of one problem.

    Raises:
        UsageError: a file is there and not to be replaced, or the runs are not of one problem.
    """
    check_places(path, figures, force)
    check_comparable([run.name for run in runs], [run.config for run in runs])
    content = gather(runs)
    with stage("drawing the report …"):
        from deeptaxi.report.page import page

        made = page(content)
        pictures: list[Path] = []
        if figures is not None:
            with written_together(figures) as aside:
                pictures = [figures / file.name for chart in made.charts for file in chart.write(aside)]
        write_text(path, made.html, force)
    names = tuple(run.name for run in content.runs)
    files = tuple(str(picture) for picture in pictures)
    return Report(str(path), len(made.html.encode()), tuple(made.sections), names, files, tuple(content.remarks))


def open_runs(folders: Sequence[Path], trust: bool) -> list[Run]:
    """Load runs of one problem, on one environment that is opened once.

    Raises:
        UsageError: one is no run folder or is named twice, or they are of different environments or objectives.
        DeepTaxiError: a model is damaged.
    """
    sources = [find_model(folder) for folder in folders]
    for folder, source in zip(folders, sources, strict=True):
        if source.config is not None and [other.resolve() for other in folders].count(folder.resolve()) > 1:
            raise UsageError(f"{folder} is named twice")
    first = check_comparable([source.name for source in sources], [source.config for source in sources])
    environment = open_environment(first.environment, trust_module=trust)
    return [load_source(source, environment) for source in sources]


def check_places(path: Path, figures: Path | None, force: bool) -> None:
    """Refuse, before anything is computed, to write to a place that is taken.

    Raises:
        UsageError: the page or a picture exists and is not to be overwritten, or `figures` is a file.
    """
    check_free(path, force, replaceable=path.is_file())
    if figures is None:
        return
    if figures.exists() and not figures.is_dir():
        raise UsageError(f"{figures} is a file: --figures names a folder")
    taken = [file for ending in ("png", "svg") for file in figures.glob(f"*.{ending}")]
    if taken and not force:
        raise UsageError(f"{figures} holds {taken[0].name}; name another folder, or overwrite pictures with --force")


def check_comparable(names: Sequence[str], configs: Sequence[TrainConfig | None]) -> TrainConfig:
    """Return the configuration of the first of several runs, which must be of one problem.

    Raises:
        UsageError: one is no run, or they are of different environments or objectives.
    """
    known: list[TrainConfig] = []
    for name, config in zip(names, configs, strict=True):
        if config is None:
            raise UsageError(f"{name} is not a run folder: a report is about runs, with their configuration and log")
        known.append(config)
        first = known[0]
        for what, one, other in zip(
            ("environment", "objective discount"), problem(first), problem(config), strict=True
        ):
            if one != other:
                raise UsageError(f"{name} has the {what} {other}, {names[0]} {one}: write a report on each of them")
    return known[0]


def problem(config: TrainConfig) -> tuple[str, str]:
    """Return what runs must share to be compared, in words: the environment and the discount of the objective."""
    place = config.environment
    arguments = short_words(dict(sorted(place.kwargs.items())))
    limit = f" time_limit={place.time_limit}" if place.time_limit else ""
    return f"{place.id} {arguments}".strip() + limit, str(config.evaluation.objective_discount)
