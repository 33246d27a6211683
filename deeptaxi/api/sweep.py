"""Train a grid of settings over many seeds, and keep the line of every job that has ended."""

from __future__ import annotations

import itertools
import os
import shlex
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from deeptaxi.api.job_runner import JobRunner, build_runner
from deeptaxi.api.networks import GivenNetwork, check_network_name, with_network
from deeptaxi.api.remote_jobs import RemoteWorkers
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.run_options import EVERY, RunOptions, are_given, never, refuse_with_resume
from deeptaxi.api.settings import Config, Settings, merge_settings
from deeptaxi.api.status import status
from deeptaxi.backend import keras_backend
from deeptaxi.config import EnvironmentConfig, TrainConfig, merge, requested_environment, resolve
from deeptaxi.errors import CallbackError, UsageError
from deeptaxi.experiments.grid import (
    Grid,
    Job,
    check_tables,
    find_setting,
    grid_of,
    program_of,
    read_grid,
    refuse_varied,
)
from deeptaxi.experiments.results import DONE, SweepFolder, is_sweep, read_sweep
from deeptaxi.experiments.worker_pool import Executor, InProcess, WorkerPool
from deeptaxi.io.atomic import make_folder, remove_if_empty
from deeptaxi.io.locks import TRAINING, lock
from deeptaxi.storage.compact_group import agents_in, check_no_agent
from deeptaxi.storage.logs import LOG_FILE, LOGS
from deeptaxi.storage.run_folder import MODEL_FILE
from deeptaxi.storage.runs import MODELS, check_ours, default_name

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deeptaxi.api.run import Run

Watch = Callable[[Mapping[str, Any], "Progress"], object]


@dataclass
class Progress:
    """How far a sweep is.

    Attributes:
        jobs: number of jobs of the grid.
        done: jobs that have been trained, in this process or before.
        optimal: those whose policy is proven optimal.
        failed: jobs that failed.
        seconds: since this process began.
        fresh: jobs that ended since then.
    """

    jobs: int
    done: int = 0
    optimal: int = 0
    failed: int = 0
    fresh: int = 0
    began: float = field(default_factory=time.monotonic)

    def add(self, result: Mapping[str, Any], fresh: bool = True) -> None:
        """Count a job that has ended."""
        self.fresh += fresh
        self.done += result["status"] == DONE
        self.failed += result["status"] != DONE
        self.optimal += is_optimal(result)

    @property
    def seconds(self) -> float:
        """Seconds since this process began."""
        return time.monotonic() - self.began

    @property
    def seconds_left(self) -> float | None:
        """Return how long the rest will take, as the jobs so far did; None before the first."""
        left = self.jobs - self.done - self.failed
        return self.seconds / self.fresh * left if self.fresh else None


@dataclass(frozen=True, eq=False, repr=False)
class SweepResult(RichRepr):
    """What became of the jobs of a grid.

    Attributes:
        folder: the folder of the sweep; None if its runs were not saved.
        grid: what was to be trained.
        results: the line of each job that has ended, in the order of the grid.
        runs: the runs by the name of their job, if they were not saved.
        interrupted: whether jobs are left.
        seconds: how long it took, in this process.
    """

    folder: Path | None
    grid: Grid
    results: tuple[Mapping[str, Any], ...]
    runs: Mapping[str, Run]
    interrupted: bool
    seconds: float

    def __len__(self) -> int:
        """Return the number of jobs that have ended."""
        return len(self.results)

    def __iter__(self) -> Iterator[Run]:
        """Yield the run of each job that was trained, in the order of the grid; saved ones are opened one by one."""
        from deeptaxi.api.load import load

        for result in self.results:
            if result["status"] == DONE:
                job = result["job"]
                yield self.runs[job] if self.folder is None else load(self.folder / job)

    @property
    def failed(self) -> list[Mapping[str, Any]]:
        """The lines of the jobs that failed, each with its `reason`."""
        return [result for result in self.results if result["status"] != DONE]

    def points(self) -> list[dict[str, Any]]:
        """Return a summary of each point: its values, and the counts and medians over its seeds."""
        groups = itertools.groupby(self.results, key=lambda result: result["point"])
        return [summarize_point(list(results)) for _, results in groups]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi sweep --json` prints."""
        counts = Counter(result["status"] for result in self.results)
        return {
            "sweep": None if self.folder is None else str(self.folder),
            "jobs": self.grid.count,
            "done": counts[DONE],
            "failed": len(self.failed),
            "optimal": sum(map(is_optimal, self.results)),
            "interrupted": self.interrupted,
            "seconds": self.seconds,
            "points": self.points(),
            "runs": [dict(result) for result in self.results],
        }

    def __rich__(self) -> RenderableType:
        from deeptaxi.display.sweep_table import sweep_table

        return sweep_table(self.to_dict())


def is_optimal(result: Mapping[str, Any]) -> bool:
    """Return whether the policy of a job is proven optimal."""
    return bool((result.get("exact") or {}).get("optimal"))


def summarize_point(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of the jobs of one point."""
    done = [result for result in results if result["status"] == DONE]
    scores = [result["exact"]["normalized_score"] for result in done if result.get("exact")]
    return {
        "point": results[0]["point"],
        "varied": dict(results[0]["varied"]),
        "seeds": len(results),
        "optimal": sum(map(is_optimal, results)),
        "failed": len(results) - len(done),
        "score": median(score for score in scores if score is not None),
        "updates": median(result["updates"] for result in done),
        "best_update": median(result["best_update"] for result in done if result["best_update"] is not None),
        "train_seconds": median(result["train_seconds"] for result in done),
    }


def median(values: Iterable[float]) -> float | None:
    """Return the median; None if there are no values."""
    known = list(values)
    return statistics.median(known) if known else None


def ignore(_result: Mapping[str, Any], _progress: Progress) -> None:
    """Show nothing."""


def run_grid(
    grid: Grid,
    executor: Executor,
    folder: SweepFolder | None = None,
    before: Mapping[str, Mapping[str, Any]] | None = None,
    stop: Callable[[], bool] = never,
    watch: Watch = ignore,
) -> SweepResult:
    """Run the jobs of a grid that are left.

    Args:
        grid: the grid.
        executor: runs them.
        folder: where each line is appended as soon as its job has ended.
        before: lines of jobs that have ended in earlier processes; those that failed, or whose run is gone, are tried
            again.
        stop: see `Executor.run`.
        watch: called with each line and how far the sweep is.
    """
    began, jobs = time.monotonic(), list(grid.jobs())
    found = {name: line for name, line in (before or {}).items() if line["status"] == DONE}
    if folder is not None:
        kept = set(agents_in(folder.path))
        found = {
            name: line for name, line in found.items() if name in kept or (folder.path / name / MODEL_FILE).exists()
        }
    progress = Progress(len(jobs))
    for line in found.values():
        progress.add(line, fresh=False)
    left = [job for job in jobs if job.name not in found]
    if isinstance(executor, InProcess):
        with status("starting Keras …"):
            keras_backend.start()  # before the first job, so that one who stops meanwhile need not wait for that job
    with status(f"training {len(left):,} of {len(jobs):,} jobs …"):
        for result in executor.run(left, stop):
            if result.get("stopped") == "interrupted" and not result.get("failure") and stop():
                continue  # it is to be resumed; a training that a callback has ended is not
            found[result["job"]] = result
            if folder is not None:
                folder.append(result)
            progress.add(result)
            watch(result, progress)
    lines = tuple(found[job.name] for job in jobs if job.name in found)
    path = None if folder is None else folder.path
    return SweepResult(path, grid, lines, {}, len(lines) < len(jobs), time.monotonic() - began)


@contextmanager
def open_sweep_folder(folder: Path, logs: Path, grid: Grid, resumed: bool) -> Iterator[SweepFolder]:
    """Lock the folder of a sweep and write its grid.

    Raises:
        UsageError: it is taken, or another process writes to it; or the logs are those of another sweep.
        DeepTaxiError: it cannot be written to.
    """
    check_no_agent(folder)
    with ExitStack() as undoing:
        for new in reversed(make_folder(folder)):
            undoing.callback(remove_if_empty, new)
        undoing.enter_context(lock(folder, TRAINING, "--resume" if resumed else "--out"))
        if not resumed and any(path.name != ".lock" for path in folder.iterdir()):
            cure = f"resume it with --resume {shlex.quote(str(folder))}" if is_sweep(folder) else "it is not empty"
            raise UsageError(f"{folder} is taken: {cure}, or choose another --out")
        first = next(grid.jobs())  # no other job has its name, so that its log tells whose these are
        check_ours(folder / first.name, logs / first.name / LOG_FILE)
        sweep_folder = SweepFolder(folder)
        if not resumed:
            sweep_folder.begin(grid)
        undoing.callback(sweep_folder.close)
        try:
            yield sweep_folder
        except CallbackError:
            if not resumed and not any(folder.glob(f"**/{MODEL_FILE}")):  # as a training does that leaves nothing
                sweep_folder.discard()
            raise


def free_folder(name: str) -> Path:
    """Return the first free folder of this name in `models/`."""
    numbered = (MODELS / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(path for path in numbered if not os.path.lexists(path))


def default_sweep_name(grid: Grid) -> str:
    """Return the default name of a sweep's folder."""
    name = default_name(config_of_job(next(grid.jobs()))).rpartition("-")[0]
    if len(grid.environments) > 1 or grid.axes:
        return f"sweep-{name if len(grid.environments) <= 1 else 'environments'}"
    return f"{name}-seeds"


def configs_of_points(grid: Grid) -> list[TrainConfig]:
    """Return the configuration of each point, before its environment is opened.

    Raises:
        UsageError: settings of a point exclude each other.
    """
    points = replace(grid, seeds=grid.seeds[:1])  # there may be a million seeds
    with status("checking the settings …"):
        return list(map(config_of_job, points.jobs()))


def config_of_job(job: Job) -> TrainConfig:
    """Return the configuration of a job, before its environment is opened.

    Raises:
        UsageError: its settings exclude each other.
    """
    try:
        return resolve({"loop": "compiled", **job.values}, preset=named_preset(job))
    except UsageError as error:
        raise UsageError(f"{job.point}: {error}" if job.point else str(error)) from None


def check_environments(configs: Sequence[TrainConfig], trust: bool) -> None:
    """Open each environment once: one that does not exist is no fault of a job.

    Raises:
        UsageError: one does not exist, or does not take its arguments.
    """
    from deeptaxi.mdp.environment import open_environment

    opened: list[EnvironmentConfig] = []
    for config in configs:
        requested = requested_environment(config)
        if requested not in opened:
            open_environment(requested, trust_module=trust)
            opened.append(requested)


def named_preset(job: Job) -> Any:
    """Return the preset that a job names, or None."""
    if job.preset is None:
        return None
    from deeptaxi.learning.resolve import choose

    return choose(job.values, job.preset)


def usable_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sweep(
    spec: str | Path | Mapping[str, Any] | None = None,
    *,
    env: str | Sequence[str] = (),
    grid: Mapping[str, Sequence[Any]] | None = None,
    seeds: str | int | Sequence[int] | None = None,
    q_table: bool = False,
    preset: str | None = None,
    config: Config | None = None,
    env_args: Mapping[str, Any] | None = None,
    network_args: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    logs: str | Path = LOGS,
    resume: str | Path | None = None,
    workers: int | None = None,
    scheduler: Any = None,
    cluster: str | None = None,
    cluster_options: str | Path | Mapping[str, Any] | None = None,
    tensorboard: bool = True,
    trust_env: bool = False,
    checkpoint_every: float = EVERY,
    stop: Callable[[], bool] | None = None,
    watch: Watch | None = None,
    warn: Callable[[str], object] = warnings.warn,
    **settings: Unpack[Settings],
) -> SweepResult:
    """Train every combination of environments, values and seeds; save each run, and the line of each job.

    A job that fails does not stop the others, and `resume` continues a sweep that was killed. The weights of a job are
    those of `deeptaxi.train` with the same settings and seed, whatever the number of workers.

    Args:
        spec: a TOML file of a sweep; the arguments below add to it, or replace what it says.
        env: names of environments.
        grid: the values of each varied setting, by its name: ``{"learning_rate": [0.001, 0.003]}``.
        seeds: such as ``"0-9"``, or ``range(10)``.
        q_table: as for `train`, as are `preset`, `config`, `env_args`, `network_args`, `tensorboard`, `trust_env` and
            `checkpoint_every`.
        preset: see `q_table`.
        config: see `q_table`.
        env_args: see `q_table`.
        network_args: see `q_table`.
        out: the folder to write; None for a free name in `models/`.
        logs: folder for the logs.
        resume: the folder of a sweep to continue; its settings apply.
        workers: number of processes; None for one per processor, 0 for none but this one; of a `cluster`, how many to
            ask for.
        scheduler: the address of a Dask scheduler, such as ``"tcp://host:8786"``, whose workers train; or a cluster of
            Dask, such as a `LocalCluster`.
        cluster: ``"slurm"`` or ``"kubernetes"``: start Dask there.
        cluster_options: of `dask_jobqueue.SLURMCluster` or `dask_kubernetes.operator.KubeCluster`: a TOML file, or a
            mapping.
        tensorboard: see `q_table`.
        trust_env: see `q_table`.
        checkpoint_every: see `q_table`.
        stop: called between jobs and updates; once it returns True, the sweep ends, to be resumed.
        watch: called with the line of each job as it ends, and a `Progress`.
        warn: called with a line that the user should know, such as that workers have another processor.
        **settings: of all jobs.

    Raises:
        UsageError: a name, type or value is wrong, nothing is to be trained, or `out` is taken; a worker has another
            version of deeptaxi.
        DeepTaxiError: the folder cannot be written to, or the scheduler does not answer.
    """
    check_workers(workers)
    remote = RemoteWorkers(scheduler, cluster, cluster_options, workers)
    own, value = with_network(settings, network_args)
    if resume is not None:
        typed = {"spec": spec, "env": env, "grid": grid, "seeds": seeds is not None, **are_given(settings)}
        fixed = {"q_table": q_table, "preset": preset, "config": config, "out": out}
        refuse_with_resume(**typed, **fixed, env_arg=env_args, network_arg=network_args)
        folder = Path(resume)
        whole, before = read_sweep(folder)
        trust_network = trust_env
    else:
        whole, before = build_grid(spec, env, grid, seeds, q_table, preset, config, env_args, own), {}
        folder = free_folder(default_sweep_name(whole)) if out is None else Path(out)
        named = {find_setting(name)[0] for name in grid or {}}
        trust_network = trust_env or settings.get("network") is not None or ("network", "builder") in named
        trust_env = trust_env or bool(env)
    configs = configs_of_points(whole)
    if value is not None or any(one.environment.in_memory or one.network.in_memory for one in configs):
        raise UsageError("a sweep names its environments and networks: an object of Python has no name for a worker")
    given = GivenNetwork(trust=trust_network)
    for one in configs:
        check_network_name(one.network, given)
    check_environments(configs, trust_env)
    stop = stop or never
    run_options = RunOptions(stop=stop, checkpoint_every=checkpoint_every, tensorboard=tensorboard)
    own_logs = Path(logs) / folder.resolve().name
    arguments = {"trust": trust_env, "given": given}
    with ExitStack() as opened:
        if remote.wanted:
            executor: Executor = opened.enter_context(remote.open(folder, own_logs, arguments, run_options, warn))
        else:
            count = usable_processors() if workers is None else workers
            here = {"folder": folder, "logs": own_logs, **arguments}
            executor = build_executor(min(count, whole.count), here, run_options)
        writing = opened.enter_context(open_sweep_folder(folder, own_logs, whole, resume is not None))
        return run_grid(whole, executor, writing, before, stop, watch or ignore)


def check_workers(workers: int | None) -> None:
    """Reject a negative number of workers.

    Raises:
        UsageError: the number is negative.
    """
    if workers is not None and workers < 0:
        raise UsageError(f"workers = {workers}: expected a number of 0 or more")


def build_executor(workers: int, arguments: Mapping[str, Any], run_options: RunOptions) -> Executor:
    """Return what runs jobs: this process, or worker processes.

    Args:
        workers: number of processes; 0 for this one.
        arguments: of `JobRunner`, which are pickled.
        run_options: of each run; a worker is ended from outside, so its runs do not ask to stop.
    """
    if workers == 0:
        return InProcess(JobRunner(**arguments, options=run_options))
    silent = RunOptions(checkpoint_every=run_options.checkpoint_every, tensorboard=run_options.tensorboard)
    return WorkerPool(workers, partial(build_runner, {**arguments, "options": silent}), program_of)


def build_grid(
    spec: str | Path | Mapping[str, Any] | None,
    env: str | Sequence[str],
    axes: Mapping[str, Sequence[Any]] | None,
    seeds: str | int | Sequence[int] | None,
    q_table: bool,
    preset: str | None,
    config: Config | None,
    env_args: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
) -> Grid:
    """Return the grid that a file and arguments describe; see `sweep`.

    Raises:
        UsageError: a name, type or value is wrong, or nothing is to be trained.
    """
    values: dict[str, Any] = dict(spec) if isinstance(spec, Mapping) else read_grid(Path(spec)) if spec else {}
    names = [env] if isinstance(env, str) else list(env)
    own = merge_settings(None, env_args, config, q_table, settings)
    if "seed" in own:
        raise UsageError("a sweep has several seeds: give --seeds")
    check_tables(values)
    refuse_varied(values.get("grid"), values.get("settings"))
    values["settings"] = merge(values.get("settings", {}), own)
    if names:
        values["environments"] = names
    if axes:
        values["grid"] = {**values.get("grid", {}), **{name: list(found) for name, found in axes.items()}}
    refuse_varied(values.get("grid"), merge_settings(None, env_args, None, q_table, settings))
    if seeds is not None:
        values["seeds"] = seeds
    if preset is not None:
        values["preset"] = preset
    return grid_of(values)
