"""Carrying out a plan: the training itself, its log and its checkpoints, and the run that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from deeptaxi import backend
from deeptaxi.api.conduct import PLAIN, Conduct
from deeptaxi.api.keeping import event_writers, finish_log, own_table
from deeptaxi.api.logged import Logged
from deeptaxi.api.plans import Plan, about_of, settled
from deeptaxi.api.runs import Run
from deeptaxi.api.sampling import with_episodes
from deeptaxi.api.stages import stage
from deeptaxi.config import TrainConfig
from deeptaxi.diagnosis.monitor import Watch
from deeptaxi.learning.state import Keep
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.masks import known_mask
from deeptaxi.metrics import Finished, History, Record, Started, Warned
from deeptaxi.storage import checkpoints as checkpoint_files
from deeptaxi.storage import logs as log_files
from deeptaxi.storage import runs
from deeptaxi.storage.logs import Log
from deeptaxi.storage.model_card import resuming_command
from deeptaxi.storage.run_folder import TABLE_FILE

OnRecord = Callable[[Record], object]
Watcher = Callable[[Record], object]  # shows or keeps a record


def carry_out(planned: Plan, on_record: OnRecord | None = None, conduct: Conduct = PLAIN) -> Run:
    """Train, or go on; where a place was claimed, keep the run there. See `train`."""
    with stage("starting Keras …"):
        backend.start()
    backend.check_float32()
    from deeptaxi.learning.trainer import train as training_of

    table, said = own_table(planned.environment), about_of(planned)
    planned = settled(planned)
    environment, config, place, since = planned.environment, planned.config, planned.place, planned.since
    records = list(since.kept.records) if since and since.kept else []
    observer = observing(planned, records)
    with log_of(planned, conduct) as log:
        keep = keeping(planned, conduct, log, said)
        moment = since.moment if since else None
        training = training_of(config, environment, conduct.stop, moment, conduct.stop_after, keep)
        watchers = [*([log.write] if log else []), records.append, *([on_record] if on_record else [])]
        remarks = since.remarks if since else ()
        trained = follow(training, watchers, observer, remarks, log.remarks if log else [])
        history = History(place.log if place else None, tuple(records))
        if place is not None and log is not None and history.finished is not None:
            about, preset = environment.describe(), planned.configured.preset
            finish_log(log, place.log.parent, trained.coverage)
            runs.save_run(place, trained.network, about, config, history.finished, preset, table, history.disturbed)
            if log.lost:  # the room that was kept for the run may do for its log
                finish_log(log, place.log.parent, trained.coverage)
            if not conduct.checkpoints and since is None:
                checkpoint_files.give_up(place.folder)  # of the run that stood here
    tell = on_record or (lambda _record: None)
    for remark in log.remarks if log else ():  # those that came with the end
        tell(remark)
    run = run_of(planned, trained.network, Logged(history, trained.coverage), kept_table=table is not None)
    return with_episodes(replace(run, log_unavailable=log.lost if log else None), conduct, tell)


def observing(planned: Plan, records: Sequence[Record]) -> Watch:
    """Return what watches a training, and has seen the records that it had given before."""
    config, environment = planned.config, planned.environment
    watch = Watch(config, environment.table, agent_mask(config, environment))
    for record in records:
        if not isinstance(record, Started):  # what its settings promise takes time to find out, and comes again
            watch.observe(record)
    return watch


def keeping(planned: Plan, conduct: Conduct, log: Log | None, said: Mapping[str, Any]) -> Keep:
    """Return what keeps the moments of a training."""
    if planned.place is None or log is None or not conduct.checkpoints:
        return lambda _hold: ()
    return checkpoint_files.Keeper(planned.place.folder, said, log, conduct.checkpoint_every)


@contextmanager
def log_of(planned: Plan, conduct: Conduct) -> Iterator[Log | None]:
    """Open the log of a run that is to be kept."""
    if planned.place is None:
        yield None
        return
    writers = event_writers(planned.config) if conduct.tensorboard else {}
    kept = planned.since.kept if planned.since else None
    with log_files.Log(planned.place.log.parent, planned.place.folder, writers, kept) as log:
        yield log


def run_of(planned: Plan, network: Any, log: Logged, kept_table: bool) -> Run:
    """Return what came out of a training."""
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


def going_on(planned: Plan, conduct: Conduct) -> str:
    """Say how to go on with a training that was ended before its end."""
    if planned.place is None:
        return "It was not kept."
    if conduct.checkpoints or checkpoint_files.files_in(planned.place.folder):
        return f"It goes on by: {resuming_command(planned.place.folder, planned.config)}"
    return f"The whole training again: {runs.train_again(planned.place, planned.config)}"


def agent_mask(config: TrainConfig, environment: Environment) -> Any:
    """Return the actions that the agent may take, `[S, A]`; None where all are open to it, or it is not known yet."""
    return known_mask(environment) if config.exploration.action_mask else None


def follow(
    training: Generator[Record, None, Any],
    watchers: Sequence[Watcher],
    observer: Watch,
    remarks: Sequence[Record],
    lost: list[Warned],
) -> Any:
    """Show the watchers every record, and what the observer has to say of it; return what the training returns.

    The `remarks` are on how the training begins, and come once it has said that it does; what is `lost` of the log
    meanwhile is told after the record that it was lost with.
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
            if not isinstance(told_record, Finished):  # which is the last of a log
                told += lost
                lost.clear()
