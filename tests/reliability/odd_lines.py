"""Part `surroundings`: generated command lines with closed descriptors, odd variables, limits, masks and folders.

Each line is typed twice into a folder that is made anew for it, by a fork of a process that has imported Keras: as
usual, and in a surrounding (`surroundings.draw`). What must be so of every answer (`commands.faults`) must be so here,
as far as there are streams to see it on; where the surrounding is harmless, the exit code must be that of the usual
answer, and neither stream may have something to say in one of the two alone. A surrounding that is read at the start
takes a process of its own, which is a tenth of a second for a line that does not start a backend, and four seconds for
others: of these only a few are typed so, and the rest into forks, without what they cannot have. A file that appears
in the home folder, among the temporary files, in the cache or beside them is a failure unless it is deeptaxi's or
Keras' own.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.fuzzing.hostile import SIGN
from tests.reliability import commands, processes, workspace
from tests.reliability.command_lines import Line, generate
from tests.reliability.commands import Answer, faults
from tests.reliability.guard import Guard
from tests.reliability.outcome import Outcome
from tests.reliability.surroundings import Surrounding, draw

HANG = 90.0  # seconds
LIGHT = {"solve": 2, "envs": 1, "presets": 1, "logs": 2, "zoo": 1}  # commands that never start a backend, how often
HEAVY = 0.05  # share of the other lines that are typed into processes of their own
BATCH = 20  # lines of one task
SHORT, LONG = 40, 2000
TEMPORARY = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108  # where temporary files go without a folder of their own
MOVES = re.compile(r"\x1b\[(\?25l|\d*A|2K)")  # of the cursor
LIBRARIES = ("OpenBLAS error: ",)  # what they say without memory, in one line of their own
ALLOWED = (  # where files may appear; the last two are TensorFlow's, which a fork does not clear away
    *("home/.keras", "home/.cache", "home/.config", "cache/", "here/", "temporary/.ses"),
    "temporary/__autograph_generated_file",
)


@dataclass(frozen=True)
class Trial:
    """A line in a surrounding; `fresh` where it is typed into a process of its own."""

    line: Line
    around: Surrounding
    fresh: bool = False


class Sandbox:
    """A folder with all that a line may see: where it is typed, a home, temporary files, a cache."""

    def __init__(self, model: Path, root: Path) -> None:
        self.model, self.root, self.here = model, root, root / "here"

    def restore(self) -> None:
        """Make it anew."""
        if self.root.exists():
            for path in [self.root, *self.root.rglob("*")]:
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o755)
            shutil.rmtree(self.root)
        for name in ("home", "temporary"):
            (self.root / name).mkdir(parents=True)
        workspace.copy(self.model, self.here)

    def variables(self) -> dict[str, str]:
        """Return the variables of a line that is typed here."""
        own = {"HOME": "home", "TMPDIR": "temporary", "DEEPTAXI_CACHE": "cache"}
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
        paths = {name: str(self.root / folder) for name, folder in own.items()}
        return {
            **kept,
            **paths,
            "PYTHONPATH": str(processes.ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def type_line(trial: Trial, sandbox: Sandbox) -> Answer:
    """Type a line into a fork or a process of its own; return its answer, with the code -SIGKILL where it hung."""
    sandbox.restore()
    trial.around.furnish(sandbox.here)
    before = workspace.listing(sandbox.here)
    pipes = [os.pipe(), os.pipe()]
    start = time.perf_counter()
    number = os.fork()
    if not number:
        try:
            be_the_command(trial, sandbox, [writing for _, writing in pipes])
        finally:
            os._exit(99)
    for _, writing in pipes:
        os.close(writing)
    out, err = read_all([reading for reading, _ in pipes], number, start + HANG)
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    seconds = time.perf_counter() - start
    now = workspace.listing(sandbox.here)
    changed = tuple(sorted(path for path in {*now, *before} if now.get(path) != before.get(path)))
    if trial.around.folder == "read-only":  # its permissions were changed, and no file
        changed = tuple(path for path in changed if path not in before or path not in now)
    return Answer(
        code,
        commands.text_of(out) if trial.line.as_json else commands.own(commands.text_of(out)),
        commands.own(commands.text_of(err)),
        "",
        tuple(path for path in changed if "__pycache__" not in path),
        tuple(elsewhere(sandbox)),
        seconds,
    )


def be_the_command(trial: Trial, sandbox: Sandbox, streams: Sequence[int]) -> None:
    """Turn this fork into the command of a line."""
    os.setsid()
    os.chdir(sandbox.here)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in enumerate((nothing, *streams)):
        os.dup2(target, number)
    os.closerange(3, 1024)
    processes.limit_memory(commands.MEMORY)
    environment = sandbox.variables()
    trial.around.enter(environment)
    if trial.fresh:
        words = [sys.executable, "-m", "deeptaxi", *trial.line.words]
        os.execve(sys.executable, words, environment)  # noqa: S606  # this is the process
    kept = os.environ.get("KERAS_BACKEND")
    os.environ.clear()
    os.environ.update(environment)
    if kept is not None:
        os.environ["KERAS_BACKEND"] = kept
    tempfile.tempdir = None
    names = ("stdin", "stdout", "stderr")
    for number, (name, mode) in enumerate(zip(names, "rww", strict=True)):
        closed = number in trial.around.closed
        stream = None if closed else open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  # to the end
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    with Guard(sandbox.root, *map(Path, TEMPORARY)).watching() as outside:
        code = processes.run_command(trial.line.words)
    if outside:
        (sandbox.root / f"outside {' '.join(outside)}".replace("/", "|")[:200]).touch()
    os._exit(code)


def read_all(pipes: Sequence[int], number: int, until: float) -> list[bytes]:
    """Return all that comes from pipes until they are closed; kill the process and its children if they last longer."""
    found = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, until - time.perf_counter()))
            if not ready:
                os.killpg(number, signal.SIGKILL)
                until += HANG
            for key, _ in ready:
                data = os.read(key.fd, 2**16)
                found[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    with contextlib.suppress(ProcessLookupError):
        os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
    return [found[pipe] for pipe in pipes]


def elsewhere(sandbox: Sandbox) -> Iterator[str]:
    """Yield the files that a line has left where it should not."""
    for path in sorted(sandbox.root.rglob("*")):
        name = str(path.relative_to(sandbox.root))
        if not path.is_dir() and not name.startswith(ALLOWED):
            yield name
    if (sandbox.here / SIGN).exists():
        yield f"{SIGN}: a module of the folder was imported"


def wrong(trial: Trial, answer: Answer, usual: Answer) -> list[str]:
    """Return what is wrong with an answer."""
    around = trial.around
    if any(":" in word for word in trial.line.words):  # which names a module of the folder, to be imported
        answer = replace(answer, outside=tuple(path for path in answer.outside if not path.startswith(SIGN)))
    if answer.err.startswith(LIBRARIES) and answer.code == 1 and around.limits:  # which end the process themselves
        return []
    found = faults(trial.line, answer)
    if 2 in around.closed:
        unseen = ("not one line of error", "refused with more than one line")
        found = [fault for fault in found if fault not in unseen or (answer.code == 2 and answer.out)]
    if 1 in around.closed:
        found = [fault for fault in found if fault != "no JSON document"]
    if not around.harmless:
        return found
    if answer.code != usual.code:
        found.append(f"ends with {answer.code}, and as usual with {usual.code}")
    for number, name, ours, theirs in ((1, "output", answer.out, usual.out), (2, "error", answer.err, usual.err)):
        if number not in around.closed and bool(ours.strip()) != bool(theirs.strip()):
            found.append(f"standard {name} {'has' if ours.strip() else 'lost'} something to say")
    if MOVES.search(answer.out + answer.err):
        found.append("a moving picture where there is no terminal")
    return found


def try_line(number: int, line: Line, seed: int, sandbox: Sandbox) -> tuple[Trial, Answer, list[str]]:
    """Type a line as usual and in a surrounding; return what it was, its answer, and what is wrong with it."""
    chance = random.Random(f"around/{seed}/{number}")  # nothing is to be kept secret
    usual = type_line(Trial(line, Surrounding("")), sandbox)
    light = line.words[0] in LIGHT
    fresh = light or usual.code == 2 or chance.random() < HEAVY

    def fits(item: Surrounding) -> bool:
        return (fresh or not item.at_start) and (light or resource.RLIMIT_AS not in item.limits)

    around = draw(chance, fits)
    trial = Trial(line, around, fresh)
    answer = type_line(trial, sandbox)
    return trial, answer, wrong(trial, answer, usual)


def share_of(task: tuple[Sequence[tuple[int, Line]], int, Path, Path]) -> list[tuple[Trial, Answer, list[str]]]:
    """Try a share of the lines."""
    lines, seed, model, root = task
    sandbox = Sandbox(model, root)
    return [try_line(number, line, seed, sandbox) for number, line in lines]


def run(count: int = LONG, seed: int = 0, jobs: int = 2) -> Outcome:
    """Try `count` lines."""
    outcome = Outcome("surroundings")
    codes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="surroundings-") as folder:
        model = commands.made(Path(folder))
        lines = list(enumerate(generate(count, seed, LIGHT)))
        starts = range(0, count, BATCH)
        tasks = [(lines[start : start + BATCH], seed, model, Path(folder) / f"{start}") for start in starts]
        for found in processes.share(share_of, tasks, jobs):
            for trial, answer, failures in found:
                outcome.count([describe(trial, fault, answer) for fault in failures])
                codes[str(answer.code)] += 1
                kinds["processes of their own" if trial.fresh else "forks"] += 1
                kinds["with closed descriptors"] += bool(trial.around.closed)
                kinds["harmless"] += trial.around.harmless
    outcome.figures = {"exit codes": dict(sorted(codes.items())), **dict(sorted(kinds.items()))}
    return outcome


def describe(trial: Trial, fault: str, answer: Answer) -> str:
    """Return a failure with all that is needed to see it again."""
    where = "process" if trial.fresh else "fork"
    line = commands.describe(trial.line, fault, answer)
    return f"[{trial.around.said.encode('unicode_escape').decode()}] ({where}) {line}"
