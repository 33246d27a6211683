"""Run jobs on the workers of a Dask cluster, each of which trains one at a time.

The scheduler is one that runs already (``--scheduler tcp://host:port``), or one that Dask starts (`cluster_start`). A
worker runs jobs in a process beside it, such as a pool has (`worker_pool`), which it keeps from one job to the next, so
that Keras is imported and a program is compiled once; in a thread of the worker itself, a training would share its
interpreter with Dask, and take a third longer. Its runs come back as the bytes of their files: client and workers need
no common folder.

Jobs are given to workers by name, two at most: while one is trained, the next waits there already. A job whose worker
dies is given to another once, as in a pool. If the connection to the scheduler breaks, all that was under way is
given out again once it is back; a worker ends a job that nobody waits for any more.

Imports Dask only when it is used.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import secrets
import shutil
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any, Protocol

from deeptaxi.backend import exactness
from deeptaxi.errors import DeepTaxiError, UsageError, nearest, one_line
from deeptaxi.experiments.grid import Job
from deeptaxi.experiments.worker_pool import (
    POLL,
    TRIES,
    Result,
    describe_death,
    failed,
    next_program,
    start_worker,
)
from deeptaxi.machine import processor

Files = Mapping[str, bytes]  # by their paths, relative to where the sweep is
CONNECT = 10.0  # s in which a scheduler must answer
WORKERS = 60.0  # s in which it must have a worker: they import from a slow disk, say
RECONNECT = 60.0  # s for which a scheduler that is gone is looked for
IDLE = 60.0  # s after which the process of a worker ends if no job comes
NANNY = ("MALLOC_TRIM_THRESHOLD_",)  # what Dask sets for its own workers: it costs time wherever arrays come and go
LOOK = 1.0  # s between two looks at which workers there are
FETCH = 60.0  # s in which the files of a run must come
AHEAD = 2  # jobs that a worker is given: one to train, and the next
PACKAGES = {"slurm": ("dask_jobqueue", "slurm"), "kubernetes": ("dask_kubernetes", "kubernetes")}  # of --cluster
ADDRESS = re.compile(r"(?:(?:tcp|tls|ws|wss|ucx)://)?[^\s/]+:\d{1,5}")
HINT = "dask worker {address} --nthreads 1 --nworkers 2"


class RunRemotely(Protocol):
    """Runs a job on a worker."""

    def __call__(self, given: tuple[Job, Path], /) -> tuple[Result, Files]:
        """Return the line of a job and the files of its run; write only to the folder that comes with it."""


SaveFiles = Callable[[Job, Files], object]
_training = threading.Lock()
_beside: ProcessBeside | None = None  # that of this process, a worker


def check_installed(cluster: str | None = None) -> None:
    """Check that Dask is installed, and what starts it on a kind of cluster.

    Raises:
        UsageError: it is not, or there is no such kind.
    """
    if cluster is not None and cluster not in PACKAGES:
        raise UsageError(f"--cluster {cluster}: expected {' or '.join(PACKAGES)}{nearest(cluster, PACKAGES)}")
    package, extra = ("distributed", "dask") if cluster is None else PACKAGES[cluster]
    if find_spec(package) is None:
        option = "--scheduler" if cluster is None else f"--cluster {cluster}"
        raise UsageError(f"{option} needs the package {package.replace('_', '-')}: pip install 'deeptaxi[{extra}]'")


def check_address(address: str) -> None:
    """Check the form of a scheduler's address.

    Raises:
        UsageError: it has another.
    """
    if not ADDRESS.fullmatch(address):
        raise UsageError(f"--scheduler {address}: expected an address such as tcp://host:8786")


class GivenUpError(Exception):
    """Nobody waits for the job any more."""


class WorkerDiedError(Exception):
    """The process that ran a job died over it."""


class ProcessBeside:
    """The process beside a worker that runs the jobs of a sweep. It ends with the worker, or when it has had no job.

    Args:
        token: of the sweep.
        build: called in the process, returns what runs a job.
    """

    def __init__(self, token: str, build: Callable[[], RunRemotely]) -> None:
        self.token = token
        key = secrets.token_bytes(16)
        with Listener(authkey=key) as listener:
            self._worker = start_worker(listener, key, build, NANNY)
        self._idle: threading.Timer | None = None

    def run(self, given: tuple[Job, Path], given_up: Callable[[], bool]) -> tuple[Result, Files]:
        """Run a job.

        Raises:
            GivenUpError: `given_up` returned True.
            WorkerDiedError: the process died.
        """
        if self._idle is not None:
            self._idle.cancel()
        connection = self._worker.connection
        try:
            connection.send(given)
            while not connection.poll(POLL):
                if given_up():
                    self.close()
                    raise GivenUpError
            result: tuple[Result, Files] = connection.recv()
        except (EOFError, OSError):
            self.close()
            raise WorkerDiedError(describe_death(self._worker.process.wait())) from None
        self._idle = threading.Timer(IDLE, self._end_if_idle)
        self._idle.daemon = True
        self._idle.start()
        return result

    def _end_if_idle(self) -> None:
        """End the process unless a job has come meanwhile."""
        if _training.acquire(blocking=False):
            self.close()
            _training.release()

    def close(self) -> None:
        """End the process."""
        global _beside
        if _beside is self:
            _beside = None
        if self._idle is not None:
            self._idle.cancel()
        self._worker.connection.close()
        self._worker.process.kill()
        self._worker.process.wait()


def run_on_worker(token: str, build: Callable[[], RunRemotely], job: Job) -> tuple[Result, Files]:
    """Run a job: the task that Dask runs on a worker.

    Raises:
        GivenUpError: nobody waits for it any more.
        WorkerDiedError: the process that ran it died.
    """
    global _beside
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks[worker.get_current_task()]

    def given_up() -> bool:  # by the client, or by the scheduler because the client is gone
        return bool(task.state in ("cancelled", "resumed", "released", "forgotten"))

    with _training:  # a worker with several threads trains with one
        if _beside is None or _beside.token != token:
            if _beside is not None:
                _beside.close()
            _beside = ProcessBeside(token, build)
        scratch = Path(tempfile.mkdtemp(prefix="deeptaxi-", dir=worker.local_directory))
        try:
            return _beside.run((job, scratch), given_up)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def describe_worker(backend: str) -> dict[str, str]:
    """Return what determines the last bits of what this process trains, by name."""
    return {
        **exactness.versions(backend),
        "processor": processor(),
        "flags": exactness.describe_flags(exactness.flags(backend)),
    }


def differing(own: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """Return what differs between two descriptions, such as ``keras 3.15.1 instead of 3.14.0``."""
    return [
        f"{name} {others.get(name) or 'none'} instead of {value or 'none'}"
        for name, value in own.items()
        if others.get(name) != value
    ]


@contextmanager
def silence() -> Iterator[None]:
    """Hide what Dask logs and warns of: what matters is said in one line of our own."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado.application")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(distributed|dask|tornado)(\..*)?")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def connect(address: str, timeout: float) -> Any:
    """Return a client of the scheduler at an address.

    Raises:
        DeepTaxiError: no scheduler answers there.
    """
    import distributed

    try:
        return distributed.Client(address, timeout=timeout, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        raise DeepTaxiError(
            f"no scheduler answers at {address} (tried for {timeout:g} s: {one_line(error)}): check that "
            "`dask scheduler` runs there, the port, and the firewall between"
        ) from None


@dataclass
class Task:
    """A job that a worker was given."""

    job: Job
    worker: str
    future: Any


class DaskCluster:
    """Runs jobs on the workers of a scheduler; a context manager that ends the connection.

    Args:
        address: of the scheduler.
        build: called on each worker, returns what runs a job; it is pickled.
        save: called with a job and the files of its run, before its line is yielded.
        program_of: tells which jobs share a program.
        warn: called with what the user should know, a line each.
        resume: the command that continues the sweep.
        patient: whether to wait for the first worker as long as it takes, as in a queue.

    Raises:
        UsageError: a worker has another version of deeptaxi.
        DeepTaxiError: the scheduler does not answer, or has no workers.
    """

    def __init__(
        self,
        address: str,
        build: Callable[[], RunRemotely],
        save: SaveFiles,
        program_of: Callable[[Job], Hashable],
        warn: Callable[[str], object],
        resume: str,
        patient: bool = False,
    ) -> None:
        self._address = address
        self._build, self._save, self._program_of, self._warn = build, save, program_of, warn
        self._resume = resume
        self._token = secrets.token_hex(8)
        self._waiting: dict[Hashable, list[Job]] = {}
        self._workers: dict[str, set[Hashable]] = {}  # the programs that each has compiled
        self._refused: dict[str, str] = {}  # why, by worker
        self._tasks: dict[str, Task] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._deaths: Counter[str] = Counter()
        self._said: set[str] = set()
        self._number = 0
        self._checked = False  # whether the first workers were
        self._looked = 0.0
        self._open = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            opening.enter_context(silence())
            self._client = connect(address, CONNECT)
            opening.callback(lambda: self._client.close(timeout=LOOK))
            self._wait_for_workers(patient)
            self._open = opening.pop_all()

    def __enter__(self) -> DaskCluster:
        """Return the executor."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give up what is under way and end the connection."""
        self._give_up()
        self._open.close()

    def _wait_for_workers(self, patient: bool) -> None:
        """Wait for the first worker, and check those that there are.

        Raises:
            UsageError: one has another version of deeptaxi.
            DeepTaxiError: none came.
        """
        deadline = time.monotonic() + WORKERS
        while not self._client.nthreads():
            if time.monotonic() > deadline and not patient:
                raise DeepTaxiError(
                    f"the scheduler at {self._address} has no workers (waited {WORKERS:g} s): "
                    f"start some, `{HINT.format(address=self._address)}`"
                )
            self._say("waiting for the first worker …")
            time.sleep(POLL)
        self._look()
        for refusal in self._refused.values():
            raise UsageError(refusal)

    def run(self, jobs: Iterable[Job], stop: Callable[[], bool]) -> Iterator[Result]:
        """See `worker_pool.Executor.run`."""
        for job in jobs:
            self._waiting.setdefault(self._program_of(job), []).append(job)
        try:
            while (self._tasks or self._left) and not stop():
                if self._client.status != "running":
                    self._find_scheduler(stop)
                    continue
                yield from self._look()
                self._submit()
                with contextlib.suppress(queue.Empty):
                    yield from self._collect(self._ended.get(timeout=POLL))
        finally:
            self._give_up()

    @property
    def _left(self) -> int:
        """The number of jobs that no worker was given."""
        return sum(map(len, self._waiting.values()))

    def _say(self, text: str) -> None:
        """Tell the user, once."""
        if text not in self._said:
            self._said.add(text)
            self._warn(text)

    def _look(self) -> list[Result]:
        """Look now and then which workers there are; return the results of jobs that are not tried again."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return []
        try:
            threads: Mapping[str, int] = self._client.nthreads(callback_timeout=LOOK)
        except (OSError, TimeoutError):  # busy, or gone, which `run` finds
            return []
        self._looked = time.monotonic()
        results = [result for worker in set(self._workers).difference(threads) for result in self._bury(worker)]
        new = set(threads).difference(self._workers, self._refused)
        if new:
            self._check_workers({worker: threads[worker] for worker in sorted(new)})
        if not self._workers and self._left:
            self._say("no workers are connected: waiting for some; Ctrl-C ends the sweep, to be resumed")
        return results

    def _check_workers(self, threads: Mapping[str, int]) -> None:
        """Accept new workers that have the same version of deeptaxi; refuse the others."""
        backend = exactness.chosen_backend()
        own = describe_worker(backend)
        versions = self._client.run(metadata.version, "deeptaxi", workers=list(threads), on_error="return")
        for worker, version in versions.items():
            # An uninstalled checkout has no version either, as `exactness.versions` says.
            if (said := "unknown" if isinstance(version, Exception) else version) != own["deeptaxi"]:
                self._refused[worker] = (
                    f"the worker at {worker} has {'no deeptaxi' if said == 'unknown' else f'deeptaxi {said}'}, "
                    f"and this computer {own['deeptaxi']}: install the same version on both"
                )
        accepted = [worker for worker in versions if worker not in self._refused]
        described = self._client.run(describe_worker, backend, workers=accepted, on_error="return") if accepted else {}
        for worker, found in described.items():
            if not isinstance(found, Mapping):
                self._refused[worker] = f"the worker at {worker} cannot run deeptaxi ({one_line(found)})"
                continue
            if differences := differing(own, found):
                self._say(
                    "the workers train to the same verdict, but not to the same bits as this computer: "
                    + "; ".join(differences)
                )
            if threads[worker] > 1:
                self._say(
                    "a worker trains one job at a time, whatever its number of threads: start several instead, "
                    f"`{HINT.format(address=self._address)}`"
                )
            self._workers[worker] = set()
        for worker in threads:
            if worker in self._refused and self._checked:
                self._say(self._refused[worker])
        self._checked = True

    def _submit(self) -> None:
        """Give each worker a job, and then the next, while there are more than workers."""
        given = Counter(task.worker for task in self._tasks.values())
        for ahead in range(AHEAD):
            for worker, programs in self._workers.items():
                if given[worker] > ahead or self._left <= (len(self._workers) if ahead else 0):
                    continue
                begun = {program for others in self._workers.values() for program in others}
                program = next_program(self._waiting, programs, begun)
                job = self._waiting[program].pop(0)
                programs.add(program)
                given[worker] += 1
                self._number += 1
                key = f"train-{self._token}-{self._number}"
                future = self._client.submit(
                    run_on_worker, self._token, self._build, job, key=key, workers=[worker], pure=False
                )
                self._tasks[key] = Task(job, worker, future)
                future.add_done_callback(lambda ended: self._ended.put(ended.key))

    def _collect(self, key: str) -> Iterator[Result]:
        """Yield the result of a task that has ended, unless its job is given out again."""
        task = self._tasks.pop(key, None)
        if task is None:  # given up before
            return
        status = task.future.status
        try:
            if status == "finished":
                result, files = task.future.result(timeout=FETCH)
            elif status == "error":
                error = task.future.exception(timeout=FETCH)
                if isinstance(error, WorkerDiedError):
                    task.future.release()
                    yield from self._try_again(task.job, f"its worker process {error}")
                    return
                result, files = failed(task.job, one_line(error, 500)), {}
        except OSError:  # its worker is gone, and with it the result
            status = "lost"
        task.future.release()
        if status not in ("finished", "error") or result.get("stopped") == "interrupted":
            self._give_back(task.job)
            return
        self._save(task.job, files)
        yield result

    def _give_back(self, job: Job) -> None:
        """Let a job wait for a worker again, before others."""
        self._waiting.setdefault(self._program_of(job), []).insert(0, job)

    def _bury(self, worker: str) -> list[Result]:
        """Forget a worker that has died; return the result of its job if that is not tried again."""
        del self._workers[worker]
        keys = [key for key, task in self._tasks.items() if task.worker == worker]
        tasks = [self._tasks.pop(key) for key in keys]
        for task in reversed(tasks):
            task.future.cancel()
        for task in reversed(tasks[1:]):
            self._give_back(task.job)
        if not tasks:
            return []
        return self._try_again(tasks[0].job, "its worker died")  # the others were waiting

    def _try_again(self, job: Job, how: str) -> list[Result]:
        """Let a job over which a worker died wait for another; return its result if it is not tried again."""
        self._deaths[job.name] += 1
        if self._deaths[job.name] < TRIES:
            self._give_back(job)
            return []
        return [failed(job, f"{how}, {TRIES} times; there may be too little memory")]

    def _find_scheduler(self, stop: Callable[[], bool]) -> None:
        """Connect again to a scheduler that is gone; what was under way is given out again.

        Raises:
            DeepTaxiError: it does not answer.
        """
        self._say(f"the connection to {self._address} broke: connecting again …")
        self._give_up()
        deadline = time.monotonic() + RECONNECT
        while self._client.status != "running" and not stop():
            if time.monotonic() > deadline:
                raise DeepTaxiError(
                    f"the scheduler at {self._address} is gone (looked for it for {RECONNECT:g} s): "
                    f"start it again, with workers, then `{self._resume}` continues"
                )
            if self._client.status == "closed":  # Dask has given up
                with contextlib.suppress(DeepTaxiError):
                    self._client = connect(self._address, LOOK)
            time.sleep(POLL)
        self._workers.clear()
        self._looked = 0.0

    def _give_up(self) -> None:
        """Cancel what is under way: a worker ends it between two updates."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        if tasks:
            with contextlib.suppress(Exception):  # of a broken connection
                self._client.cancel([task.future for task in tasks])
        for task in reversed(tasks):
            self._give_back(task.job)
