"""Training, from what is asked for to a run: `train`, and the steps that it is made of.

`plan` opens the environment and completes the configuration, `claimed` takes the place of the run folder, and
`carry_out` trains. The command line takes the same steps, and handles signals in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Unpack

from deeptaxi import backend
from deeptaxi.api.conduct import EVERY, PLAIN, Conduct, never, refuse_with_resume
from deeptaxi.api.keeping import about, beside, event_writers, own_table, point_to_checkpoint, point_to_log
from deeptaxi.api.logged import Logged
from deeptaxi.api.places import Place, name_of, open_requested
from deeptaxi.api.resuming import Resumption, taken_up
from deeptaxi.api.runs import Run
from deeptaxi.api.settings import Config, Settings, asked, nested
from deeptaxi.api.stages import stage
from deeptaxi.artifacts import checkpoints as checkpoint_files
from deeptaxi.artifacts import logs as log_files
from deeptaxi.artifacts import runs
from deeptaxi.artifacts.card_words import resuming_command
from deeptaxi.artifacts.files import TABLE_FILE
from deeptaxi.artifacts.logs import Log
from deeptaxi.artifacts.visits import save_visits
from deeptaxi.config import TrainConfig, merge, resolve
from deeptaxi.errors import DivergedError
from deeptaxi.evaluation.diagnosis.live import Watch
from deeptaxi.learning.configure import Configured, choose, configure, with_environment
from deeptaxi.learning.moment import Hold
from deeptaxi.mdp.environment import Environment, known_mask
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.records import NOT_EXACT, History, Record, Started
from deeptaxi.sections import EnvironmentConfig
from deeptaxi.settings import from_mapping, to_mapping

OnRecord = Callable[[Record], object]
Keep = Callable[[Hold], Iterable[Record]]
Watcher = Callable[[Record], object]  # shows or keeps a record
LOGS = Path("logs")


@dataclass(frozen=True)
class Plan:
    """A training before it begins: what on, how, where it is to be kept, and what it goes on from."""

    environment: Environment
    configured: Configured
    place: runs.Run | None = None
    since: Resumption | None = None

    @property
    def config(self) -> TrainConfig:
        """The configuration, complete."""
        return self.configured.config


def train(
    env: Place | None = None,
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
    """Train a Q-network, and return it with the exact verdict on it.

    It prints nothing, and without `out` writes nothing. Settings come from the preset that fits, then `config`, then
    `settings`: every option of `deeptaxi train` by its name, such as `hidden=(64,)` or `learning_rate=0.01`.

    Args:
        env: a Gymnasium id, `module:Id`, the path of a `.npz`, or a `TransitionTable`.
        q_table: no hidden layer, no bias: the weights are the Q table.
        preset: settings of `listing.presets`; None for the one that fits.
        config: a TOML file, a mapping of the same form, or the `config` of another run.
        env_args: arguments of `gymnasium.make`.
        out: the run folder to write; True for a free name in `models/`.
        logs: the folder for the log of a run that is written; None for `logs`, or where the log of `resume` is.
        tensorboard: whether that log is for TensorBoard as well.
        force: whether a run that is there may be replaced.
        trust_env: whether to import the environment module that only `config` or `resume` names; it is code.
        on_record: called with every record (`deeptaxi.records`), warnings included, as it comes.
        stop: asked between updates; once it answers True, the training ends with the best weights so far.
        stop_after: the update to end after, to go on by `resume`; None for the last.
        checkpoints: whether a run that is written keeps what it can be resumed from.
        checkpoint_every: seconds from one checkpoint to the next.
        resume: the run folder of a training to go on with, which says what it is; `updates` may be raised.
        **settings: settings of the training; `deeptaxi.api.settings.Settings` lists them.

    Raises:
        UsageError: there is no such environment or setting, settings exclude each other, `out` is taken, or `resume`
            is another training than what is asked for.
        DeepTaxiError: the training diverged, or the environment failed, before there was anything to keep.
    """
    name, table = name_of(env)
    conduct = Conduct(stop or never, stop_after, checkpoints, checkpoint_every, tensorboard)
    if resume is not None:
        refuse_with_resume(preset=preset, config=config, out=out, force=force)
        values = asked(name, env_args, None, q_table, nested(settings))
        trust, log_folder = trust_env or env is not None, Path(logs) if logs else None
        with resumed(Path(resume), values, trust, log_folder, stop_after) as kept:
            return carry_out(kept, on_record, conduct)
    values = asked(name, env_args, config, q_table, nested(settings))
    planned = plan(values, preset, trust_env or env is not None, table)
    with claimed(planned, out, logs or LOGS, force, checkpoints) as kept:
        return carry_out(kept, on_record, conduct)


@contextmanager
def resumed(
    folder: Path, values: Mapping[str, Any], trust: bool, logs: Path | None = None, stop_after: int | None = None
) -> Iterator[Plan]:
    """Take a run folder to go on with its training, while the block runs; see `resuming.taken_up`."""
    with taken_up(folder, values, trust, logs, stop_after) as (environment, configured, place, since):
        try:
            yield Plan(environment, configured, place, since)
        except BaseException as error:
            point_to_log(error, place.log.parent)
            point_to_checkpoint(error, configured.config, folder)
            raise


def plan(
    values: Mapping[str, Any],
    preset: str | None = None,
    trust: bool = False,
    opened: TransitionTable | Environment | None = None,
) -> Plan:
    """Open the environment that is asked for, and complete the settings for it.

    Args:
        values: nested settings of the user.
        preset: its name, or None for the one that fits.
        trust: whether the module of a `module:Id` may be imported.
        opened: what the environment's id in `values` stands for, if it is a table or is open already.

    Raises:
        UsageError: the settings contradict each other or the environment.
    """
    named = choose(values, preset)
    values = with_environment(values, named)
    resolve({"loop": "compiled", **values}, preset=named)  # wrong settings are told before the environment is opened
    requested: EnvironmentConfig = from_mapping(EnvironmentConfig, values.get("environment", {}), "environment.")
    environment = open_requested(requested, trust, opened)
    if isinstance(opened, Environment):  # its id alone does not say what it was opened with
        values = merge(values, {"environment": to_mapping(environment.config)})
    return Plan(environment, configure(environment, values, named))


@contextmanager
def claimed(
    planned: Plan,
    out: str | Path | Literal[True] | None,
    logs: str | Path = LOGS,
    force: bool = False,
    checkpoints: bool = True,
) -> Iterator[Plan]:
    """Take the place of the run folder while the block runs; with `checkpoints`, there is one from now on.

    Raises:
        UsageError: it is taken.
        DeepTaxiError: it cannot be written to.
    """
    if out is None:
        yield planned
        return
    table = own_table(planned.environment) is not None
    if out is True:
        place = runs.claim_free(planned.config, Path(logs), table)
    else:
        place = runs.claim(Path(out), Path(logs), force, table)
    kept, first = replace(planned, place=place), 0
    try:
        if checkpoints:
            first = checkpoint_files.begin(place.folder, about_of(kept), own_table(planned.environment))
        yield kept
    except BaseException as error:
        if first:
            checkpoint_files.take_back(place.folder, first, isinstance(error, DivergedError))
        point_to_log(error, place.log.parent)
        point_to_checkpoint(error, kept.config, place.folder)
        raise
    finally:
        place.release()


def about_of(planned: Plan) -> dict[str, Any]:
    """Return what the checkpoints of a plan say of it; nothing where no place is claimed, so that there are none."""
    if planned.place is None:
        return {}
    own, where = own_table(planned.environment) is not None, settled(planned)
    return about(where.environment, where.config, planned.place, planned.configured.preset, own)


def carry_out(planned: Plan, on_record: OnRecord | None = None, conduct: Conduct = PLAIN) -> Run:
    """Train, or go on; where a place was claimed, keep the run there. See `train`."""
    with stage("starting Keras …"):
        backend.start()
    from deeptaxi.learning.training import train as training_of

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
        trained = follow(training, watchers, observer, since.remarks if since else ())
        history = History(place.log if place else None, tuple(records))
        if place is not None and log is not None and history.finished is not None:
            about, preset = environment.describe(), planned.configured.preset
            log.position()  # the run itself comes last: what fails before leaves the one that stood there, and its log
            save_visits(place.log.parent, trained.coverage)
            disturbed = any(warned.finding == NOT_EXACT for warned in history.warnings)
            runs.save_run(place, trained.network, about, config, history.finished, preset, table, disturbed)
    return run_of(planned, trained.network, Logged(history, trained.coverage), kept_table=table is not None)


def observing(planned: Plan, records: Sequence[Record]) -> Watch:
    """Return what watches a training, and has seen the records that it had given before."""
    config, environment = planned.config, planned.environment
    watch = Watch(config, environment.table, agent_mask(config, environment))
    for record in records:
        watch.observe(record)
    return watch


def keeping(planned: Plan, conduct: Conduct, log: Log | None, said: Mapping[str, Any]) -> Keep:
    """Return what keeps the moments of a training."""
    if planned.place is None or log is None or not conduct.checkpoints:
        return lambda _hold: ()
    return checkpoint_files.Keeper(planned.place.folder, said, log, conduct.checkpoint_every)


def settled(planned: Plan) -> Plan:
    """Let the plan of a run that is to be kept name its table where it will be."""
    if planned.place is None:
        return planned
    table = own_table(planned.environment)
    environment, config = beside(planned.place.folder, table, planned.environment, planned.config)
    return replace(planned, environment=environment, configured=replace(planned.configured, config=config))


@contextmanager
def log_of(planned: Plan, conduct: Conduct) -> Iterator[Log | None]:
    """Open the log of a run that is to be kept."""
    if planned.place is None:
        yield None
        return
    writers = event_writers(planned.config) if conduct.tensorboard else ()
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
    if conduct.checkpoints:
        return f"It goes on by: {resuming_command(planned.place.folder, planned.config)}"
    return f"The whole training again: {runs.train_again(planned.place, planned.config)}"


def agent_mask(config: TrainConfig, environment: Environment) -> Any:
    """Return the actions that the agent may take, `[S, A]`; None where all are open to it, or it is not known yet."""
    return known_mask(environment) if config.exploration.action_mask else None


def follow(
    training: Generator[Record, None, Any], watchers: Sequence[Watcher], observer: Watch, remarks: Sequence[Record]
) -> Any:
    """Show the watchers every record, and what the observer has to say of it; return what the training returns.

    The `remarks` are on how the training begins, and come once it has said that it does.
    """
    while True:
        try:
            record = next(training)
        except StopIteration as end:
            return end.value
        told = [record, *observer.observe(record)]
        if not isinstance(record, Started):
            told, remarks = [*told[:1], *remarks, *told[1:]], ()
        for told_record in told:
            for watch in watchers:
                watch(told_record)
