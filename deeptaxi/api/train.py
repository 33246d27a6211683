"""Train a run: plan it, reserve its folder, train, save.

`train` is the public function; the command line takes the same steps, to handle signals in between. `plan` opens the
environment and completes the configuration, `reserve_run_folder` reserves a new run folder, `resume_plan` reopens an
existing one, and `run_training` trains with the callbacks that a run has: log, history, monitor, checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Unpack

from deeptaxi.api.environments import EnvLike, Opened, name_of, open_requested, open_value
from deeptaxi.api.networks import (
    NOT_GIVEN,
    GivenNetwork,
    check_network_name,
    open_network,
    remember_network,
    with_network,
)
from deeptaxi.api.resume import ResumePoint, open_for_resume
from deeptaxi.api.run import Run
from deeptaxi.api.run_data import TrainingLog
from deeptaxi.api.run_options import EVERY, PLAIN, RunOptions, never, refuse_with_resume
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
from deeptaxi.api.settings import Config, Settings, merge_settings
from deeptaxi.api.status import status
from deeptaxi.api.track_run import finish_tracking, open_trackers
from deeptaxi.backend import keras_backend
from deeptaxi.config import EnvironmentConfig, TrainConfig, merge, requested_environment, resolve
from deeptaxi.diagnosis.monitor import Monitor
from deeptaxi.errors import CallbackError, DeepTaxiError, UsageError
from deeptaxi.learning.callbacks import (
    Callback,
    Event,
    StopTraining,
    UserCallbacks,
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
from deeptaxi.tracking.tracker import check_trackers


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
            if network is not None and re.match("'(agent|best)[.]", str(error)):  # arrays of the network
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
    monitor = Monitor(config, environment.table, mask)
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
    return [checkpoints.Checkpointer(planned.run_folder.folder, metadata, log, run_options.checkpoint_every)]


def build_run(planned: Plan, network: Any, log: TrainingLog, has_table: bool) -> Run:
    """Build the run that results from training."""
    folder = planned.run_folder
    finished: Finished | None = log.history.finished if log.history else None
    facts = runs.facts_of(finished, planned.configured.preset) if finished else {}
    if folder is not None:
        facts |= {"log": str(folder.log), **({"table": TABLE_FILE} if has_table else {})}
    return Run(
        name=str(folder.folder) if folder else runs.default_name(planned.config),
        environment=planned.environment,
        network=network,
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


def train(
    env: EnvLike | None = None,
    *,
    q_table: bool = False,
    preset: str | None = None,
    config: Config | None = None,
    env_args: Mapping[str, Any] | None = None,
    network_args: Mapping[str, Any] | None = None,
    out: str | Path | Literal[True] | None = None,
    logs: str | Path | None = None,
    tensorboard: bool = True,
    track: str | Sequence[str] = (),
    force: bool = False,
    trust_env: bool = False,
    callbacks: Sequence[Callable[[Event], object]] | None = None,
    stop: Callable[[], bool] | None = None,
    stop_after: int | None = None,
    checkpoints: bool = True,
    checkpoint_every: float = EVERY,
    resume: str | Path | None = None,
    **settings: Unpack[Settings],
) -> Run:
    """Train a Q-network and return it with its exact verdict.

    Prints nothing and, without `out`, writes nothing. Settings come from the preset that fits, then `config`, then
    `settings`, which takes every option of `deeptaxi train` by name, such as `hidden=(64,)` or `learning_rate=0.01`.

    Args:
        env: a Gymnasium id, `module:Class`, `file.py:Class`, the path of a table (`.npz`, or a file that `convert`
            reads), a `TransitionTable`, a value that is a table, such as `P` or arrays (P, R), a Gymnasium environment,
            its class, or a function that makes it.
        q_table: whether to use a network without hidden layers or biases, whose weights are the Q table.
        preset: name of a preset, see `listing.presets`; None for the one that fits.
        config: a TOML file, a mapping of the same form, or the `config` of another run.
        env_args: arguments of the environment; what a table of another form does not say, such as `start`.
        network_args: arguments of what builds the `network`, besides the numbers of states and actions.
        out: the run folder to write; True for a free name in `models/`.
        logs: folder for the log of a saved run; None for `logs`, or for the log's current location with `resume`.
        tensorboard: whether to also log for TensorBoard.
        track: `"mlflow"`, `"wandb"`, or both: trackers that the run is logged with.
        force: whether to overwrite an existing run.
        trust_env: whether to import the module of an environment or network that only `config` or `resume` names,
            which executes its code.
        callbacks: functions that are called with every event: the records of `deeptaxi.metrics` by their `kind`, and
            `"checkpoint"` between updates. What they return is ignored; `StopTraining` ends the training.
        stop: called between updates and in long evaluations; once it returns True, training ends with the best weights
            so far. An evaluation that takes more than a quarter of a second longer is abandoned; `resume` makes it.
        stop_after: update to stop after, to continue with `resume` later; None for the last.
        checkpoints: whether a saved run writes checkpoints to resume from.
        checkpoint_every: seconds between checkpoints.
        resume: run folder to resume; its settings apply, but `updates` may be raised.
        **settings: training settings; see `deeptaxi.api.settings.Settings`. `network` is a Keras model of your own, a
            function `build(states, actions)` that returns one, or its name, `module:function`.

    Raises:
        UsageError: the environment or a setting does not exist, settings exclude each other, `out` is taken, or the
            run in `resume` has other settings.
        CallbackError: a callback raised an error, which is its cause; its `run` is the run so far.
        DeepTaxiError: training diverged or the environment failed before there was anything to save.
    """
    watching = UserCallbacks(callbacks)
    if (read := open_value(env, env_args)) is not None:
        env, env_args = read, None
    name, table = name_of(env)
    run_options = RunOptions(
        stop or never, stop_after, checkpoints, checkpoint_every, tensorboard, check_trackers(track)
    )
    own, value = with_network(settings, network_args)
    given = GivenNetwork.of(own, value, trust_env)
    if resume is not None:
        refuse_with_resume(preset=preset, config=config, out=out, force=force)
        values = merge_settings(name, env_args, None, q_table, own)
        trust, log_folder = trust_env or env is not None, Path(logs) if logs else None
        with resume_plan(Path(resume), values, trust, log_folder, stop_after, table, given) as planned:
            run = run_training(planned, [watching], run_options)
        return raise_callback_error(run, watching.error)
    values = merge_settings(name, env_args, config, q_table, own)
    planned = plan(values, preset, trust_env or env is not None, table, given)
    with reserve_run_folder(planned, out, logs or LOGS, force, checkpoints) as planned:
        run = run_training(planned, [watching], run_options)
    return raise_callback_error(run, watching.error)


def raise_callback_error(run: Run, error: CallbackError | None) -> Run:
    """Return a run whose callbacks did not fail.

    Raises:
        CallbackError: one failed; the error has the run and says where it is.
    """
    if error is None:
        return run
    kept = "this error's `run`" if run.folder is None else f"kept in {run.folder}"
    error.run, error.args = run, (f"{error}; what was trained until then is {kept}",)
    raise error
