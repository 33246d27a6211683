"""Train a run, with its log, checkpoints and verdict.

The steps are those of the command line, which handles signals in between: plan, reserve the run folder, train.

**The sampled verdict.** If there is no exact verdict, episodes are played at the end. The run is saved first, so a
failing environment, a signal or a lack of time costs only the episodes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack

import gymnasium

from deeptaxi.api.environments import EnvLike, name_of, open_value
from deeptaxi.api.options import EVERY, PLAIN, RunOptions, never, refuse_with_resume
from deeptaxi.api.plans import Plan, plan, plan_metadata, reserve_run_folder, resume_plan, with_saved_table
from deeptaxi.api.run import Run
from deeptaxi.api.save_run import event_writers, finish_log, own_table
from deeptaxi.api.settings import Config, Settings, merge_settings, nested
from deeptaxi.api.status import status
from deeptaxi.api.training_log import TrainingLog
from deeptaxi.backend import keras_backend
from deeptaxi.config import TrainConfig
from deeptaxi.diagnosis.monitor import Watch
from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation.episodes import Episodes, play
from deeptaxi.learning.state import OnCheckpoint
from deeptaxi.mdp.environment import Env, Environment, known_mask
from deeptaxi.metrics import Finished, History, Record, Started, Warned
from deeptaxi.storage import checkpoints as checkpoint_files
from deeptaxi.storage import logs as log_files
from deeptaxi.storage import runs
from deeptaxi.storage.logs import LOGS, Log
from deeptaxi.storage.model_card import resuming_command
from deeptaxi.storage.run_folder import TABLE_FILE
from deeptaxi.storage.runs import add_episodes

COUNTS = (1_000, 100, 10)  # episodes to try, fewer if more would take too long
STEPS, SECONDS = 200_000, 2.0  # budget for each of these counts
SEED = 0
UNSAMPLED = "no-episodes"  # name of the finding


class SpentError(DeepTaxiError):
    """The budget of steps or seconds is exhausted."""


class StoppedError(DeepTaxiError):
    """The user asked to stop."""


class Budget:
    """A budget of steps and seconds for episodes, shared by vectorized environments."""

    def __init__(self, steps: int, seconds: float, stop: Callable[[], bool]) -> None:
        self._steps = steps
        self._deadline = time.monotonic() + seconds
        self._stop = stop

    def spend(self) -> None:
        """Spend a step.

        Raises:
            SpentError: no step or no time is left.
            StoppedError: the user asked to stop.
        """
        self._steps -= 1
        if self._stop():
            raise StoppedError("the training was stopped")
        if self._steps < 0 or time.monotonic() > self._deadline:
            raise SpentError(f"{COUNTS[-1]} episodes take too long here: `deeptaxi evaluate` plays them")


class Limited(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that takes its steps from a shared budget."""

    def __init__(self, env: Env, budget: Budget) -> None:
        super().__init__(env)
        self._budget = budget

    def step(self, action: Any) -> Any:
        """Spend a step of the budget and take it."""
        self._budget.spend()
        return self.env.step(action)


def with_episodes(run: Run, run_options: RunOptions, remark: Callable[[Warned], object]) -> Run:
    """Add sampled episodes to a run that has no exact verdict.

    Args:
        run: the run, already saved if it is to be.
        run_options: options of the training; `stop` also ends the episodes.
        remark: called with a warning if episodes could not be played or saved.
    """
    if run.environment.table is not None or run.finished is None:
        return run
    try:
        played = sample_within_budget(run, run_options.stop).to_dict()
    except DeepTaxiError as error:
        remark(Warned(run.finished.updates, UNSAMPLED, f"{UNSAMPLED}: {error}"))
        return dataclasses.replace(run, episodes_unavailable=str(error))
    try:
        if run.folder is not None:
            add_episodes(run.folder, played)
    except DeepTaxiError as error:
        remark(Warned(run.finished.updates, UNSAMPLED, f"{UNSAMPLED}: in the card: {error}"))
    return dataclasses.replace(run, episodes=played)


def sample_within_budget(run: Run, stop: Callable[[], bool]) -> Episodes:
    """Play as many episodes as the budget allows.

    Raises:
        DeepTaxiError: the environment or network failed, training was stopped, or episodes take too long.
    """
    if stop() or run.failure:
        raise StoppedError("the training was stopped" if stop() else "the training broke off")
    for count in COUNTS[:-1]:
        try:
            return play(limited(run.environment, stop), run.policy, count, SEED)
        except SpentError:
            continue
    return play(limited(run.environment, stop), run.policy, COUNTS[-1], SEED)


def limited(environment: Environment, stop: Callable[[], bool]) -> Environment:
    """Return an environment whose instances share one budget."""
    budget = Budget(STEPS, SECONDS, stop)

    def make(*words: Any, **named: Any) -> Env:
        return Limited(environment.make(*words, **named), budget)

    return dataclasses.replace(environment, make=make)


OnRecord = Callable[[Record], object]
Watcher = Callable[[Record], object]  # displays or stores a record


def run_training(planned: Plan, on_record: OnRecord | None = None, run_options: RunOptions = PLAIN) -> Run:
    """Train or resume; if a run folder is reserved, save the run there. See `train`."""
    with status("starting Keras …"):
        keras_backend.start()
    keras_backend.check_float32()
    from deeptaxi.learning.trainer import train as training_of

    table, said = own_table(planned.environment), plan_metadata(planned)
    planned = with_saved_table(planned)
    environment, config, place, since = planned.environment, planned.config, planned.place, planned.since
    records = list(since.kept.records) if since and since.kept else []
    observer = observing(planned, records)
    with log_of(planned, run_options) as log:
        keep = keeping(planned, run_options, log, said)
        state = since.state if since else None
        training = training_of(config, environment, run_options.stop, state, run_options.stop_after, keep)
        watchers = [*([log.write] if log else []), records.append, *([on_record] if on_record else [])]
        remarks = since.remarks if since else ()
        trained = follow(training, watchers, observer, remarks, log.remarks if log else [])
        history = History(place.log if place else None, tuple(records))
        if place is not None and log is not None and history.finished is not None:
            about, preset = environment.describe(), planned.configured.preset
            finish_log(log, place.log.parent, trained.coverage)
            runs.save_run(place, trained.network, about, config, history.finished, preset, table, history.disturbed)
            if log.lost:  # the space reserved for the run may suffice for its log
                finish_log(log, place.log.parent, trained.coverage)
            if not run_options.checkpoints and since is None:
                checkpoint_files.give_up(place.folder)  # of the run that was here before
    tell = on_record or (lambda _record: None)
    for remark in log.remarks if log else ():  # remarks added at the end
        tell(remark)
    run = run_of(planned, trained.network, TrainingLog(history, trained.coverage), kept_table=table is not None)
    return with_episodes(replace(run, log_unavailable=log.lost if log else None), run_options, tell)


def observing(planned: Plan, records: Sequence[Record]) -> Watch:
    """Return the monitor of a training run, having replayed its earlier records."""
    config, environment = planned.config, planned.environment
    watch = Watch(config, environment.table, agent_mask(config, environment))
    for record in records:
        if not isinstance(record, Started):  # checking the settings takes time, and is repeated anyway
            watch.observe(record)
    return watch


def keeping(planned: Plan, run_options: RunOptions, log: Log | None, said: Mapping[str, Any]) -> OnCheckpoint:
    """Return the callback that writes checkpoints."""
    if planned.place is None or log is None or not run_options.checkpoints:
        return lambda _hold: ()
    return checkpoint_files.Checkpointer(planned.place.folder, said, log, run_options.checkpoint_every)


@contextmanager
def log_of(planned: Plan, run_options: RunOptions) -> Iterator[Log | None]:
    """Open the log of a run that is to be saved."""
    if planned.place is None:
        yield None
        return
    writers = event_writers(planned.config) if run_options.tensorboard else {}
    kept = planned.since.kept if planned.since else None
    with log_files.Log(planned.place.log.parent, planned.place.folder, writers, kept) as log:
        yield log


def run_of(planned: Plan, network: Any, log: TrainingLog, kept_table: bool) -> Run:
    """Build the run that results from training."""
    place, finished = planned.place, log.history.finished if log.history else None
    facts = runs.facts_of(finished, planned.configured.preset) if finished else {}
    if place is not None:
        facts |= {"log": str(place.log), **({"table": TABLE_FILE} if kept_table else {})}
    return Run(
        name=str(place.folder) if place else runs.default_name(planned.config),
        environment=planned.environment,
        network=network,
        config=planned.config,
        folder=place.folder if place else None,
        facts=facts,
        kept_log=log,
        verdict=finished.exact if finished else None,
    )


def resume_hint(planned: Plan, run_options: RunOptions) -> str:
    """Explain how to continue a run that was stopped early."""
    if planned.place is None:
        return "It was not kept."
    if run_options.checkpoints or checkpoint_files.files_in(planned.place.folder):
        return f"Resume with: {resuming_command(planned.place.folder, planned.config)}"
    return f"The whole training again: {runs.train_again(planned.place, planned.config)}"


def agent_mask(config: TrainConfig, environment: Environment) -> Any:
    """Return the allowed actions, `[S, A]`; None if all are allowed, or they are not known yet."""
    return known_mask(environment) if config.exploration.action_mask else None


def follow(
    training: Generator[Record, None, Any],
    watchers: Sequence[Watcher],
    observer: Watch,
    remarks: Sequence[Record],
    lost: list[Warned],
) -> Any:
    """Pass every record, and the observer's findings on it, to the watchers; return the result of training.

    The `remarks` follow the first record after `Started`; warnings in `lost`, on failed log writes, follow the record
    that caused them.
    """
    while True:
        try:
            record = next(training)
        except StopIteration as end:
            return end.value
        told = [record, *observer.observe(record)]
        if not isinstance(record, Started):
            told, remarks = [*told[:1], *remarks, *told[1:]], ()
        while told:
            told_record = told.pop(0)
            for watch in watchers:
                watch(told_record)
            if not isinstance(told_record, Finished):  # always the last record of a log
                told += lost
                lost.clear()


def train(
    env: EnvLike | None = None,
    *,
    q_table: bool = False,
    preset: str | None = None,
    config: Config | None = None,
    env_args: Mapping[str, Any] | None = None,
    out: str | Path | Literal[True] | None = None,
    logs: str | Path | None = None,
    tensorboard: bool = True,
    force: bool = False,
    trust_env: bool = False,
    on_record: OnRecord | None = None,
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
        env: a Gymnasium id, `module:Id`, the path of a `.npz`, or a `TransitionTable`.
        q_table: whether to use a network without hidden layers or biases, whose weights are the Q table.
        preset: name of a preset, see `listing.presets`; None for the one that fits.
        config: a TOML file, a mapping of the same form, or the `config` of another run.
        env_args: arguments for `gymnasium.make`.
        out: the run folder to write; True for a free name in `models/`.
        logs: folder for the log of a saved run; None for `logs`, or for the log's current location with `resume`.
        tensorboard: whether to also log for TensorBoard.
        force: whether to overwrite an existing run.
        trust_env: whether to import the environment module that only `config` or `resume` names, which executes its
            code.
        on_record: called with every record (`deeptaxi.metrics`), including warnings, as it is produced.
        stop: called between updates; once it returns True, training ends with the best weights so far.
        stop_after: update to stop after, to continue with `resume` later; None for the last.
        checkpoints: whether a saved run writes checkpoints to resume from.
        checkpoint_every: seconds between checkpoints.
        resume: run folder to resume; its settings apply, but `updates` may be raised.
        **settings: training settings; see `deeptaxi.api.settings.Settings`.

    Raises:
        UsageError: the environment or a setting does not exist, settings exclude each other, `out` is taken, or the
            run in `resume` has other settings.
        DeepTaxiError: training diverged or the environment failed before there was anything to save.
    """
    if (read := open_value(env, env_args)) is not None:
        env, env_args = read, None
    name, table = name_of(env)
    run_options = RunOptions(stop or never, stop_after, checkpoints, checkpoint_every, tensorboard)
    if resume is not None:
        refuse_with_resume(preset=preset, config=config, out=out, force=force)
        values = merge_settings(name, env_args, None, q_table, nested(settings))
        trust, log_folder = trust_env or env is not None, Path(logs) if logs else None
        with resume_plan(Path(resume), values, trust, log_folder, stop_after, table) as kept:
            return run_training(kept, on_record, run_options)
    values = merge_settings(name, env_args, config, q_table, nested(settings))
    planned = plan(values, preset, trust_env or env is not None, table)
    with reserve_run_folder(planned, out, logs or LOGS, force, checkpoints) as kept:
        return run_training(kept, on_record, run_options)
