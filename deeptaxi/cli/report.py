"""``deeptaxi report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options
from deeptaxi.cli.models import Opened, load_model

EPISODES = 1000  # as many as `evaluate` plays, by the same seed


@click.command("report")
@click.argument("runs", type=options.PATH, nargs=-1, required=True, metavar="RUN...")
@click.option("--out", "-o", type=options.PATH, metavar="FILE", help="Page to write.  [default: the run's name.html]")
@click.option("--figures", type=options.PATH, metavar="DIR", help="Write its pictures as PNG and SVG files too.")
@options.force_option
@options.trust_option
@options.json_option
@options.shared
def command(
    runs: tuple[Path, ...], out: Path | None, figures: Path | None, force: bool, trust_env: bool, as_json: bool
) -> None:
    """Write a page about RUN, a run folder, or about several on the same environment.

    It is one HTML file that needs no network: the verdict, the learning curves beside the optimum, the policy (on a
    map where the environment is a grid), Q beside Q*, visits, findings, the configuration and how to reproduce it.
    Of several runs it shows the median and the range, and looks closely at the one that is farthest from the optimum.
    """
    path = out or Path(f"{runs[0].resolve().name}.html" if len(runs) == 1 else "report.html")
    check_places(path, figures, force)
    sources = find_runs(runs)
    from deeptaxi.mdp.environment import open_environment

    environment = open_environment(sources[0].environment, trust_module=trust_env)
    from deeptaxi.presentation.console import err

    opened = [load_model(source, environment) for source in sources]
    content = gather(opened)
    with err().status("drawing the report …"):
        from deeptaxi.presentation.report.page import page

        made = page(content)
        pictures = write(made, path, figures)
    for remark in content.remarks:
        err().print(f"Note: {remark}", soft_wrap=True)
    tell(path, made, pictures, content, as_json)


def check_places(path: Path, figures: Path | None, force: bool) -> None:
    """Refuse, before anything is computed, to write to a place that is taken.

    Raises:
        UsageError: the page or a picture exists and is not to be overwritten, or `figures` is a file.
    """
    from deeptaxi.artifacts.files import check_free
    from deeptaxi.errors import UsageError

    check_free(path, force, replaceable=path.is_file())
    if figures is None:
        return
    if figures.exists() and not figures.is_dir():
        raise UsageError(f"{figures} is a file: --figures names a folder")
    taken = [file for ending in ("png", "svg") for file in figures.glob(f"*.{ending}")]
    if taken and not force:
        raise UsageError(f"{figures} holds {taken[0].name}; name another folder, or overwrite pictures with --force")


def find_runs(runs: tuple[Path, ...]) -> list[Any]:
    """Find the runs, which must be of one problem.

    Raises:
        UsageError: one is no run folder or is named twice, or they are of different environments or objectives.
    """
    from deeptaxi.artifacts.models import find_model
    from deeptaxi.errors import UsageError

    sources = [find_model(run) for run in runs]
    first = sources[0]
    for run, source in zip(runs, sources, strict=True):
        if source.config is None:
            raise UsageError(f"{run} is not a run folder: a report is about runs, with their configuration and log")
        if [other.resolve() for other in runs].count(run.resolve()) > 1:
            raise UsageError(f"{run} is named twice")
        for what, one, other in zip(
            ("environment", "objective discount"), problem(first.config), problem(source.config), strict=True
        ):
            if one != other:
                raise UsageError(f"{run} has the {what} {other}, {runs[0]} {one}: write a report on each of them")
    return sources


def problem(config: Any) -> tuple[str, str]:
    """Return what runs must share to be compared, in words: the environment and the discount of the objective."""
    place = config.environment
    arguments = "".join(f" {key}={value}" for key, value in sorted(place.kwargs.items()))
    limit = f" time_limit={place.time_limit}" if place.time_limit else ""
    return f"{place.id}{arguments}{limit}", str(config.judgement.objective_discount)


def gather(opened: list[Opened]) -> Any:
    """Compute all that the page shows."""
    from deeptaxi.mdp.maps import grid_map
    from deeptaxi.mdp.names import names_of
    from deeptaxi.presentation.report.content import Content

    remarks: list[str] = []
    runs = [reported(model, remarks) for model in opened]
    place = farthest(runs)
    environment = opened[0].environment
    return Content(
        environment=environment.describe(),
        unavailable=environment.table_missing,
        names=names_of(environment),
        grid=grid_map(environment),
        runs=runs,
        subject=look_closely(opened[place], runs[place], remarks),
        remarks=remarks,
    )


def reported(opened: Opened, remarks: list[str]) -> Any:
    """Return a run with its verdict and its log; add to the remarks what is missing."""
    from deeptaxi.artifacts.card_words import describe_network
    from deeptaxi.artifacts.runs import read_facts
    from deeptaxi.cli.evaluate import exact_verdict, played
    from deeptaxi.presentation.report.content import ReportedRun

    source = opened.source
    exact = exact_verdict(opened, None)
    return ReportedRun(
        name=source.name,
        network=describe_network(source.config),
        config=source.config,
        facts=read_facts(source.path.parent),
        exact=exact,
        episodes=None if exact else played(opened, EPISODES, 0),
        history=history_of(source.path.parent, remarks),
    )


def history_of(run: Path, remarks: list[str]) -> Any:
    """Return the log of a run; None, with a remark, where there is none."""
    from deeptaxi.artifacts.logs import LOG_FILE, find_log
    from deeptaxi.errors import DeepTaxiError
    from deeptaxi.records import read_history

    try:
        history = read_history(find_log(run) / LOG_FILE)
    except DeepTaxiError as error:
        remarks.append(f"{error}; its learning curves and visits are missing here")
        return None
    if history.skipped:
        lines = ", ".join(map(str, history.skipped[:5])) + (", …" if len(history.skipped) > 5 else "")
        remarks.append(f"{history.path} has {len(history.skipped)} corrupt lines, which are skipped: {lines}")
    return history


def farthest(runs: list[Any]) -> int:
    """Return which run is farthest from the optimum, or without one has the lowest return; the first of equals."""
    values = [run.exact["value"] if run.exact else run.episodes["mean_return"] for run in runs]
    return values.index(min(values))


def look_closely(opened: Opened, run: Any, remarks: list[str]) -> Any:
    """Compare one run with the optimum state by state."""
    from deeptaxi.artifacts import card_words
    from deeptaxi.config import dump_toml
    from deeptaxi.evaluation.comparison import compare
    from deeptaxi.evaluation.exact import policy_of
    from deeptaxi.presentation.report.content import Subject

    table, folder = opened.environment.table, opened.source.path.parent
    return Subject(
        run=run,
        policy=policy_of(opened.q_values, table.action_mask if table else None),
        comparison=compare(opened.reference(), opened.q_values) if table else None,
        visits=visits_of(run, opened.q_values.shape, remarks),
        diagnosis=diagnosed(opened, remarks),
        again=card_words.training_command(folder, run.config),
        judged=card_words.judging_command(folder, run.config),
        settings=dump_toml(run.config, {}).partition("\n[run]")[0],
    )


def diagnosed(opened: Opened, remarks: list[str]) -> dict[str, Any] | None:
    """Return what `deeptaxi diagnose` says of a run; None where its log keeps it from saying anything."""
    from deeptaxi.cli.cases import Asked, build_case
    from deeptaxi.errors import DeepTaxiError
    from deeptaxi.evaluation.diagnosis import diagnose

    try:
        case = build_case(opened.source, opened.environment, opened.network, opened.q_values, Asked())
    except DeepTaxiError as error:
        remarks.append(f"{error}; the findings are missing here")
        return None
    return diagnose(case).to_dict()


def visits_of(run: Any, shape: tuple[int, int], remarks: list[str]) -> Any:
    """Return what the training tried, `[S, A]`; None where its log does not say."""
    from deeptaxi.artifacts.logs import read_visits
    from deeptaxi.errors import DeepTaxiError

    if run.history is None:
        return None
    try:
        found = read_visits(run.history.path.parent)
    except DeepTaxiError as error:
        remarks.append(f"{error}; the visits are missing here")
        return None
    return found.visits if found and found.visits.shape == shape else None


def write(made: Any, path: Path, figures: Path | None) -> list[Path]:
    """Write the page and, if asked for, its pictures; return the paths of those."""
    from deeptaxi.artifacts.files import make_folder, write_text

    pictures: list[Path] = []
    if figures is not None:
        make_folder(figures)
        pictures = [file for chart in made.charts for file in chart.write(figures)]
    write_text(path, made.html)
    return pictures


def tell(path: Path, made: Any, pictures: list[Path], content: Any, as_json: bool) -> None:
    """Print what was written."""
    size = len(made.html.encode())
    if as_json:
        options.print_json(
            {
                "report": str(path),
                "bytes": size,
                "sections": list(made.sections),
                "runs": [run.name for run in content.runs],
                "figures": [str(picture) for picture in pictures],
                "remarks": list(content.remarks),
            }
        )
        return
    from deeptaxi.presentation.console import out

    more = f", and {len(pictures)} pictures in {pictures[0].parent}" if pictures else ""
    out().print(f"Wrote {path} ({size / 1000:.0f} KB){more}", soft_wrap=True)
