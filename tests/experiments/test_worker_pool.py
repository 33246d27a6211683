"""A pool of worker processes: who gets which job, and what a dead worker costs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict

import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.experiments.grid import Grid
from deeptaxi.experiments.worker_pool import InProcess, WorkerPool
from tests.experiments.pool_jobs import build, build_nothing, echo

LAKE = {"environment": {"id": "FrozenLake-v1"}}


def never():
    return False


def jobs_of(**grid):
    return list(Grid(**{"seeds": (0,), "settings": LAKE, **grid}).jobs())


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_jobs_run_one_after_the_other_in_this_process_until_they_are_to_stop():
    asked = iter((False, False, True))
    results = InProcess(echo).run(jobs_of(seeds=(0, 1, 2)), lambda: next(asked))
    assert [result["job"] for result in results] == ["seed-0", "seed-1"]


def test_each_job_is_run_once_and_a_worker_stays_with_its_programs():
    jobs = jobs_of(seeds=tuple(range(8)), axes={"hidden": ([1], [2])})
    results = list(WorkerPool(2, build, lambda job: job.point).run(jobs, never))
    assert sorted(result["job"] for result in results) == sorted(job.name for job in jobs)
    workers = defaultdict(set)
    for result in results:
        workers[result["job"].partition("/")[0]].add(result["pid"])
    assert len({pid for pids in workers.values() for pid in pids}) == 2
    first = {next(r["pid"] for r in results if r["job"].startswith(point)) for point in workers}
    assert len(first) == 2  # each program was begun by another worker
    assert not any(is_alive(result["pid"]) for result in results)


def test_a_job_that_kills_its_worker_is_tried_again_once_and_the_others_are_run(tmp_path):
    deadly = jobs_of(settings={**LAKE, "updates": 7}, seeds=(100,))
    unlucky = jobs_of(settings={**LAKE, "updates": 8, "network": {"builder": str(tmp_path / "died")}}, seeds=(101,))
    good = jobs_of(settings={**LAKE, "updates": 1}, seeds=tuple(range(4)))
    results = {r["job"]: r for r in WorkerPool(2, build, lambda _job: 0).run([*deadly, *unlucky, *good], never)}
    assert len(results) == 6
    assert results["seed-100"]["status"] == "failed"
    assert "was killed by SIGKILL, 2 times" in results["seed-100"]["reason"]
    assert {name for name, result in results.items() if result["status"] == "done"} == set(results) - {"seed-100"}


def test_it_ends_at_once_when_it_is_to_stop_and_leaves_no_process():
    quick, slow = jobs_of(settings={**LAKE, "updates": 1}), jobs_of(settings={**LAKE, "updates": 9}, seeds=(1,))
    stop = threading.Event()
    seen = []
    began = time.monotonic()
    for result in WorkerPool(1, build, lambda _job: 0).run([*quick, *slow], stop.is_set):
        seen.append(result)
        began = time.monotonic()
        stop.set()
    assert [result["job"] for result in seen] == ["seed-0"]
    assert time.monotonic() - began < 10
    assert not is_alive(seen[0]["pid"])


def test_a_worker_ends_with_its_pool():
    pool = WorkerPool(1, build, lambda _job: 0)
    results = pool.run(jobs_of(settings={**LAKE, "updates": 1}, seeds=(0, 1)), never)
    pid = next(results)["pid"]
    results.close()
    assert not is_alive(pid)


def test_a_worker_that_does_not_begin_is_said(monkeypatch):
    monkeypatch.setattr("deeptaxi.experiments.worker_pool.BEGIN", "import sys; sys.exit(5)")
    with pytest.raises(DeepTaxiError, match=r"ended before it began \(exit code 5\)"):
        list(WorkerPool(1, build, lambda _job: 0).run(jobs_of(), never))


def test_what_no_worker_can_do_is_said_once():
    with pytest.raises(DeepTaxiError, match=r"^there is no backend$"):
        list(WorkerPool(1, build_nothing, lambda _job: 0).run(jobs_of(seeds=(0, 1)), never))


def test_a_signal_reaches_the_pool_alone():
    pool = WorkerPool(1, build, lambda _job: 0)
    results = pool.run(jobs_of(settings={**LAKE, "updates": 1}, seeds=(0, 1)), never)
    pid = next(results)["pid"]
    assert os.getpgid(pid) != os.getpgid(0)
    os.kill(pid, signal.SIGKILL)  # between two jobs
    assert next(results)["job"] == "seed-1"
    results.close()
