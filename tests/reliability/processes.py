"""Processes: forks of one that has imported Keras, fresh ones, and what is read of them from outside.

A fresh process spends four seconds on imports. A fork of one that has imported Keras and computed nothing spends none,
and trains to the same bits (`determinism` compares the two): TensorFlow starts its threads at the first computation.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[2]
FORK = multiprocessing.get_context("fork")
Item = TypeVar("Item")
Found = TypeVar("Found")


def warm() -> None:
    """Import all that commands import, and compute nothing; from then on forks start at once."""
    from deeptaxi.backend import keras_backend

    keras_backend.start()
    import importlib

    from deeptaxi.cli.main import COMMANDS

    for name in (*(f"cli.{command}_command" for command in COMMANDS), "api.train", "learning.trainer"):
        importlib.import_module(f"deeptaxi.{name}")
    import gymnasium.envs.toy_text  # noqa: F401

    import deeptaxi.display.training  # noqa: F401

    gc.freeze()


def share(function: Callable[[Item], Found], items: Iterable[Item], jobs: int = 2) -> Iterator[Found]:
    """Yield ``function(item)`` of each, in order; `jobs` forks work at a time, and may fork others."""
    with ProcessPoolExecutor(jobs, FORK) as pool:
        yield from pool.map(function, items)


def messages(task: Callable[[Callable[[Any], None]], None], patience: float) -> Iterator[Any]:
    """Yield what a fork sends that runs ``task(send)``, until it ends, dies, or says nothing for `patience` seconds."""
    ours, theirs = FORK.Pipe(duplex=False)
    child = FORK.Process(target=task, args=(theirs.send,))
    child.start()
    theirs.close()
    try:
        while ours.poll(patience):
            yield ours.recv()
    except EOFError:
        pass
    finally:
        child.kill()
        child.join()
        ours.close()


def standard_streams(path: Path) -> None:
    """Let everything that this process prints past Python's streams go to a file."""
    where = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, nothing), (1, where), (2, where)):
        os.dup2(target, number)


def limit_memory(limit: int) -> None:
    """Let allocations of this process fail beyond `limit` bytes of address space."""
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def command(
    words: Sequence[str],
    folder: Path,
    out: Path,
    err: Path,
    around: contextlib.AbstractContextManager[Any] = contextlib.nullcontext(),  # noqa: B008  # it holds nothing
) -> int:
    """Start a command line in a fork, in `folder` and within `around`; return its process number."""
    number = os.fork()
    if number:
        return number
    try:
        os.setsid()
        os.chdir(folder)
        standard_streams(out)
        where = os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(where, 2)
        sys.stdout, sys.stderr = (open(fd, "w", encoding="utf-8", closefd=False) for fd in (1, 2))  # noqa: SIM115
        with around:
            code = run_command(words)
        os._exit(code)
    finally:
        os._exit(99)


def call(task: Callable[[], Any]) -> int:
    """Start a function in a fork; return its process number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        task()
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def run_command(words: Sequence[str]) -> int:
    """Run a command line in this process; return its exit code."""
    from deeptaxi.cli.main import cli

    try:
        cli.main(list(words), prog_name="deeptaxi")
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code if isinstance(code, int) else 0 if code is None else 1


def wait(number: int, seconds: float) -> int | None:
    """Return the exit code of a child (negative: the signal that ended it); None where it takes longer."""
    limit = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > limit:
            return None
        time.sleep(0.001)


def kill(number: int) -> None:
    """Kill a child as a crash does, and those that it started."""
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)


def fresh(
    words: Sequence[str], folder: Path, out: Any = subprocess.PIPE, err: Any = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    """Start ``python -m deeptaxi`` in a process of its own, in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "deeptaxi", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        text=True,
        errors="backslashreplace",
        env=ours(**environment),
    )


def ours(**environment: str) -> dict[str, str]:
    """Return the variables of a process that finds this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **environment}


class Memory(NamedTuple):
    """What a process has in memory, in bytes."""

    own: int  # that it has allocated itself
    resident: int  # with what is mapped from files: half of a training, its libraries


def memory_of(number: int) -> Memory:
    """Return what a process has in memory."""
    status = Path(f"/proc/{number}/status").read_text(encoding="utf-8")
    kib = [(status.partition(f"{name}:")[2].split() or ["0"])[0] for name in ("RssAnon", "VmRSS")]  # none once it ended
    return Memory(*(int(number) * 1024 for number in kib))


def pin() -> None:
    """Keep this process on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
