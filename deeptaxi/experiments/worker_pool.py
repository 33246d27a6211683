"""What runs jobs on this machine: this process, one after the other or many at once, or several processes.

A worker is a process, which runs one job at a time. It is a fresh Python, which imports Keras once for all of its jobs;
it does not import the user's main script again. It hears from the pool over a local socket, and ends as soon as the
pool is gone. A job whose worker dies is given to another worker once; a job that kills two workers has failed.

**Affinity.** A program is compiled by each worker that runs it. So a worker is given jobs of a program that it has
compiled, then of one that nobody has, and only then of one that others have.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import IO, Any, Protocol, cast

from deeptaxi.errors import DeepTaxiError, one_line
from deeptaxi.experiments.grid import Job
from deeptaxi.experiments.results import FAILED

Result = dict[str, Any]  # the line of a job
RunJob = Callable[[Job], Result]
TRIES = 2  # workers that may die over a job
POLL = 0.1  # s, between two looks at `stop`
START = 120  # s that a worker may take to call back
TOGETHER = 64  # vectorized jobs at a time: each has its files open
GRACE = 1.0  # s that workers have to end by themselves
# What a worker runs: as `-P` does, it keeps the current folder off the import path until it has that of the pool.
BEGIN = """import pickle, sys
address, key, sys.path[:] = pickle.load(sys.stdin.buffer)
from deeptaxi.experiments.worker_pool import work
work(address, key)"""


class Executor(Protocol):
    """Runs jobs somewhere."""

    def run(self, jobs: Iterable[Job], stop: Callable[[], bool]) -> Iterator[Result]:
        """Run the jobs and yield their results as they end; once `stop` returns True, give up the rest."""


class InProcess:
    """Runs jobs in this process, one after the other.

    Args:
        run_job: what runs one.
    """

    def __init__(self, run_job: RunJob) -> None:
        self.run_job = run_job

    def run(self, jobs: Iterable[Job], stop: Callable[[], bool]) -> Iterator[Result]:
        """See `Executor.run`."""
        for job in jobs:
            if stop():
                return
            yield self.run_job(job)


class VectorizedJobs(InProcess):
    """Runs jobs of one program in this process, many at a time; see `backend.vectorized`."""

    def run(self, jobs: Iterable[Job], stop: Callable[[], bool]) -> Iterator[Result]:
        """See `Executor.run`."""
        from deeptaxi.backend.vectorized import run_together

        left = iter(jobs)
        while (some := list(itertools.islice(left, TOGETHER))) and not stop():
            yield from run_together([partial(self.run_job, job) for job in some])


@dataclass
class Worker:
    """A process, what it is doing, and the programs that it has compiled."""

    process: subprocess.Popen[bytes]
    connection: Connection
    job: Job | None = None
    programs: set[Hashable] = field(default_factory=set)


@dataclass(frozen=True)
class Unable:
    """What a worker answers that cannot run any job, and why."""

    reason: str


class WorkerPool:
    """Runs jobs in processes of this machine.

    Args:
        count: number of workers.
        build: called in each worker, returns what runs a job; it is pickled.
        program_of: tells which jobs share a program.
    """

    def __init__(self, count: int, build: Callable[[], RunJob], program_of: Callable[[Job], Hashable]) -> None:
        self._count = count
        self._build = build
        self._program_of = program_of
        self._workers: list[Worker] = []
        self._waiting: dict[Hashable, list[Job]] = {}
        self._deaths: Counter[str] = Counter()

    def run(self, jobs: Iterable[Job], stop: Callable[[], bool]) -> Iterator[Result]:
        """See `Executor.run`.

        Raises:
            DeepTaxiError: a worker cannot be started, or cannot run any job.
        """
        for job in jobs:
            self._waiting.setdefault(self._program_of(job), []).append(job)
        left = sum(map(len, self._waiting.values()))
        key = secrets.token_bytes(16)
        with Listener(authkey=key, backlog=max(1, self._count)) as listener:
            try:
                while left and not stop():
                    while len(self._workers) < self._count and any(self._waiting.values()) and not stop():
                        self._workers.append(start_worker(listener, key, self._build))
                        self._assign(self._workers[-1])
                    for result in self._collect():
                        left -= 1
                        yield result
            finally:
                self._end()

    def _assign(self, worker: Worker) -> None:
        """Give an idle worker its next job, if there is one."""
        begun = {program for other in self._workers for program in other.programs}

        program = next_program(self._waiting, worker.programs, begun)
        if program is None:
            return
        worker.job = self._waiting[program].pop(0)
        worker.programs.add(program)
        with contextlib.suppress(OSError):  # it has died, which `_collect` finds
            worker.connection.send(worker.job)

    def _collect(self) -> Iterator[Result]:
        """Yield the results that have come, and give their workers new jobs."""
        by_connection = {worker.connection: worker for worker in self._workers if worker.job is not None}
        for connection in wait(list(by_connection), POLL) if by_connection else ():
            worker = by_connection[connection]  # type: ignore[index]
            try:
                result: Result | Unable = worker.connection.recv()
            except (EOFError, OSError):
                failure = self._bury(worker)
                if failure is not None:
                    yield failure
                continue
            if isinstance(result, Unable):
                raise DeepTaxiError(result.reason)
            worker.job = None
            self._assign(worker)
            yield result

    def _bury(self, worker: Worker) -> Result | None:
        """Remove a worker that has died; return the result of its job if it is not tried again."""
        self._workers.remove(worker)
        worker.connection.close()
        code, job = worker.process.wait(), cast(Job, worker.job)
        self._deaths[job.name] += 1
        if self._deaths[job.name] < TRIES:
            self._waiting.setdefault(self._program_of(job), []).insert(0, job)
            return None
        cause = "; there may be too little memory" if code == -getattr(signal, "SIGKILL", 9) else ""
        return failed(job, f"its worker process {describe_death(code)}, {TRIES} times{cause}")

    def _end(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.connection.close()
        deadline = time.monotonic() + GRACE
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers.clear()


def start_worker(listener: Listener, key: bytes, build: Callable[[], Any], without: Collection[str] = ()) -> Worker:
    """Start a process that runs jobs, and wait until it has called back.

    Args:
        listener: where it calls back.
        key: by which it is known.
        build: called in it, returns what runs jobs.
        without: variables of the environment that it is not given.

    Raises:
        DeepTaxiError: it did not call back.
    """
    # In a session of its own: Ctrl-C reaches the pool alone, which decides what becomes of its workers.
    process = subprocess.Popen(  # noqa: S603  # this Python, with a constant program
        [sys.executable, "-P", "-c", BEGIN],
        stdin=subprocess.PIPE,
        stdout=2,
        env={name: text for name, text in os.environ.items() if name not in without},
        start_new_session=os.name == "posix",
    )
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as stdin:
        stdin.write(pickle.dumps((listener.address, key, list(sys.path))))
    accepted: queue.Queue[Connection] = queue.Queue()
    threading.Thread(target=lambda: accepted.put(listener.accept()), daemon=True).start()
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(queue.Empty):
            connection = accepted.get(timeout=POLL)
            connection.send(build)
            return Worker(process, connection)
    process.kill()
    raise DeepTaxiError(
        f"a worker process ended before it began (exit code {process.wait()}): try fewer --workers, or 0 for none"
    )


def describe_death(code: int) -> str:
    """Return how a process ended, from its exit code."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def next_program(
    waiting: Mapping[Hashable, Sequence[Job]], own: Collection[Hashable], begun: Collection[Hashable]
) -> Hashable:
    """Return the program whose jobs a worker is given next: its own, one that nobody has, or the largest.

    Args:
        waiting: the jobs of each program; None is returned if there are none.
        own: the programs that the worker has compiled.
        begun: those that any worker has.
    """

    def preference(program: Hashable) -> tuple[bool, bool, int]:
        return program in own, program not in begun, len(waiting[program])

    return max((program for program, jobs in waiting.items() if jobs), key=preference, default=None)


def failed(job: Job, reason: str) -> Result:
    """Return the result of a job that failed."""
    return {
        "job": job.name,
        "point": job.point,
        "seed": job.seed,
        "varied": dict(job.varied),
        "status": FAILED,
        "reason": reason,
    }


def work(address: Any, key: bytes) -> None:
    """Run jobs for the pool at an address: the main function of a worker."""
    connection = Client(address, authkey=key)
    jobs: queue.Queue[Job] = queue.Queue()
    build = connection.recv()

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                jobs.put(connection.recv())
        os._exit(0)  # the pool is gone: what runs here is of no use to anyone

    threading.Thread(target=listen, daemon=True).start()
    try:
        run_job = build()
    except Exception as error:  # which no other job or worker would be spared
        text = str(error) if isinstance(error, DeepTaxiError) else f"{type(error).__name__}: {error}"
        connection.send(Unable(one_line(text, 500)))
        return
    while True:
        connection.send(run_job(jobs.get()))
