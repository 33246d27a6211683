"""Train a Q-network, or one for each of several seeds: the public function."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from deeptaxi.api.environments import EnvLike, name_of, open_value
from deeptaxi.api.job_runner import JobRunner
from deeptaxi.api.networks import GivenNetwork, with_network
from deeptaxi.api.run import Run
from deeptaxi.api.run_options import (
    EVERY,
    RunOptions,
    are_given,
    check_compact,
    never,
    refuse_alone,
    refuse_with_resume,
    refuse_with_seeds,
)
from deeptaxi.api.settings import Config, TrainOptions, TrainSettings, merge_settings
from deeptaxi.api.status import status
from deeptaxi.api.sweep import (
    Progress,
    SweepResult,
    Watch,
    default_sweep_name,
    free_folder,
    ignore,
    open_sweep_folder,
    run_grid,
)
from deeptaxi.api.train_run import plan, reserve_run_folder, resume_plan, run_training
from deeptaxi.backend import keras_backend
from deeptaxi.backend.exactness import chosen_backend
from deeptaxi.backend.vectorized import on_accelerator
from deeptaxi.errors import CallbackError, DiskError, UsageError
from deeptaxi.experiments.grid import Grid, check_seeds
from deeptaxi.experiments.results import is_sweep, read_sweep
from deeptaxi.experiments.worker_pool import InProcess, VectorizedJobs
from deeptaxi.learning.callbacks import Event, UserCallbacks
from deeptaxi.storage.compact_group import CompactGroup
from deeptaxi.storage.logs import LOGS
from deeptaxi.tracking.tracker import check_trackers


@overload
def train(env: EnvLike | None = None, *, seeds: None = None, **options: Unpack[TrainOptions]) -> Run: ...
@overload
def train(
    env: EnvLike | None = None, *, seeds: str | int | Sequence[int], **options: Unpack[TrainOptions]
) -> SweepResult: ...
def train(
    env: EnvLike | None = None,
    *,
    seeds: str | int | Sequence[int] | None = None,
    q_table: bool = False,
    preset: str | None = None,
    config: Config | None = None,
    env_args: Mapping[str, Any] | None = None,
    network_args: Mapping[str, Any] | None = None,
    out: str | Path | Literal[True] | None = None,
    logs: str | Path | None = None,
    tensorboard: bool = True,
    track: str | Sequence[str] = (),
    compact: bool = False,
    vectorized: bool | None = None,
    force: bool = False,
    trust_env: bool = False,
    callbacks: Sequence[Callable[[Event], object]] | None = None,
    stop: Callable[[], bool] | None = None,
    stop_after: int | None = None,
    checkpoints: bool = True,
    checkpoint_every: float = EVERY,
    resume: str | Path | None = None,
    **settings: Unpack[TrainSettings],
) -> Run | SweepResult:
    """Train a Q-network and return it with its exact verdict.

    Prints nothing and, without `out`, writes nothing. Settings come from the preset that fits, then `config`, then
    `settings`, which takes every option of `deeptaxi train` by name, such as `hidden=(64,)` or `learning_rate=0.01`.

    Args:
        env: a Gymnasium id, `module:Class`, `file.py:Class`, the path of a table (`.npz`, or a file that `convert`
            reads), a `TransitionTable`, a value that is a table, such as `P` or arrays (P, R), a Gymnasium environment,
            its class, or a function that makes it.
        seeds: train an agent for each seed, such as ``"0-63"`` or ``range(64)``, and return a `SweepResult`. Keras is
            imported and programs are compiled once; each agent has the weights of its own training with `seed`. With
            `out`, that folder has a run for each, and `resume` continues with it.
        q_table: whether to use a network without hidden layers or biases, whose weights are the Q table.
        preset: name of a preset, see `listing.presets`; None for the one that fits.
        config: a TOML file, a mapping of the same form, or the `config` of another run.
        env_args: arguments of the environment; what a table of another form does not say, such as `start`.
        network_args: arguments of what builds the `network`, besides the numbers of states and actions.
        out: the run folder to write; True for a free name in `models/`.
        logs: folder for the log of a saved run; None for `logs`, or for the log's current location with `resume`.
        tensorboard: whether to also log for TensorBoard.
        track: `"mlflow"`, `"wandb"`, or both: trackers that the run is logged with.
        compact: whether to save the agents of `seeds` in one file of `out`, without folders and checkpoints of their
            own; `load(out / "seed-3")` opens one all the same.
        vectorized: whether to train the agents of `seeds` at once, as one vectorized program of JAX; None for on
            accelerators, without `track` and `callbacks`, which would see the events of all in turn. Their seconds are
            those of all.
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
    given_env = env
    if (read := open_value(env, env_args)) is not None:
        env, env_args = read, None
    name, table = name_of(env)
    run_options = RunOptions(
        stop=stop or never,
        stop_after=stop_after,
        checkpoints=checkpoints,
        checkpoint_every=checkpoint_every,
        tensorboard=tensorboard,
        track=check_trackers(track),
        vectorized=vectorized,
    )
    own, value = with_network(settings, network_args)
    given = GivenNetwork.of(own, value, trust_env)
    trust, continued = trust_env or env is not None, None if resume is None else Path(resume)
    fixed = {"preset": preset, "config": config, "out": out, "force": force}  # of what is resumed
    if seeds is not None or (continued is not None and is_sweep(continued)):
        refuse_with_seeds(seed=own.get("seed"), stop_after=stop_after, force=force)
        runner = JobRunner(None, LOGS, run_options, trust, table, given, (watching,))
        if continued is not None:
            # Objects are in no file, and are given again.
            named = {name: one for name, one in settings.items() if name != "network" or value is None}
            arguments = {} if value is not None else {"network_arg": network_args}
            refuse_with_resume(env=given_env if table is None else None, seeds=seeds is not None, **fixed)
            refuse_with_resume(q_table=q_table, env_arg=env_args, **arguments, **are_given(named))
            grid, before = read_sweep(continued)
        else:
            values = merge_settings(name, env_args, config, q_table, own)
            grid, before = Grid(check_seeds(() if seeds is None else seeds), settings=values, preset=preset), None
        compact = check_compact(compact, continued, out=out, logs=logs)
        folder = continued or folder_of_seeds(grid, runner, out)
        return train_seeds(grid, before, runner, folder, Path(logs or LOGS), watching, compact)
    refuse_alone(compact=compact, vectorized=vectorized)
    if continued is not None:
        refuse_with_resume(**fixed)
        values = merge_settings(name, env_args, None, q_table, own)
        log_folder = Path(logs) if logs else None
        opening = resume_plan(continued, values, trust, log_folder, stop_after, table, given)
    else:
        values = merge_settings(name, env_args, config, q_table, own)
        opening = reserve_run_folder(plan(values, preset, trust, table, given), out, logs or LOGS, force, checkpoints)
    with opening as planned:
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


def folder_of_seeds(grid: Grid, runner: JobRunner, out: str | Path | Literal[True] | None) -> Path | None:
    """Return the folder for the agents of a grid, whose settings are checked before anything is written.

    Raises:
        UsageError: a setting is wrong, which is no fault of a seed.
    """
    runner.plan(next(grid.jobs()))
    if out is True:
        return free_folder(default_sweep_name(grid))
    return None if out is None else Path(out)


def train_seeds(
    grid: Grid,
    before: Mapping[str, Mapping[str, Any]] | None,
    runner: JobRunner,
    folder: Path | None,
    logs: Path,
    watching: UserCallbacks | None = None,
    compact: bool = False,
    watch: Watch = ignore,
) -> SweepResult:
    """Train an agent for each seed in this process.

    Args:
        grid: settings and seeds.
        before: as for `run_grid`, to continue with the folder; None to begin.
        runner: trains the agents; its folders are set here.
        folder: where their runs are saved; None for nowhere.
        logs: where logs go.
        watching: the callbacks of the user, among those of the runner.
        compact: whether to save them in one file.
        watch: called with the line of each job, and a `Progress`.

    Raises:
        UsageError: the folder is taken.
        CallbackError: a callback of the user failed.
        DiskError: the folder cannot be written to; it can be continued.
    """
    runs: dict[str, Run] = {}

    def keep(line: Mapping[str, Any], progress: Progress) -> None:
        if watching is not None and watching.error is not None:
            if runner.run is None:
                raise watching.error
            raise_callback_error(runner.run, watching.error)
        if runner.folder is None and runner.run is not None:
            runs[line["job"]] = runner.run
        watch(line, progress)

    executor = choose_executor(runner, grid)
    compact = compact or any(line.get("compact") for line in (before or {}).values())  # even if its file is gone
    if folder is None:
        return replace(run_grid(grid, executor, None, before, runner.options.stop, keep), runs=runs)
    runner.logs = logs / folder.resolve().name
    with open_sweep_folder(folder, runner.logs, grid, before is not None) as writing:
        runner.folder = folder
        try:
            with closing(CompactGroup(folder)) if compact else nullcontext() as runner.group:
                return run_grid(grid, executor, writing, before, runner.options.stop, keep)
        except DiskError as error:
            if folder.is_dir():
                error.args = (f"{error}; then `deeptaxi train --resume {shlex.quote(str(folder))}` continues",)
            raise


def choose_executor(runner: JobRunner, grid: Grid) -> InProcess:
    """Return what trains the agents of a grid: one after the other, or all at once.

    Raises:
        UsageError: they are to be trained at once, and cannot be.
    """
    asked, config = runner.options.vectorized, runner.plan(next(grid.jobs())).config
    if asked and chosen_backend() != "jax":
        raise UsageError("--vectorized is a program of JAX: set KERAS_BACKEND=jax")
    if asked and config.loop != "compiled":
        raise UsageError(f"--vectorized is for the compiled loop, and this is the {config.loop} loop")
    if asked and runner.options.track:
        raise UsageError("--track follows one training at a time: leave out --vectorized")
    watched = runner.options.track or any(isinstance(one, UserCallbacks) and one.functions for one in runner.watchers)
    if asked is None and chosen_backend() == "jax" and config.loop == "compiled" and not watched:
        with status("starting Keras …"):
            keras_backend.start()
        asked = on_accelerator()
    return VectorizedJobs(runner) if asked else InProcess(runner)
