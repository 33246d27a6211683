"""Write an HTML report on runs: their verdicts, and a state-by-state comparison of one with the optimum."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi.api.build_case import DiagnoseOptions, OpenedModel, build_case
from deeptaxi.api.run_data import RunData
from deeptaxi.api.sampling import sample_episodes
from deeptaxi.api.status import planning_status
from deeptaxi.arguments import short_words, show
from deeptaxi.config import TrainConfig, dump_toml
from deeptaxi.diagnosis import diagnose
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation.comparison import compare
from deeptaxi.evaluation.recording import Recording, is_small, record_seeds
from deeptaxi.io.atomic import check_free, write_atomic_all, write_text
from deeptaxi.mdp.describe import grid_map, names_of
from deeptaxi.mdp.planning import greedy_policy
from deeptaxi.mdp.table import Ints
from deeptaxi.metrics import History
from deeptaxi.report.content import Content, GroupContent, Playable, ReportedRun, Subject
from deeptaxi.storage import model_card
from deeptaxi.storage.run_folder import CONFIG_FILE

EPISODES = 1000  # as many as `evaluate` plays, with the same seed


def gather(runs: Sequence[RunData], diagnosis: Mapping[str, Any] | None = None) -> Content:
    """Compute the content of the report; `diagnosis` is that of the one run, None to diagnose it here."""
    remarks: list[str] = []
    reported = [reported_run(run, remarks) for run in runs]
    worst = farthest(reported)
    environment = runs[0].environment
    playable, unplayable = make_playable(runs[worst])
    return Content(
        environment=environment.describe(),
        unavailable=environment.table_missing,
        names=names_of(environment),
        grid=grid_map(environment),
        runs=reported,
        subject=look_closely(runs[worst], reported[worst], remarks, diagnosis),
        remarks=remarks,
        playable=playable,
        unplayable=unplayable,
    )


def reported_run(run: RunData, remarks: list[str]) -> ReportedRun:
    """Return a run with its verdict and log; append what is missing to `remarks`."""
    episodes = None if run.exact else sample_episodes(run, EPISODES, 0)
    return ReportedRun(
        name=run.name,
        network=describe_model(run),
        config=run.config,
        facts=run.facts,
        exact=run.exact,
        episodes=episodes.to_dict() if episodes else None,
        history=history_of(run, remarks),
    )


def describe_model(run: RunData) -> str:
    """Describe a model in a few words, as far as it is known."""
    if run.config is not None:
        return model_card.describe_network(run.config)
    if run.network is None:
        return "Q table" if run.decisions.ndim > 1 else "policy without Q values"
    return "network from a bare file, whose training is not known"


def history_of(run: RunData, remarks: list[str]) -> History | None:
    """Return the log of a run; if it is missing, append a remark and return None."""
    history = run.history
    if history is None and run.config is None:
        return None
    if history is None:
        remarks.append(f"{run.log.missing.get('history')}; its learning curves and visits are missing here")
        return None
    if history.skipped:
        lines = ", ".join(map(str, history.skipped[:5])) + (", …" if len(history.skipped) > 5 else "")
        remarks.append(f"{history.path} has {len(history.skipped)} corrupt lines, which are skipped: {lines}")
    return history


def farthest(runs: Sequence[ReportedRun]) -> int:
    """Return the index of the first run with the lowest value, or mean return if there is no exact verdict."""
    values = [run.exact["value"] if run.exact else (run.episodes or {})["mean_return"] for run in runs]
    return values.index(min(values))


def look_closely(
    run: RunData, reported: ReportedRun, remarks: list[str], diagnosis: Mapping[str, Any] | None = None
) -> Subject:
    """Compare one run with the optimum, state by state; diagnose it, unless its `diagnosis` is known."""
    reference = run.reference()
    found = diagnose_run(run, remarks) if diagnosis is None else diagnosis
    again, evaluate = commands(run)
    return Subject(
        run=reported,
        policy=run.policy,
        comparison=None if reference is None else compare(reference, run.decisions),
        visits=visits_of(run, remarks),
        diagnosis=found,
        cures=None if found is None else found.get("cures"),
        again=again,
        evaluate=evaluate,
        settings="" if run.config is None else dump_toml(run.config, {}).partition("\n[run]")[0],
    )


def make_playable(run: RunData) -> tuple[Playable | None, str]:
    """Return what episodes are played with on the page; or None, and why it has no player."""
    environment = run.environment
    if environment.table is None:
        return None, f"there is no player, as {environment.table_missing}"
    if not is_small(environment.table):
        return None, "there is no player, as the problem is too large for a page; `deeptaxi watch` plays it"
    reference = run.reference()
    if reference is None:
        return None, ""
    table = reference.table
    loses = compare(reference, run.decisions).loss > 0
    best = np.where(loses, greedy_policy(reference.optimum.q, table.action_mask), run.policy)
    recordings: Mapping[int, Mapping[str, Recording]] = {}
    why = ""
    try:
        recordings = record_seeds(environment, table, {"agent": run.policy, "best": best})
    except DeepTaxiError as error:
        why = f"the episodes of `deeptaxi watch` are missing here: {error}"
    playable = Playable(
        table=table,
        time_limit=environment.time_limit,
        horizon=environment.horizon,
        discount=reference.discount,
        training_discount=reference.training_discount,
        best=best,
        value=reference.optimum.q,
        recordings=recordings,
        watch=watch_command(run),
    )
    return playable, why


def watch_command(run: RunData) -> str:
    """Return the command that plays the same episodes; empty if only Python can."""
    evaluate = commands(run)[1].partition("   #")[0]
    return evaluate.replace("deeptaxi evaluate", "deeptaxi watch", 1) if evaluate.startswith("deeptaxi ") else ""


def commands(run: RunData) -> tuple[str, str]:
    """Return the commands that retrain and evaluate a run; an unsaved run is treated as if saved under its name."""
    config = run.config
    if config is None:
        return "", evaluate_command(run)
    if run.folder is None:
        evaluate = f"deeptaxi evaluate {shlex.quote(run.name)}   # once it is saved there: run.save('{run.name}')"
        return f"deeptaxi train --config {CONFIG_FILE}   # which holds the configuration above", evaluate
    return model_card.training_command(run.folder, config), model_card.evaluate_command(run.folder, config)


def evaluate_command(run: RunData) -> str:
    """Return the command that evaluates a bare model file."""
    environment = run.environment.config
    words = [f"--env-arg {shlex.quote(f'{key}={show(value)}')}" for key, value in environment.kwargs.items()]
    return " ".join(["deeptaxi evaluate", shlex.quote(run.name), "--env", shlex.quote(environment.id), *words])


def diagnose_run(run: RunData, remarks: list[str]) -> Mapping[str, Any] | None:
    """Return the diagnosis of a run; None, with a remark, if it fails."""
    opened = OpenedModel(run.name, run.environment, run.config, run.log, run.network, run.decisions)
    try:
        return diagnose(build_case(opened, DiagnoseOptions())).to_dict()
    except DeepTaxiError as error:
        remarks.append(f"{error}; the findings are missing here")
        return None


def visits_of(run: RunData, remarks: list[str]) -> Ints | None:
    """Return the visit counts of the training, `[S, A]`; None if unknown."""
    if run.history is not None and "visits" in run.log.missing:
        remarks.append(f"{run.log.missing['visits']}; the visits are missing here")
    return run.coverage.visits if run.coverage else None


@dataclass(frozen=True)
class Report:
    """Summary of a written report.

    Attributes:
        report: path of the page.
        bytes: size of the page.
        sections: names of the sections that have content.
        runs: names of the runs.
        figures: paths of the figures written separately.
        remarks: notes on missing content.
    """

    report: str
    bytes: int
    sections: tuple[str, ...]
    runs: tuple[str, ...]
    figures: tuple[str, ...]
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi report --json` prints."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def report(
    runs: Sequence[RunData],
    path: Path,
    figures: Path | None = None,
    force: bool = False,
    diagnosis: Mapping[str, Any] | None = None,
) -> Report:
    """Write a report on one run, or on several runs of the same problem.

    Args:
        runs: the runs.
        path: the page.
        figures: folder for its pictures as files.
        force: whether to overwrite existing files.
        diagnosis: of the one run, what `diagnose --json` says, with what its cures reached if they were tried; None to
            diagnose it here.

    Raises:
        UsageError: a file exists and `force` is not set, the runs are of different problems, or there is a diagnosis
            and several runs.
    """
    check_places(path, figures, force)
    check_comparable([run.name for run in runs], [run.config for run in runs])
    if diagnosis is not None and len(runs) > 1:
        raise UsageError(f"a diagnosis is of one run, and there are {len(runs)}: write a report on each")
    return write_report(gather(runs, diagnosis), path, figures, force)


def report_groups(best: RunData, groups: GroupContent, path: Path, figures: Path | None, force: bool) -> Report:
    """Write a report on groups of runs: their comparison, and the best run looked into.

    Raises:
        UsageError: a file exists and `force` is not set.
    """
    check_places(path, figures, force)
    content = gather([best])
    remarks = (*groups.comparison["remarks"], *content.remarks)
    return write_report(replace(content, remarks=remarks, groups=groups), path, figures, force)


def write_report(content: Content, path: Path, figures: Path | None, force: bool) -> Report:
    """Draw and write a report, and its figures as files."""
    with planning_status("drawing the report …"):
        from deeptaxi.report.page import page

        made = page(content)
        pictures: list[Path] = []
        if figures is not None:
            with write_atomic_all(figures) as aside:
                pictures = [figures / file.name for chart in made.charts for file in chart.write(aside)]
        write_text(path, made.html, force)
    names = tuple(run.name for run in content.runs)
    files = tuple(str(picture) for picture in pictures)
    return Report(str(path), len(made.html.encode()), tuple(made.sections), names, files, tuple(content.remarks))


def check_places(path: Path, figures: Path | None, force: bool) -> None:
    """Reject existing output files before anything is computed.

    Raises:
        UsageError: the page or a figure exists and `force` is not set, or `figures` is a file or lies below the page.
    """
    check_free(path, force, replaceable=path.is_file())
    if figures is None:
        return
    if path.resolve() in (figures.resolve(), *figures.resolve().parents):
        raise UsageError(f"{path} cannot be both the page and the folder of --figures {figures}: choose another")
    if figures.exists() and not figures.is_dir():
        raise UsageError(f"{figures} is a file: --figures expects a folder")
    taken = [file for ending in ("png", "svg") for file in figures.glob(f"*.{ending}")]
    if taken and not force:
        raise UsageError(
            f"{figures} contains {taken[0].name}; choose another folder, or overwrite pictures with --force"
        )


def check_comparable(names: Sequence[str], configs: Sequence[TrainConfig | None]) -> TrainConfig | None:
    """Check that all runs are of the same problem, and return the configuration of the first; None without any.

    A bare model has no configuration: it is evaluated on the problem of the others.

    Raises:
        UsageError: the environments or objectives of two runs differ.
    """
    known = [(name, config) for name, config in zip(names, configs, strict=True) if config is not None]
    for name, config in known:
        begun, first = known[0]
        for what, one, other in zip(
            ("environment", "objective discount"), problem(first), problem(config), strict=True
        ):
            if one != other:
                raise UsageError(f"{name} has the {what} {other}, {begun} {one}: write a separate report on each")
    return known[0][1] if known else None


def problem(config: TrainConfig) -> tuple[str, str]:
    """Describe what comparable runs share: the environment and the objective discount."""
    environment = config.environment
    arguments = short_words(dict(sorted(environment.kwargs.items())))
    limit = f" time_limit={environment.time_limit}" if environment.time_limit else ""
    return f"{environment.id} {arguments}".strip() + limit, str(config.evaluation.objective_discount)
