"""Jobs on Dask's workers. What runs them here is plain Python; trainings are in `tests.api.test_remote_jobs`."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.experiments import dask_cluster
from deeptaxi.experiments.dask_cluster import DaskCluster, check_address, check_installed, differing
from deeptaxi.experiments.grid import Job
from tests.dask_processes import DaskProcesses

BUILT: list[int] = []  # on a worker: how often it was asked for what runs jobs


def build(seconds: float = 0.0) -> Any:
    BUILT.append(0)
    return partial(run, seconds)


def run(seconds: float, given: tuple[Job, Path]) -> tuple[dict[str, Any], dict[str, bytes]]:
    job, scratch = given
    (scratch / "file").write_text(job.name, encoding="utf-8")
    if job.values.get("kills"):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.values.get("raises"):
        raise ValueError("no such thing")
    if "note" in job.values:
        (Path(job.values["note"]) / str(os.getpid())).touch()
    time.sleep(seconds)
    line = {
        "job": job.name,
        "status": "done",
        "seed": job.seed,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "built": len(BUILT),
    }
    return line, {"run/file": (scratch / "file").read_bytes()}


def jobs_of(count: int, **values: Any) -> list[Job]:
    return [Job(f"seed-{seed}", "", seed, values, {}) for seed in range(count)]


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    processes = DaskProcesses(tmp_path_factory.mktemp("dask"), 2)
    processes.start()
    yield processes
    processes.stop()


class Opened:
    """An executor, with what it saved and said."""

    def __init__(self, address: str, seconds: float = 0.0, program_of: Any = lambda job: 0) -> None:
        self.saved: dict[str, dict[str, bytes]] = {}
        self.said: list[str] = []

        def save(job: Job, files: Any) -> None:
            self.saved[job.name] = files

        resume = "deeptaxi sweep --resume here"
        self.executor = DaskCluster(address, partial(build, seconds), save, program_of, self.said.append, resume)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.__exit__()


def test_each_job_comes_once_with_its_files_and_each_worker_builds_once(dask: DaskProcesses) -> None:
    with Opened(dask.address, 0.02) as opened:
        lines = list(opened.executor.run(jobs_of(12), never))
    assert sorted(line["seed"] for line in lines) == list(range(12))
    assert opened.saved == {f"seed-{seed}": {"run/file": f"seed-{seed}".encode()} for seed in range(12)}
    assert len({line["pid"] for line in lines}) == 2
    assert {line["built"] for line in lines} == {1}
    assert opened.said == []
    assert not list(dask.folder.rglob("deeptaxi-*")), "scratch folders are removed"


def test_a_worker_gets_jobs_of_the_program_that_it_has_compiled(dask: DaskProcesses) -> None:
    with Opened(dask.address, 0.02, program_of=lambda job: job.seed % 2) as opened:
        lines = list(opened.executor.run(jobs_of(12), never))
    assert len(lines) == 12
    for pid in {line["pid"] for line in lines}:
        programs = [line["seed"] % 2 for line in lines if line["pid"] == pid]
        assert sum(one != other for one, other in pairwise(programs)) <= 1  # to what another one has left


def test_a_job_that_ends_its_process_has_failed_and_others_go_on(dask: DaskProcesses) -> None:
    jobs = [*jobs_of(2), Job("bad", "", 9, {"raises": True}, {})]
    with Opened(dask.address) as opened:
        lines = {line["job"]: line for line in opened.executor.run(jobs, never)}
    assert lines["bad"]["status"] == "failed"
    assert lines["bad"]["reason"].startswith("its worker process ended with exit code 1, 2 times")
    assert {line["status"] for name, line in lines.items() if name != "bad"} == {"done"}


def test_stopping_ends_what_workers_do_and_leaves_the_rest(dask: DaskProcesses, tmp_path: Path) -> None:
    began = time.monotonic()
    with Opened(dask.address, 60) as opened:
        lines = list(opened.executor.run(jobs_of(4, note=str(tmp_path)), lambda: len(list(tmp_path.iterdir())) > 1))
    assert lines == []
    assert time.monotonic() < began + 30
    begun = [int(path.name) for path in tmp_path.iterdir()]
    assert len(begun) == 2
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, begun)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["pid", "parent"])
def test_the_job_of_a_killed_worker_is_done_by_another(dask: DaskProcesses, whom: str) -> None:
    with Opened(dask.address, 0.3) as opened:
        lines = []
        for line in opened.executor.run(jobs_of(8), never):
            if not lines:
                os.kill(line[whom], signal.SIGKILL)
            lines.append(line)
    assert sorted(line["seed"] for line in lines) == list(range(8))
    assert {line["status"] for line in lines} == {"done"}
    dask.wait_for(2)


@pytest.mark.slow
def test_a_job_that_kills_two_workers_has_failed(dask: DaskProcesses) -> None:
    jobs = [Job("deadly", "", 9, {"kills": True}, {}), *jobs_of(3)]
    with Opened(dask.address, 0.1) as opened:
        lines = {line["job"]: line for line in opened.executor.run(jobs, never)}
    assert (
        lines["deadly"]["reason"] == "its worker process was killed by SIGKILL, 2 times; there may be too little memory"
    )
    assert {line["status"] for name, line in lines.items() if name != "deadly"} == {"done"}
    dask.wait_for(2)


@pytest.mark.slow
def test_a_scheduler_that_hangs_for_a_while_costs_nothing_but_time(dask: DaskProcesses) -> None:
    with Opened(dask.address, 0.2) as opened:
        lines = []
        for line in opened.executor.run(jobs_of(8), never):
            if not lines:
                os.kill(dask.scheduler.pid, signal.SIGSTOP)
                threading.Timer(4, os.kill, (dask.scheduler.pid, signal.SIGCONT)).start()
            lines.append(line)
    assert sorted(line["seed"] for line in lines) == list(range(8))
    assert opened.said == []


@pytest.mark.slow
def test_a_scheduler_that_is_started_again_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "CONNECT", 3.0)
    processes = DaskProcesses(tmp_path, 2)
    processes.start()

    def restart() -> None:
        time.sleep(2)
        processes.start()

    restarting = threading.Thread(target=restart)
    try:
        with Opened(processes.address, 0.2) as opened:
            lines = []
            for line in opened.executor.run(jobs_of(8), never):
                if not lines:
                    processes.stop()
                    restarting.start()
                lines.append(line)
        restarting.join()
    finally:
        processes.stop()
    assert sorted(line["seed"] for line in lines) == list(range(8))
    assert opened.said[0] == f"the connection to {processes.address} broke: connecting again …"


@pytest.mark.slow
def test_a_scheduler_that_stays_away_ends_the_sweep_with_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "RECONNECT", 1.0)
    monkeypatch.setattr(dask_cluster, "CONNECT", 3.0)
    processes = DaskProcesses(tmp_path, 1)
    processes.start()
    said = r"is gone \(looked for it for 1 s\): start it again, with workers, then `deeptaxi sweep --resume here`"
    try:
        with Opened(processes.address, 0.1) as opened:
            results = opened.executor.run(jobs_of(8), never)
            next(results)
            processes.stop()
            with pytest.raises(DeepTaxiError, match=said):
                list(results)
    finally:
        processes.stop()


def test_a_scheduler_without_workers_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "WORKERS", 0.5)
    processes = DaskProcesses(tmp_path, 0)
    processes.start()
    with processes.client():  # it answers
        pass
    try:
        said = rf"{processes.address} has no workers \(waited 0\.5 s\): start some, `dask worker {processes.address} "
        with pytest.raises(DeepTaxiError, match=said):
            Opened(processes.address)
    finally:
        processes.stop()


def test_no_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "CONNECT", 0.5)
    with pytest.raises(DeepTaxiError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9 \(tried for 0\.5 s: "):
        Opened("tcp://127.0.0.1:9")


@pytest.mark.slow
def test_a_worker_with_another_version_is_refused_and_one_with_threads_is_told(
    dask: DaskProcesses, tmp_path: Path
) -> None:
    about = tmp_path / "deeptaxi-99.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: deeptaxi\nVersion: 99.9\n", encoding="utf-8")
    path = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    other = dask.add_workers(1, threads=2, PYTHONPATH=path)
    try:
        said = r"the worker at tcp://\S+ has deeptaxi 99\.9, and this computer .*: install the same version on both"
        with pytest.raises(UsageError, match=said):
            Opened(dask.address)
    finally:
        dask.kill(other)
        dask.wait_for(2)
    other = dask.add_workers(1, threads=2)
    try:
        with Opened(dask.address) as opened:
            assert len(list(opened.executor.run(jobs_of(3), never))) == 3
        assert len(opened.said) == 1
        assert re.match("a worker trains one job at a time, whatever its number of threads", opened.said[0])
    finally:
        dask.kill(other)
        dask.wait_for(2)


def test_what_differs_is_named() -> None:
    own = {"deeptaxi": "1", "processor": "A", "flags": ""}
    assert differing(own, own) == []
    assert differing(own, {**own, "processor": "B", "flags": "-x"}) == [
        "processor B instead of A",
        "flags -x instead of none",
    ]


@pytest.mark.parametrize("address", ["tcp://host:8786", "host:8786", "tls://10.0.0.1:1", "tcp://[::1]:8786"])
def test_addresses(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["", "host", "tcp://host", "foo://host:1", "tcp://host:port", "tcp://host:1/x"])
def test_no_addresses(address: str) -> None:
    with pytest.raises(UsageError, match="expected an address such as tcp://host:8786"):
        check_address(address)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "find_spec", lambda name: None)
    for cluster, extra in ((None, "dask"), ("slurm", "slurm"), ("kubernetes", "kubernetes")):
        with pytest.raises(UsageError, match=rf"pip install 'deeptaxi\[{extra}\]'"):
            check_installed(cluster)
    with pytest.raises(UsageError, match="expected slurm or kubernetes; did you mean 'slurm'"):
        check_installed("slrum")
