"""Computing what a page about runs shows: their verdicts, and one of them beside the optimum, state by state."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from deeptaxi.api.cases import Asked, Looked, build_case
from deeptaxi.api.evaluate import sampled
from deeptaxi.api.runs import Run
from deeptaxi.config import TrainConfig, dump_toml
from deeptaxi.diagnosis import diagnose
from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation.comparison import compare
from deeptaxi.mdp.describe import grid_map, names_of
from deeptaxi.mdp.table import Ints
from deeptaxi.metrics import History
from deeptaxi.report.content import Content, ReportedRun, Subject
from deeptaxi.storage import model_card
from deeptaxi.storage.run_folder import CONFIG_FILE

EPISODES = 1000  # as many as `evaluate` plays, by the same seed


def gather(runs: Sequence[Run]) -> Content:
    """Compute all that the page shows."""
    remarks: list[str] = []
    reported = [reported_run(run, remarks) for run in runs]
    place = farthest(reported)
    environment = runs[0].environment
    return Content(
        environment=environment.describe(),
        unavailable=environment.table_missing,
        names=names_of(environment),
        grid=grid_map(environment),
        runs=reported,
        subject=look_closely(runs[place], reported[place], remarks),
        remarks=remarks,
    )


def config_of(run: Run) -> TrainConfig:
    """Return the configuration of a run that has one."""
    assert run.config is not None  # noqa: S101  # `check_comparable` has seen to it
    return run.config


def reported_run(run: Run, remarks: list[str]) -> ReportedRun:
    """Return a run with its verdict and its log; add to the remarks what is missing."""
    episodes = None if run.exact else sampled(run, EPISODES, 0)
    return ReportedRun(
        name=run.name,
        network=model_card.describe_network(config_of(run)),
        config=config_of(run),
        facts=run.facts,
        exact=run.exact,
        episodes=episodes.to_dict() if episodes else None,
        history=history_of(run, remarks),
    )


def history_of(run: Run, remarks: list[str]) -> History | None:
    """Return the log of a run; None, with a remark, where there is none."""
    history = run.history
    if history is None:
        remarks.append(f"{run.log.missing.get('history')}; its learning curves and visits are missing here")
        return None
    if history.skipped:
        lines = ", ".join(map(str, history.skipped[:5])) + (", …" if len(history.skipped) > 5 else "")
        remarks.append(f"{history.path} has {len(history.skipped)} corrupt lines, which are skipped: {lines}")
    return history


def farthest(runs: Sequence[ReportedRun]) -> int:
    """Return which run is farthest from the optimum, or without one has the lowest return; the first of equals."""
    values = [run.exact["value"] if run.exact else (run.episodes or {})["mean_return"] for run in runs]
    return values.index(min(values))


def look_closely(run: Run, reported: ReportedRun, remarks: list[str]) -> Subject:
    """Compare one run with the optimum state by state."""
    reference = run.reference()
    again, evaluate = commands(run)
    return Subject(
        run=reported,
        policy=run.policy,
        comparison=None if reference is None else compare(reference, run.q_values),
        visits=visits_of(run, remarks),
        diagnosis=diagnosed(run, remarks),
        again=again,
        evaluate=evaluate,
        settings=dump_toml(config_of(run), {}).partition("\n[run]")[0],
    )


def commands(run: Run) -> tuple[str, str]:
    """Return the commands that train a run again and that evaluate it; of one that is not kept, as if it were."""
    config = config_of(run)
    if run.folder is None:
        evaluate = f"deeptaxi evaluate {shlex.quote(run.name)}   # once it is kept there: run.save('{run.name}')"
        return f"deeptaxi train --config {CONFIG_FILE}   # which holds the configuration above", evaluate
    return model_card.training_command(run.folder, config), model_card.evaluate_command(run.folder, config)


def diagnosed(run: Run, remarks: list[str]) -> Mapping[str, Any] | None:
    """Return what `diagnose` says of a run; None where its log keeps it from saying anything."""
    looked = Looked(run.name, run.environment, run.config, run.log, run.network, run.q_values)
    try:
        return diagnose(build_case(looked, Asked())).to_dict()
    except DeepTaxiError as error:
        remarks.append(f"{error}; the findings are missing here")
        return None


def visits_of(run: Run, remarks: list[str]) -> Ints | None:
    """Return what the training tried, `[S, A]`; None where its log does not say."""
    if run.history is not None and "visits" in run.log.missing:
        remarks.append(f"{run.log.missing['visits']}; the visits are missing here")
    return run.coverage.visits if run.coverage else None
