"""Processes that read broken files, and one that watches them.

A process reads one file after the other, each in a folder of its own. It dies if it takes more than its share of
memory, and is killed if a file takes longer than `PATIENCE`: so what hangs is known as that, and named. How much memory
a file took is the peak of what was resident, above what was before.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from tests.fuzzing import hostile, links, readers, seeds

PATIENCE = 30.0  # seconds for one file, on a machine that has other things to do
MEMORY = 2**30  # bytes that a file may take
ROOM = 2**33  # bytes of address space beyond that of a process that has imported all
CASES = 400  # that a process reads before another one takes over: Keras keeps a little of each model
FORK = multiprocessing.get_context("fork")


class Case(NamedTuple):
    """One broken file: its kind and number. The same seed makes the same file again."""

    kind: str
    number: int
    seed: int


class Found(NamedTuple):
    """What became of a case: ``read``, ``refused`` or ``failed``, the command, what it said, seconds and bytes."""

    case: Case
    outcome: str
    command: str
    said: str
    seconds: float
    memory: int


def prepare(case: Case, sound: Path, folder: Path) -> list[str]:
    """Copy the sound files to a folder and break one of them; return what is to be typed."""
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    rng = random.Random(f"{case.seed}/{case.kind}/{case.number}")  # no secrets
    kind = readers.KINDS[case.kind]
    file = rng.choice(kind.files)
    reader = rng.choice(kind.readers)
    if case.kind == "link":
        links.lay(rng, folder, folder / file)
        return reader(file)
    act = rng.choices([act for act, _ in kind.breaks], [often for _, often in kind.breaks])[0]
    (folder / file).write_bytes(act(rng, (folder / file).read_bytes()))
    return reader(file)


def peak() -> int:
    """Return the highest number of bytes that were resident since `forget_peak`."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> int:
    """Begin to measure the peak anew; return what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def named_modules(folder: Path) -> set[str]:
    """Return the modules that the settings of a folder name."""
    texts = [path.read_bytes().decode(errors="replace") for path in folder.rglob("*.toml") if path.is_file()]
    return {name for text in texts for name in re.findall(r'^id = "(.*):', text, re.MULTILINE)}


def read_one(case: Case, sound: Path) -> Found:
    """Read one broken file here."""
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as name:
        folder = Path(name)
        words = prepare(case, sound, folder)
        others = links.state(folder)
        os.chdir(folder)
        modules = set(sys.modules)
        before, begun = forget_peak(), time.perf_counter()
        code, out, err = readers.type_in(words)
        seconds, memory = time.perf_counter() - begun, peak() - before
        found = readers.faults(code, out, err, "--json" in words)
        if code in (0, 3) and (look := readers.KINDS[case.kind].look) is not None:
            found += look(words, out)
        if list(folder.rglob(hostile.SIGN)):
            found.append("it ran code of the file")
        if links.state(folder) != others:
            found.append("it changed what is not its own")
        if imported := named_modules(folder) & (sys.modules.keys() - modules):
            found.append(f"it imported {', '.join(sorted(imported))}")
        if memory > MEMORY:
            found.append(f"it took {memory / 2**20:,.0f} MiB")
        os.chdir("/")
    outcome = "failed" if found else "refused" if code in (1, 2) else "read"
    return Found(case, outcome, " ".join(words), "; ".join(found) or err.strip()[-300:], seconds, memory)


def work(link: Connection, sound: Path) -> None:
    """Read files as they are named, until there are no more."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)  # what compiled libraries say; Python's own streams are looked at
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path.insert(0, "")  # as for whoever types `python -m deeptaxi`
    while (case := link.recv()) is not None:
        link.send(read_one(case, sound))


class Worker:
    """A process that reads files, and what it reads now."""

    def __init__(self, sound: Path) -> None:
        self.link, theirs = FORK.Pipe()
        self.process = FORK.Process(target=work, args=(theirs, sound))
        self.process.start()
        theirs.close()
        self.case: Case | None = None
        self.begun = 0.0
        self.left = CASES

    def give(self, case: Case) -> None:
        """Let it read a file."""
        self.case, self.begun = case, time.monotonic()
        self.left -= 1
        self.link.send(case)

    def take(self) -> Found:
        """Return what became of it; a process that died says nothing."""
        case, self.case = self.case, None
        try:
            return self.link.recv()  # type: ignore[no-any-return]
        except (EOFError, ConnectionError):
            self.process.join()
            self.left = 0
            return Found(case or Case("", 0, 0), "failed", "", f"the process died ({self.process.exitcode})", 0, 0)

    def hangs(self) -> Found | None:
        """Return that it hangs, if it does; then it is ended."""
        if self.case is None or time.monotonic() - self.begun < PATIENCE:
            return None
        case, self.case, self.left = self.case, None, 0
        return Found(case, "failed", "", f"no answer after {PATIENCE:.0f} s", PATIENCE, 0)

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.link.close()


def make_seeds(folder: Path) -> None:
    """Make the sound files in a process of its own."""

    def task() -> None:
        os.chdir(folder)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        seeds.make(folder)

    process = FORK.Process(target=task)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the sound files could not be made")


def supervise(cases: Iterable[Case], sound: Path, jobs: int) -> Iterator[Found]:
    """Yield what became of each case, as they come."""
    waiting = iter(cases)
    workers = [Worker(sound) for _ in range(jobs)]
    try:
        while True:
            for at, worker in enumerate(workers):
                if worker.case is None:
                    if worker.left <= 0:
                        worker.end()
                        workers[at] = worker = Worker(sound)
                    if (case := next(waiting, None)) is not None:
                        worker.give(case)
            busy = [worker for worker in workers if worker.case is not None]
            if not busy:
                return
            ready: list[Any] = wait([worker.link for worker in busy], timeout=1)
            for worker in busy:
                found = worker.take() if worker.link in ready else worker.hangs()
                if found:
                    yield found
    finally:
        for worker in workers:
            worker.end()
