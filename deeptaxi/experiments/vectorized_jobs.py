"""Run jobs of one program together, in this process; see `backend.vectorized`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from deeptaxi.experiments.grid import Job
from deeptaxi.experiments.worker_pool import InProcess, Result

TOGETHER = 64  # jobs at a time: each has its files open


class VectorizedJobs(InProcess):
    """Runs jobs in this process, many at a time as one vectorized program."""

    def run(self, jobs: Iterable[Job], stop: Callable[[], bool]) -> Iterator[Result]:
        """See `Executor.run`."""
        from deeptaxi.backend.vectorized import run_together

        left = iter(jobs)
        while (some := list(itertools.islice(left, TOGETHER))) and not stop():
            yield from run_together([partial(self.run_job, job) for job in some])
