"""Train the jobs of a sweep on workers of a cluster, whose files come back as bytes.

A worker trains in a temporary folder in which the folders of runs and of logs lie to each other as they do on the
client, so that what their files say of each other holds there too.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deeptaxi.api.job_runner import JobRunner
from deeptaxi.api.run_options import RunOptions
from deeptaxi.backend.exactness import chosen_backend
from deeptaxi.errors import UsageError, one_line
from deeptaxi.experiments.cluster_start import read_options, start_cluster
from deeptaxi.experiments.dask_cluster import DaskCluster, check_address, check_installed
from deeptaxi.experiments.grid import Job, program_of
from deeptaxi.experiments.worker_pool import Executor, Result, failed
from deeptaxi.io.atomic import write_atomic_all
from deeptaxi.storage import checkpoints, logs, runs
from deeptaxi.storage.run_folder import CARD_JSON

RUN, LOG = "run/", "log/"  # what the names of files begin with on their way


@dataclass(frozen=True)
class Folders:
    """The folders of a sweep on the client, as its user wrote them, and how they lie to each other.

    Attributes:
        runs: the folder of the sweep.
        logs: that of the logs of its runs.
        layout: both, relative to the folder that they have in common.
    """

    runs: Path
    logs: Path
    layout: tuple[str, str]

    @classmethod
    def of(cls, runs_folder: Path, logs_folder: Path) -> Folders:
        """Return the folders of a sweep.

        Raises:
            UsageError: they have no folder in common, as on two drives.
        """
        found = [str(runs_folder.resolve()), str(logs_folder.resolve())]
        try:
            common = os.path.commonpath(found)
        except ValueError:
            raise UsageError(f"--logs {logs_folder}: on a cluster, choose the drive of {runs_folder}") from None
        first, second = (os.path.relpath(path, common) for path in found)
        return cls(runs_folder, logs_folder, (first, second))


class RemoteRunner:
    """Trains jobs on a worker; see `experiments.dask_cluster.RunRemotely`.

    Args:
        arguments: of `JobRunner`.
        options: of each run.
        folders: of the sweep, on the client.
        current: the client's current folder: if the worker has it too, jobs run in it, for relative paths.
    """

    def __init__(self, arguments: Mapping[str, Any], options: RunOptions, folders: Folders, current: str) -> None:
        self._folders = folders
        self._runner = JobRunner(None, Path(), options, **arguments, destination=folders.runs)
        if Path(current).is_dir():
            os.chdir(current)

    def __call__(self, given: tuple[Job, Path], /) -> tuple[Result, dict[str, bytes]]:
        """Train a job, in the folder that comes with it; return its line and the files of its run and log."""
        job, scratch = given
        runner, folders = self._runner, self._folders
        runner.folder, runner.logs = (scratch / part for part in folders.layout)
        line = runner(job)
        run, log = runner.folder / job.name, runner.logs / job.name
        if "run" in line:
            line["run"] = str(folders.runs / job.name)
        if "reason" in line:  # it may say where the log of the failed training is
            line["reason"] = line["reason"].replace(str(log), str(folders.logs / job.name))
        try:
            return line, {**read_files(run, RUN), **read_files(log, LOG)}
        except OSError as error:
            return failed(job, f"the worker cannot read what it has trained: {one_line(error)}"), {}


def read_files(folder: Path, prefix: str) -> dict[str, bytes]:
    """Return the files of a folder by their names after `prefix`, but for hidden ones."""
    if not folder.is_dir():
        return {}
    paths = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    return {prefix + path.name: path.read_bytes() for path in paths}


def build_remote_runner(
    arguments: Mapping[str, Any], options: RunOptions, folders: Folders, current: str, backend: str
) -> RemoteRunner:
    """Return what trains jobs, in the process beside a worker of a cluster."""
    os.environ["KERAS_BACKEND"] = backend
    return RemoteRunner(arguments, options, folders, current)


def save_files(folders: Folders, job: Job, files: Mapping[str, bytes]) -> None:
    """Write the files of a run and its log into the folders of the sweep.

    Raises:
        DeepTaxiError: the disk is full, or a folder cannot be written to.
    """
    run, log = folders.runs / job.name, folders.logs / job.name
    reserved = runs.reserve(run, log.parent, force=True)
    try:
        written = write_files(log, LOG, files, logs.LOG_FILE)
        if write_files(run, RUN, files, CARD_JSON):
            for path in logs.files_of(log):  # of the run that was here before
                if path.name not in written:
                    path.unlink()
            checkpoints.discard(run)
    finally:
        reserved.release()


def write_files(folder: Path, prefix: str, files: Mapping[str, bytes], last: str) -> set[str]:
    """Write the files with a prefix into a folder, all or none; return their names."""
    found = {name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)}
    if found:
        with write_atomic_all(folder, last=last) as aside:
            for name, data in found.items():
                (aside / Path(name).name).write_bytes(data)
    return set(found)


@dataclass(frozen=True)
class RemoteWorkers:
    """The workers of a cluster that a sweep is to run on; see `sweep`.

    Raises:
        UsageError: the options exclude each other, or a package is not installed.
    """

    scheduler: Any
    cluster: str | None
    options: str | Path | Mapping[str, Any] | None
    workers: int | None

    def __post_init__(self) -> None:
        if self.scheduler is not None and self.cluster is not None:
            raise UsageError("--scheduler names a scheduler that runs, and --cluster starts one: leave out one of them")
        if self.cluster is None and self.options is not None:
            raise UsageError("--cluster-options are of --cluster slurm or --cluster kubernetes: add it")
        if self.scheduler is not None and self.workers is not None:
            raise UsageError("--workers is of this computer or of --cluster: the scheduler has the workers that it has")
        if self.cluster is not None and not self.workers:
            raise UsageError(f"--cluster {self.cluster}: say how many workers to ask for, such as --workers 20")
        if self.wanted:
            check_installed(self.cluster)
        if self.scheduler is not None:
            check_address(self.address)

    @property
    def wanted(self) -> bool:
        """Whether there are any."""
        return self.scheduler is not None or self.cluster is not None

    @property
    def address(self) -> str:
        """The address of the scheduler that runs."""
        return str(getattr(self.scheduler, "scheduler_address", self.scheduler))

    @contextmanager
    def open(
        self,
        folder: Path,
        logs: Path,
        arguments: Mapping[str, Any],
        run_options: RunOptions,
        warn: Callable[[str], object],
    ) -> Iterator[Executor]:
        """Connect to the workers for the duration of the block.

        Raises:
            UsageError: a worker has another version of deeptaxi, or an option is wrong.
            DeepTaxiError: the scheduler does not answer, or has no workers.
        """
        folders = Folders.of(folder, logs)
        silent = RunOptions(checkpoints=False, tensorboard=run_options.tensorboard)
        build = partial(build_remote_runner, arguments, silent, folders, str(Path.cwd()), chosen_backend())
        with ExitStack() as opened:
            if self.cluster is not None:
                given = self.options or {}
                options = given if isinstance(given, Mapping) else read_options(Path(given))
                address = opened.enter_context(start_cluster(self.cluster, self.workers or 1, options))
                where = f"--cluster {self.cluster} --workers {self.workers}"
            else:
                address = self.address
                where = f"--scheduler {address}"
            resume = f"deeptaxi sweep --resume {shlex.quote(str(folder))} {where}"
            save, patient = partial(save_files, folders), self.cluster is not None
            yield opened.enter_context(DaskCluster(address, build, save, program_of, warn, resume, patient))
