"""Part `full-disk`: trainings on a small file system that is filled at a random moment of them.

A trial is one training, in a fork. At some point nothing more can be written: its file system, a tmpfs of its own, has
no bytes or no inodes left (that takes a process that may mount one), or a quota is reached (`failing_disk`: EDQUOT from
one write on). Afterwards

    the command has ended by itself, with its result, or with one line;
    the newest checkpoint of before is there, or a newer one, or the model;
    the model is that of the undisturbed training, and its JSON says what of its log is missing;
    once there is room, `--resume` goes on, and ends with the same model.
"""

from __future__ import annotations

import contextlib
import errno
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deeptaxi.io.atomic import ASIDE, SPARE
from tests.reliability import processes
from tests.reliability.failing_disk import Disk, failing
from tests.reliability.outcome import Outcome
from tests.reliability.victims import (
    EVERY,
    LOG,
    PATIENCE,
    POLL,
    RESUME,
    RUN,
    Undisturbed,
    beginning,
    claimed,
    undisturbed,
)

SHORT, LONG = 6, 500  # trials
NAMES = ("compiled, Q table", "compiled, dueling", "gymnasium")
KINDS = ("bytes", "inodes", "quota")
SIZE, INODES = 40 * 2**20, 400
OPERATIONS = 600  # of a training, some: a quota is reached at one of them


@dataclass
class Trial:
    """One training on a disk that fills up, and what became of it."""

    training: str
    kind: str
    seed: int
    said: str = ""  # what the training came to
    failures: list[str] = field(default_factory=list)


@contextlib.contextmanager
def small(folder: Path) -> Iterator[Path]:
    """Yield a small file system, mounted in a new folder."""
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={INODES}", "tmpfs", str(folder)]
    subprocess.run(words, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)  # noqa: S607


def may_mount() -> bool:
    """Whether this process may mount a small file system."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        try:
            with small(Path(name) / "disk"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def fill(folder: Path, kind: str, spared: int) -> None:
    """Leave a disk no bytes, but `spared` ones, or no inodes."""
    filling = folder / "filling"
    filling.mkdir()
    with contextlib.suppress(OSError):
        if kind == "inodes":
            for number in range(10 * INODES):
                (filling / str(number)).touch()
        with (filling / "bytes").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    if kind == "bytes":
        with (filling / "bytes").open("rb+") as file:
            file.truncate(max(0, (filling / "bytes").stat().st_size - spared))


def empty(folder: Path) -> None:
    """Make room again."""
    shutil.rmtree(folder / "filling", ignore_errors=True)


def newest(folder: Path) -> int:
    """Return the number of the newest checkpoint; 0 where there is none."""
    return max((int(path.stem) for path in (folder / RUN / "checkpoints").glob("[0-9]*.npz")), default=0)


def attempt(task: tuple[Trial, Undisturbed, Path]) -> Trial:
    """Make one trial."""
    trial, whole, folder = task
    chance = random.Random(f"{trial.training}/{trial.kind}/{trial.seed}")
    aside = folder / "aside"
    aside.mkdir(parents=True)
    with contextlib.ExitStack() as undoing:
        if trial.kind == "quota":
            target = folder / "disk"
            target.mkdir()
        else:
            target = undoing.enter_context(small(folder / "disk"))
        trial.failures = [
            f"{trial.training}, {trial.kind}, seed {trial.seed}: {fault}"
            for fault in tried(trial, whole, target, aside, chance)
        ]
    return trial


def tried(trial: Trial, whole: Undisturbed, target: Path, aside: Path, chance: random.Random) -> Iterator[str]:
    """Train, fill the disk, look; make room, go on, look again; yield what is wrong."""
    number, stood = filled(trial, whole, target, aside, chance)
    code, said = processes.wait(number, PATIENCE), read(aside / "err")
    if code is None:
        processes.kill(number)
        yield "it hangs"
        return
    kept = (target / RUN / "card.json").exists()
    trial.said = "kept" if kept else "ended with its checkpoints" if newest(target) else "refused before it began"
    if newest(target) < stood and not kept:
        yield f"checkpoint {stood} is gone: {said}"
    if code == 0:
        summary = json.loads(read(aside / "out"))
        trial.said += ", with its log" if summary["log_unavailable"] is None else ", its log is not whole"
        if summary["weights_digest"] != whole.digest or not kept:
            yield f"digest {summary['weights_digest'][:12]}, undisturbed {whole.digest[:12]}; kept: {kept}"
        if summary["log_unavailable"] is None and '"finished"' not in read(target / LOG):
            yield "its log is not whole, and nothing says so"
    elif code != 1 or "Error: " not in said or "unexpected" in said:
        yield f"exit code {code}: {said[-300:]}"
    empty(target)
    yield from resumed(trial, whole, target, aside)


def filled(trial: Trial, whole: Undisturbed, target: Path, aside: Path, chance: random.Random) -> tuple[int, int]:
    """Begin a training and fill its disk; return its process and the number of its newest checkpoint then."""
    words = [*beginning(trial.training), EVERY[0], str(chance.choice([0.05, 0.3, 60]))]  # so seldom: only the first
    if trial.kind == "quota":
        disk = Disk(target, chance.randint(40, OPERATIONS), errno.EDQUOT, "short")
        return processes.command(words, target, aside / "out", aside / "err", failing(disk)), 0
    number = processes.command(words, target, aside / "out", aside / "err")
    limit = time.monotonic() + PATIENCE
    while not claimed(target) and time.monotonic() < limit:
        time.sleep(POLL)
    time.sleep(chance.uniform(0, 0.9) * whole.seconds)
    fill(target, trial.kind, chance.choice([0, 0, 4096, 40_000]))
    return number, newest(target)


def resumed(trial: Trial, whole: Undisturbed, target: Path, aside: Path) -> Iterator[str]:
    """Go on where there is room, and yield what is wrong with what that comes to."""
    kept = (target / RUN / "card.json").exists()
    words = RESUME if newest(target) else (*beginning(trial.training), "--force")
    code = processes.wait(processes.command(words, target, aside / "out", aside / "err"), PATIENCE)
    said = read(aside / "err")
    if code != 0 and not (code == 2 and kept and "has made all its" in said):
        yield f"with room it does not go on, exit code {code}: {said[-300:]}"
        return
    digest = json.loads(read(target / RUN / "card.json"))["weights_digest"]
    if digest != whole.digest:
        yield f"with room it ends with {digest[:12]}, undisturbed {whole.digest[:12]}"
    left = [path.name for path in (target / RUN).iterdir() if path.name.startswith((ASIDE, SPARE))]
    if left:
        yield f"left behind: {left}"


def read(path: Path) -> str:
    """Return a text."""
    return path.read_text(encoding="utf-8", errors="replace").strip()


def run(trials: int = LONG, seed: int = 0, jobs: int = 2) -> Outcome:
    """Fill disks `trials` times."""
    outcome, kinds = Outcome("full-disk"), KINDS if may_mount() else KINDS[2:]
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        wholes = dict(zip(NAMES, processes.share(undisturbed, NAMES, jobs), strict=True))
        tasks = []
        for number in range(trials):
            training = chance.choice(NAMES)
            trial = Trial(training, kinds[number % len(kinds)], seed * 10_000 + number)
            tasks.append((trial, wholes[training], Path(name) / str(number)))
        done = list(processes.share(attempt, tasks, jobs))
    for trial in done:
        outcome.count(trial.failures)
    outcome.figures = {
        "filled": dict(Counter(trial.kind for trial in done).most_common()),
        "trainings": dict(Counter(trial.training for trial in done).most_common()),
        "came to": dict(Counter(trial.said for trial in done).most_common()),
    }
    return outcome
