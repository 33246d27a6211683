"""Train the jobs of a grid, one after the other, in this process.

The environment of a point is opened once for all of its seeds, and programs are compiled once for all jobs that share
one. A job is trained as `train` trains it: its weights are those of its own command, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deeptaxi.api.environments import Opened
from deeptaxi.api.networks import NOT_GIVEN, GivenNetwork, open_network
from deeptaxi.api.run import Run
from deeptaxi.api.run_options import PLAIN, RunOptions
from deeptaxi.api.save_run import add_to_group
from deeptaxi.api.train_run import Plan, plan, reserve_run_folder, resume_plan, run_training
from deeptaxi.backend import keras_backend
from deeptaxi.errors import DeepTaxiError, UsageError, one_line
from deeptaxi.experiments.grid import Job
from deeptaxi.experiments.results import DONE
from deeptaxi.experiments.worker_pool import failed
from deeptaxi.learning.callbacks import Callback, UserCallbacks
from deeptaxi.storage import checkpoints
from deeptaxi.storage.compact_group import CompactGroup


@dataclass
class JobRunner:
    """Trains jobs and saves their runs.

    Attributes:
        folder: the folder of the sweep; None to save nothing.
        logs: where the logs of its runs go.
        options: of each run.
        trust: whether modules that the jobs name may be imported.
        opened: as for `plan`.
        given: as for `plan`.
        watchers: called with every event of every training.
        destination: the folder of the sweep as the files of a run name it, if they are to be moved there.
        group: takes the runs instead of folders of their own.
    """

    folder: Path | None
    logs: Path
    options: RunOptions = PLAIN
    trust: bool = False
    opened: Opened | None = None
    given: GivenNetwork = NOT_GIVEN
    watchers: tuple[Callback, ...] = ()
    destination: Path | None = None
    group: CompactGroup | None = None
    run: Run | None = field(default=None, init=False)  # of the last job, if it got as far as a run
    _planned: tuple[Any, Plan] | None = field(default=None, init=False, repr=False)

    def __call__(self, job: Job) -> dict[str, Any]:
        """Train a job; return its line, which says why if it failed.

        Raises:
            DeepTaxiError: the file of a compact group cannot be written, which is no fault of the job.
        """
        began, cpu = time.perf_counter(), time.process_time()
        run, reason = None, ""
        try:
            run = self.train(job)
        except DeepTaxiError as error:
            if self.group is not None and self.group.failed:
                raise
            reason = one_line(error, 500)
        except MemoryError:
            reason = "not enough memory"
        except Exception as error:  # of an environment or a network: others continue
            reason = one_line(f"{type(error).__name__}: {error}", 500)
        self.run = run  # only now: others may have run together with it
        if run is None:
            return failed(job, reason)
        for watcher in self.watchers:
            if isinstance(watcher, UserCallbacks) and watcher.error is not None:  # the run is whole, but ended early
                return failed(job, one_line(watcher.error, 500))
        line = describe_job(job, run)
        if self.group is not None and self.folder is not None:
            line |= {"run": str(self.folder / job.name), "compact": True}
        spent = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
        return {**line, **spent}

    def plan(self, job: Job) -> Plan:
        """Return the plan of a job: what its point has in common is planned once.

        Raises:
            UsageError: the settings contradict each other or the environment.
        """
        point = (job.point, job.preset)
        if self._planned is None or self._planned[0] != point:
            self._planned = point, plan(job.values, job.preset, self.trust, self.opened, self.given)
        planned = self._planned[1]
        config = replace(planned.config, seed=job.seed)
        network = planned.network
        if network is not None and config != planned.config:
            network = open_network(config, planned.environment, self.given)
        return replace(planned, configured=replace(planned.configured, config=config), network=network)

    def train(self, job: Job) -> Run:
        """Train a job, or resume its training if that was interrupted, and save its run.

        Raises:
            DeepTaxiError: it cannot be trained.
        """
        keras_backend.start()
        if self.folder is None:
            return run_training(self.plan(job), self.watchers, self.options)
        folder, logs = self.folder / job.name, self.logs / job.point
        if self.group is not None:
            return self.train_compact(self.group, job, folder)
        options = replace(self.options, last_checkpoint=False, name=f"{self.folder.resolve().name}/{job.name}")
        if any(checkpoints.files_in(folder)):
            with suppress(UsageError):  # of another processor or version, say: begin again instead
                return self.resume(folder, options)
        # Without a first checkpoint: most jobs take a second, and one that is killed before its first one begins again.
        with reserve_run_folder(self.plan(job), folder, logs, force=True, with_checkpoints=False) as planned:
            run = run_training(self.with_destination(planned, job), self.watchers, options)
        return self.without_checkpoints(run, folder)

    def train_compact(self, group: CompactGroup, job: Job, folder: Path) -> Run:
        """Train a job, and add its run to a compact group, unless it is to be trained again."""
        options = replace(self.options, checkpoints=False, name=f"{folder.parent.resolve().name}/{job.name}")
        run = run_training(self.plan(job), self.watchers, options)
        if run.history is not None and run.finished is not None and not self.is_interrupted(run):
            add_to_group(group, run, folder)
        return run

    def with_destination(self, planned: Plan, job: Job) -> Plan:
        """Name the folder that the run is moved to afterwards, if it is."""
        if self.destination is None or planned.run_folder is None:
            return planned
        moved = replace(planned.run_folder, destination=self.destination / job.name)
        return replace(planned, run_folder=moved)

    def resume(self, folder: Path, options: RunOptions) -> Run:
        """Resume the training of a run folder; see `train`."""
        with resume_plan(folder, {}, self.trust, None, None, self.opened, self.given) as resumed:
            run = run_training(resumed, self.watchers, options)
        return self.without_checkpoints(run, folder)

    def without_checkpoints(self, run: Run, folder: Path) -> Run:
        """Discard the checkpoints of a run, unless its training is to be resumed."""
        if not self.is_interrupted(run):
            checkpoints.discard(folder)
        return run

    def is_interrupted(self, run: Run) -> bool:
        """Return whether the training of a run is to be resumed."""
        ended = run.finished is not None and run.finished.stopped != "interrupted"
        return not ended and (bool(run.failure) or self.options.stop())


def describe_job(job: Job, run: Run) -> dict[str, Any]:
    """Return the line of a job that was trained."""
    summary = run.to_dict()
    names = (
        *("run", "weights_digest", "stopped", "updates", "best_update", "environment_steps", "train_seconds"),
        *("compile_seconds", "exact", "exact_unavailable", "episodes", "failure"),
    )
    return {
        "job": job.name,
        "point": job.point,
        "seed": job.seed,
        "varied": dict(job.varied),
        "status": DONE,
        "environment": summary["environment"]["id"],
        **{name: summary[name] for name in names},
    }


def build_runner(arguments: Mapping[str, Any]) -> JobRunner:
    """Return a runner with these arguments, in a worker process."""
    keras_backend.start()
    return JobRunner(**arguments)
