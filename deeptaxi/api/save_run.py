"""Save a run: its folder, its log, and the JSON summary of its training."""

from __future__ import annotations

import dataclasses
import io
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from deeptaxi.api.environments import IN_MEMORY
from deeptaxi.api.networks import remember_network
from deeptaxi.api.run_data import RunData
from deeptaxi.backend.exactness import chosen_backend, flags, versions
from deeptaxi.config import OWN_KIND, TrainConfig, dump_toml
from deeptaxi.errors import DeepTaxiError, DiskError, DivergedError, UsageError
from deeptaxi.learning.coverage import Coverage
from deeptaxi.machine import processor
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.remembered import remember
from deeptaxi.mdp.table import TransitionTable, save_table
from deeptaxi.metrics import Finished, History, to_json
from deeptaxi.schema import to_mapping
from deeptaxi.storage import checkpoints, logs, model_card, runs
from deeptaxi.storage.compact_group import SHARED, WEIGHTS_FILE, CompactGroup
from deeptaxi.storage.logs import EVENTS, FAILED_FILE, LOG_FILE, VISITS_FILE, save_visits, visits_file
from deeptaxi.storage.model_card import resuming_command
from deeptaxi.storage.models import weights_of
from deeptaxi.storage.observations import FACT, save_observations
from deeptaxi.storage.run_folder import CARD_JSON, CONFIG_FILE, MODEL_FILE, OBSERVATIONS_FILE, TABLE_FILE
from deeptaxi.storage.runs import check_room


def own_table(environment: Environment, facts: Mapping[str, str] | None = None) -> TransitionTable | None:
    """Return the table to save in the run folder: one without a file of its own, or saved there before."""
    return environment.table if environment.config.id == IN_MEMORY or "table" in (facts or {}) else None


def pointing_to_table(
    folder: Path, table: TransitionTable | None, environment: Environment, config: TrainConfig
) -> tuple[Environment, TrainConfig]:
    """Point the environment and configuration at the table saved in the run folder."""
    if table is None:
        return environment, config
    saved = dataclasses.replace(environment.config, id=str(folder / TABLE_FILE))
    return dataclasses.replace(environment, config=saved), dataclasses.replace(config, environment=saved)


class Trained(NamedTuple):
    """How a run was trained, which a bare model does not know."""

    config: TrainConfig
    history: History
    finished: Finished


def trained_as(run: RunData) -> Trained:
    """Return how a run was trained.

    Raises:
        UsageError: it is unknown.
    """
    if run.config is None or run.history is None or run.finished is None:
        raise UsageError(f"{run.name} has no configuration or no log to keep: `export` writes its network alone")
    return Trained(run.config, run.history, run.finished)


def save(run: RunData, folder: Path, logs_folder: Path, force: bool) -> Path:
    """Write the run folder and the log of a run.

    Raises:
        UsageError: the folder is taken, or it is unknown how the run was trained.
    """
    trained = trained_as(run)
    table = own_table(run.environment, run.facts)
    environment, config = pointing_to_table(folder, table, run.environment, trained.config)
    check_room(folder, environment.describe(), config)
    reserved = runs.reserve(folder, logs_folder, force, table is not None)
    if run.folder is None:  # trained in this process
        remember(environment.config)
        remember_network(config.network)
    try:
        with logs.Log(reserved.log.parent, reserved.folder) as log:
            for record in trained.history.records:
                log.write(record)
            about, preset = environment.describe(), run.facts.get("preset", "none")
            finish_log(log, reserved.log.parent, run.log.coverage)
            runs.save_run(
                reserved,
                run.lazy_network,
                about,
                config,
                trained.finished,
                preset,
                table,
                trained.history.disturbed,
                environment.numbering,
            )
        if run.episodes is not None:
            runs.add_episodes(folder, run.episodes)
        checkpoints.discard(folder)  # of the run that was here before
    finally:
        reserved.release()
    if log.lost:
        raise DiskError(f"{log.lost}; the run itself is saved in {folder}")
    return folder


def describe(run: RunData, folder: Path, log: Path | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the card of a finished run in memory, and the other files that describe it, by name.

    Args:
        run: the run.
        folder: the run folder that commands on the card name.
        log: where its log will be, relative to the run folder; None if it has none.

    Raises:
        UsageError: it is unknown how the run was trained.
    """
    trained, table = trained_as(run), own_table(run.environment)
    files: dict[str, bytes] = {}
    environment, config = pointing_to_table(folder, table, run.environment, trained.config)
    about = dict(run.facts)
    if log is not None:
        about["log"] = str(log)
    if table is not None:
        about["table"] = TABLE_FILE
    if environment.numbering is not None:
        file = io.BytesIO()
        about[FACT] = save_observations(file, environment.numbering)
        files[OBSERVATIONS_FILE] = file.getvalue()
    files[CONFIG_FILE] = dump_toml(config, about).encode()
    facts = model_card.card(
        folder,
        environment.describe(),
        config,
        trained.finished,
        run.facts["preset"],
        disturbed=trained.history.disturbed,
    )
    if run.episodes is not None:
        facts = {**facts, "episodes": dict(run.episodes)}
        facts = {**facts, "limits": model_card.limits(facts)}
    return facts, files


def write_model(run: RunData, folder: Path) -> None:
    """Write the network of a run in memory into a temporary folder, and its table, if that has no file of its own."""
    run.network.save(folder / MODEL_FILE)
    table = own_table(run.environment)
    if table is not None:
        save_table(table, folder / TABLE_FILE)


def add_to_group(group: CompactGroup, run: RunData, folder: Path) -> None:
    """Add a finished run in memory to a compact group; `folder` is the path of the agent.

    Raises:
        DiskError: the file cannot be written.
    """
    if not group.has_shared_files:
        with TemporaryDirectory(prefix="deeptaxi-") as scratch:
            write_model(run, Path(scratch))
            group.add(SHARED, {path.name: path.read_bytes() for path in Path(scratch).iterdir()})
    card, files = describe(run, folder, Path(LOG_FILE))
    if run.coverage is not None and run.coverage.visits.size:
        files[VISITS_FILE] = visits_file(run.coverage)
    files[CARD_JSON] = to_json(card).encode()
    files[LOG_FILE] = logs.text_of(trained_as(run).history.records)
    files[WEIGHTS_FILE] = weights_of(run.lazy_network)
    group.add(folder.name, files)


def finish_log(log: logs.Log, folder: Path, coverage: Coverage | None) -> None:
    """Flush a log and its visit counts to disk; failures are recorded in `Log.lost`."""
    log.position()
    if coverage is not None and coverage.visits.size:
        with log.surviving(VISITS_FILE):
            save_visits(folder, coverage)


def checkpoint_metadata(
    environment: Environment, config: TrainConfig, run_folder: runs.RunFolder, preset: str, own: bool
) -> dict[str, Any]:
    """Return checkpoint metadata. `own`: the table exists only in this run folder."""
    return {
        "config": dump_toml(config, {}),
        "preset": preset,
        "environment": {**environment.describe(), "table": checkpoints.table_digest(environment.table)},
        "own_table": own,
        "backend": chosen_backend(),
        "versions": {**versions(chosen_backend()), "processor": processor()},
        "flags": flags(chosen_backend()),
        "log": str(Path(run_folder.relative_log).parent),
    }


def point_to_checkpoint(error: BaseException, config: TrainConfig, folder: Path, first: int = 0) -> None:
    """Add the resume command to a `DeepTaxiError` if the run has a checkpoint, numbered `first` or later.

    A run that diverged would diverge again, so its error is left alone.
    """
    own = [path for path in checkpoints.files_in(folder) if int(path.stem) >= first]
    if isinstance(error, DeepTaxiError) and not isinstance(error, DivergedError) and own:
        error.args = (f"{error}; `{resuming_command(folder, config)}` resumes from its last checkpoint",)


def event_writers(config: TrainConfig) -> dict[str, Callable[[Path], Any]]:
    """Return the factory of the TensorBoard writer, keyed by its file name."""
    from deeptaxi.storage.tensorboard import Events

    return {EVENTS: lambda folder: Events(folder, config)}


def point_to_log(error: BaseException, log: Path) -> None:
    """Add the location of the failed run's log to a `DeepTaxiError`, if there is one."""
    if isinstance(error, DeepTaxiError) and (log / FAILED_FILE).exists():
        error.args = (f"{error}; `deeptaxi diagnose {shlex.quote(str(log))}` looks at its log",)


def summary(run: RunData) -> dict[str, Any]:
    """Return the JSON summary of a training run."""
    config, finished = run.config, run.finished
    log = run.history.path if run.history else None
    return {
        "run": None if run.folder is None else str(run.folder),
        "model": None if run.folder is None else str(run.folder / MODEL_FILE),
        "log": None if log is None or (run.log_unavailable and not log.exists()) else str(log),
        "log_unavailable": run.log_unavailable,
        "tracked": [
            {"tracker": item.tracker, "run": item.run, "place": item.place}
            for item in (run.history.tracked if run.history else ())
        ],
        "tracking_unavailable": run.tracking_unavailable,
        "environment": run.environment.describe(),
        "preset": run.facts.get("preset"),
        "loop": config.loop if config else None,
        "network": {"kind": config.network.kind, **to_mapping(config.network)} if config else None,
        "encoding": config.network.encoding if config and config.network.kind != OWN_KIND else None,
        "discount": config.discount if config else None,
        "objective_discount": config.evaluation.objective_discount if config else None,
        "seed": config.seed if config else None,
        "updates": finished.updates if finished else None,
        "best_update": finished.best_update if finished else None,
        "environment_steps": finished.environment_steps if finished else None,
        "train_seconds": finished.train_seconds if finished else None,
        "compile_seconds": finished.compile_seconds if finished else None,
        "stopped": finished.stopped if finished else None,
        "resumed_from": run.history.resumed.update if run.history and run.history.resumed else None,
        "weights_digest": None if run.lazy_network is None else run.weights_digest,
        "exact": run.exact,
        "exact_unavailable": run.exact_unavailable,
        "episodes": run.episodes,
        "episodes_unavailable": run.episodes_unavailable,
        "failure": run.failure,
    }
