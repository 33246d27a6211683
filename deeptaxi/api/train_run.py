"""Train a run: plan it, reserve its folder, train, save.

`plan` opens the environment and completes the configuration, `reserve_run_folder` reserves a new run folder,
`resume_plan` reopens an existing one, and `run_training` trains with the callbacks that a run has: log, history,
monitor, checkpoints. `train`, jobs of a grid (`job_runner`) and the command line take these steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from deeptaxi.api.build_case import usual_config
from deeptaxi.api.environments import Opened, open_requested
from deeptaxi.api.networks import (
    NOT_GIVEN,
    GivenNetwork,
    check_network_name,
    open_network,
    remember_network,
)
from deeptaxi.api.resume import ResumePoint, open_for_resume
from deeptaxi.api.run import Run
from deeptaxi.api.run_data import TrainingLog
from deeptaxi.api.run_options import PLAIN, RunOptions
from deeptaxi.api.sampling import add_sampled_episodes
from deeptaxi.api.save_run import (
    checkpoint_metadata,
    event_writers,
    finish_log,
    own_table,
    point_to_checkpoint,
    point_to_log,
    pointing_to_table,
)
from deeptaxi.api.status import status
from deeptaxi.api.track_run import finish_tracking, open_trackers
from deeptaxi.backend import keras_backend
from deeptaxi.config import EnvironmentConfig, TrainConfig, merge, requested_environment, resolve
from deeptaxi.diagnosis.monitor import Monitor
from deeptaxi.errors import CallbackError, DeepTaxiError, UsageError
from deeptaxi.learning.callbacks import (
    Callback,
    StopTraining,
    each_record,
    stop_when,
    warn_first,
)
from deeptaxi.learning.resolve import Configured, choose, configure, with_environment
from deeptaxi.learning.state import StateMismatchError
from deeptaxi.mdp import planning
from deeptaxi.mdp.environment import Environment, known_mask
from deeptaxi.mdp.remembered import remember
from deeptaxi.mdp.stopping import stop_planning_when
from deeptaxi.metrics import Finished, History, Record, Started, Warned
from deeptaxi.schema import to_mapping
from deeptaxi.storage import checkpoints, runs
from deeptaxi.storage.logs import LOGS, Log
from deeptaxi.storage.model_card import resuming_command
from deeptaxi.storage.run_folder import TABLE_FILE
from deeptaxi.storage.runs import check_room


@dataclass(frozen=True)
class Plan:
    """A training run before it starts: environment, configuration, run folder, resume point, and own network."""

    environment: Environment
    configured: Configured
    run_folder: runs.RunFolder | None = None
    resume_point: ResumePoint | None = None
    network: Any = None  # of the user's own, with its initial weights

    @property
    def config(self) -> TrainConfig:
        """The complete configuration."""
        return self.configured.config


def plan(
    values: Mapping[str, Any],
    preset: str | None = None,
    trust: bool = False,
    opened: Opened | None = None,
    given: GivenNetwork = NOT_GIVEN,
) -> Plan:
    """Open the requested environment and complete the settings for it.

    Args:
        values: nested settings of the user.
        preset: name of the preset, or None for the one that fits.
        trust: whether the module of a `module:Name` may be imported.
        opened: the table, object or open environment that the id in `values` refers to, if any.
        given: the network that `values` name, if it is an object, and whether its code may be imported.

    Raises:
        UsageError: the settings contradict each other or the environment.
    """
    named = choose(values, preset)
    values = with_environment(values, named)
    # Report wrong settings before opening the environment, with the bins of its preset.
    asked = resolve({"loop": "compiled", **values}, preset=named)
    check_network_name(asked.network, given)
    requested = requested_environment(asked)
    environment = open_requested(requested, trust, opened)
    if isinstance(opened, Environment | EnvironmentConfig):  # its id alone does not determine its arguments
        values = merge(values, {"environment": to_mapping(environment.config)})
    configured = configure(environment, values, named)
    check_objective(environment, configured.config)
    if environment.numbering is not None:
        decided = replace(environment.config, discover=configured.config.environment.discover)
        environment = replace(environment, config=decided)
    return Plan(environment, configured, network=open_network(configured.config, environment, given))


def check_objective(environment: Environment, config: TrainConfig) -> None:
    """Reject an objective discount of 1 if undiscounted values do not exist.

    Raises:
        UsageError: the values do not exist.
    """
    table = environment.table
    if table is not None and config.evaluation.objective_discount == 1:
        planning.value_iteration(table, 1.0, table.action_mask)


@contextmanager
def reserve_run_folder(
    planned: Plan,
    out: str | Path | Literal[True] | None,
    logs: str | Path = LOGS,
    force: bool = False,
    with_checkpoints: bool = True,
) -> Iterator[Plan]:
    """Reserve the run folder for the duration of the block; with `with_checkpoints`, write the first checkpoint.

    Raises:
        UsageError: the folder is taken.
        DeepTaxiError: the folder cannot be written to.
    """
    if out is None:
        yield planned
        return
    name = runs.default_name(planned.config) if out is True else out
    check_room(Path(name), planned.environment.describe(), planned.config)
    table = own_table(planned.environment) is not None
    if out is True:
        reserved = runs.reserve_free(planned.config, Path(logs), table)
    else:
        reserved = runs.reserve(Path(out), Path(logs), force, table)
    remember(planned.environment.config)
    remember_network(planned.config.network)
    reserved_plan, first = replace(planned, run_folder=reserved), 0
    try:
        reserved_plan = with_spare(reserved_plan)
        if with_checkpoints:
            first = checkpoints.begin(reserved.folder, plan_metadata(reserved_plan), own_table(planned.environment))
        yield reserved_plan
    except BaseException as error:
        if first:
            checkpoints.roll_back(reserved.folder, first, error)
        point_to_log(error, reserved.log.parent)
        if first:
            point_to_checkpoint(error, reserved_plan.config, reserved.folder, first)
        raise
    finally:
        reserved.release()


@contextmanager
def resume_plan(
    folder: Path,
    values: Mapping[str, Any],
    trust: bool,
    logs: Path | None = None,
    stop_after: int | None = None,
    table: Opened | None = None,
    given: GivenNetwork = NOT_GIVEN,
) -> Iterator[Plan]:
    """Reopen a run folder to resume its training for the duration of the block; see `resume.open_for_resume`."""
    with open_for_resume(folder, values, trust, logs, stop_after, table) as (environment, configured, opened, point):
        network = open_network(configured.config, environment, given)
        remember(environment.config)
        remember_network(configured.config.network)
        try:
            yield with_spare(Plan(environment, configured, opened, point, network))
        except StateMismatchError as error:
            if network is not None and re.match(
                "'(agent|program[.]agent|best)[.]", str(error)
            ):  # arrays of the network
                raise UsageError(
                    f"--resume {folder}: its checkpoint does not fit the network that "
                    f"{configured.config.network.builder} gives now ({error}): resume with the one it began with"
                ) from None
            raise DeepTaxiError(
                f"{point.checkpoint.path} does not fit its training: {error}; "
                "without that file, --resume continues from the previous one"
            ) from None
        except BaseException as error:
            point_to_log(error, opened.log.parent)
            point_to_checkpoint(error, configured.config, folder)
            raise


def with_spare(planned: Plan) -> Plan:
    """Reserve disk space for the model of a plan."""
    if planned.run_folder is None:
        return planned
    table = own_table(planned.environment)
    weights = None if planned.network is None else planned.network.count_params()
    spare = planned.run_folder.with_spare(planned.config, planned.environment, table, weights)
    return replace(planned, run_folder=spare)


def plan_metadata(planned: Plan) -> dict[str, Any]:
    """Return the checkpoint metadata of a plan; empty if it has no run folder, and so no checkpoints."""
    if planned.run_folder is None:
        return {}
    own, where = own_table(planned.environment) is not None, with_saved_table(planned)
    return checkpoint_metadata(where.environment, where.config, planned.run_folder, planned.configured.preset, own)


def with_saved_table(planned: Plan) -> Plan:
    """Point the config at the table saved in the run folder."""
    if planned.run_folder is None:
        return planned
    table = own_table(planned.environment)
    environment, config = pointing_to_table(planned.run_folder.folder, table, planned.environment, planned.config)
    return replace(planned, environment=environment, configured=replace(planned.configured, config=config))


def with_own_numbering(planned: Plan) -> Plan:
    """Give a training a numbering of its own, where observations are numbered: others may use the environment."""
    codec = planned.environment.numbering
    return planned if codec is None else replace(planned, environment=planned.environment.with_codec(codec.renew()))


def run_training(planned: Plan, watchers: Sequence[Callback] = (), run_options: RunOptions = PLAIN) -> Run:
    """Train or resume; if a run folder is reserved, save the run there. See `train`.

    `watchers` are called with every event, after the log and the checkpoints have been written.
    """
    with status("starting Keras …"):
        keras_backend.start()
    keras_backend.check_float32()

    def tell(warning: Warned) -> None:
        for watch in watchers:
            with suppress(StopTraining, CallbackError):  # the training has ended, and the error is kept
                watch(warning)

    planned = with_own_numbering(planned)
    point = planned.resume_point
    before = point.log.records if point and point.log else ()
    name = planned.run_folder.folder.resolve().name if planned.run_folder else runs.default_name(planned.config)
    name = run_options.name or name
    with open_trackers(run_options.track, name, with_saved_table(planned).config, before) as trackers:
        run, warnings = train_and_save(planned, [*trackers, *watchers], run_options)
        for warning in warnings:
            tell(warning)
        run = add_sampled_episodes(run, run_options.stop, tell)
        return finish_tracking(run, trackers, tell)


def train_and_save(planned: Plan, watchers: Sequence[Callback], run_options: RunOptions) -> tuple[Run, list[Warned]]:
    """Train or resume, and save the run; return it, and the warnings that come after its last event."""
    from deeptaxi.learning.trainer import build_trainer

    table = own_table(planned.environment)
    metadata, planned = plan_metadata(planned), with_saved_table(planned)
    environment, config, folder, point = planned.environment, planned.config, planned.run_folder, planned.resume_point
    records = list(point.log.records) if point and point.log else []
    with open_log(planned, run_options) as log:
        callbacks: list[Callback] = [
            stop_when(run_options.stop),
            *([log] if log else []),
            each_record(records.append),
            warn_first(point.warnings if point else ()),
            build_monitor(planned, records),
            *checkpointers(planned, run_options, log, metadata),
            *watchers,
        ]
        trainer = build_trainer(config, environment, callbacks, planned.network)
        if point is not None and point.state is not None:
            trainer.load_state_dict(point.state)
        with stop_planning_when(run_options.stop):
            trained = trainer.run(run_options.stop_after)
        history = History(folder.log if folder else None, tuple(records))
        if folder is not None and log is not None and history.finished is not None:
            finish_log(log, folder.log.parent, trained.coverage)
            description, preset = environment.describe(), planned.configured.preset
            runs.save_run(
                folder,
                trained.network,
                description,
                config,
                history.finished,
                preset,
                table,
                history.disturbed,
                environment.numbering,
            )
            if log.lost:  # the space reserved for the run may suffice for its log
                finish_log(log, folder.log.parent, trained.coverage)
            if not run_options.checkpoints and point is None:
                checkpoints.discard(folder.folder)  # of the run that was here before
    run = build_run(planned, trained.network, TrainingLog(history, trained.coverage), has_table=table is not None)
    return (replace(run, log_unavailable=log.lost), log.warnings) if log else (run, [])


@contextmanager
def open_log(planned: Plan, run_options: RunOptions) -> Iterator[Log | None]:
    """Open the log of a run that is to be saved."""
    if planned.run_folder is None:
        yield None
        return
    writers = event_writers(planned.config) if run_options.tensorboard else {}
    begun = planned.resume_point.log if planned.resume_point else None
    with Log(planned.run_folder.log.parent, planned.run_folder.folder, writers, begun) as log:
        yield log


def build_monitor(planned: Plan, records: list[Record]) -> Monitor:
    """Return the monitor of a training run, having replayed its earlier records."""
    config, environment = planned.config, planned.environment
    mask = known_mask(environment) if config.exploration.action_mask else None
    monitor = Monitor(config, environment.table, mask, lambda: usual_config(environment, config))
    for record in records:
        if not isinstance(record, Started):  # checking the settings takes time, and is repeated anyway
            monitor(record)
    return monitor


def checkpointers(
    planned: Plan, run_options: RunOptions, log: Log | None, metadata: Mapping[str, Any]
) -> list[Callback]:
    """Return the callback that writes checkpoints, if the run is to have any."""
    if planned.run_folder is None or log is None or not run_options.checkpoints:
        return []

    def writes_last() -> bool:
        return run_options.last_checkpoint or run_options.stop()

    return [
        checkpoints.Checkpointer(planned.run_folder.folder, metadata, log, run_options.checkpoint_every, writes_last)
    ]


def build_run(planned: Plan, network: Any, log: TrainingLog, has_table: bool) -> Run:
    """Build the run that results from training."""
    folder = planned.run_folder
    finished: Finished | None = log.history.finished if log.history else None
    facts = runs.facts_of(finished, planned.configured.preset) if finished else {}
    if folder is not None and has_table:
        facts["table"] = TABLE_FILE
    return Run(
        name=str(folder.folder) if folder else runs.default_name(planned.config),
        environment=planned.environment,
        lazy_network=network,
        config=planned.config,
        folder=folder.folder if folder else None,
        facts=facts,
        training_log=log,
        verdict=finished.exact if finished else None,
        not_evaluated=finished.exact_unavailable if finished and planned.environment.table else None,
    )


def resume_hint(planned: Plan, run_options: RunOptions) -> str:
    """Explain how to continue a run that was stopped early."""
    if planned.run_folder is None:
        return "The run was not saved."
    if run_options.checkpoints or checkpoints.files_in(planned.run_folder.folder):
        command, names = resuming_command(planned.run_folder.folder, planned.config), run_options.track
        track = "" if planned.config.environment.in_memory else "".join(f" --track {name}" for name in names)
        return f"Resume with: {command}{track}"
    return f"The whole training again: {runs.train_again(planned.run_folder, planned.config)}"
