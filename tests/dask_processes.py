"""A Dask scheduler and workers as processes of this machine, for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from distributed import Client

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class DaskProcesses:
    """A scheduler and its workers, as `dask scheduler` and `dask worker` start them."""

    def __init__(self, folder: Path, workers: int, **environment: str) -> None:
        self.folder, self.workers, self.environment = folder, workers, environment
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.scheduler = self.spawn("scheduler", "--port", self.address.rpartition(":")[2], "--host", "127.0.0.1")
        if self.workers:
            self.add_workers(self.workers)

    def add_workers(self, count: int, threads: int = 1, **environment: str) -> subprocess.Popen[bytes]:
        before = len(self.pids()) if self.processes else 0
        words = ("--nthreads", str(threads), "--nworkers", str(count), "--local-directory", str(self.folder))
        started = self.spawn("worker", self.address, *words, **environment)
        self.wait_for(before + count)
        return started

    def spawn(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        surroundings = {**os.environ, "PYTHONPATH": path, **self.environment, **environment}
        log = (self.folder / f"{words[0]}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *words, "--no-dashboard"],
                stdout=log,
                stderr=log,
                env=surroundings,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        with Client(self.address, timeout=30, set_as_default=False) as client:
            yield client

    def pids(self) -> list[int]:
        with self.client() as client:
            return list(client.run(os.getpid).values())

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        with self.client() as client:
            while len(client.nthreads()) != count:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process and those that it has started, and wait until they are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.processes.remove(process)

    def stop(self) -> None:
        for process in self.processes.copy():
            self.kill(process)
