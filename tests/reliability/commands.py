"""Part `commands`: thousands of generated command lines, each of which must end as the commands promise.

A worker is forked from a process that has imported Keras and computed nothing, and types its share of the lines one
after the other into a folder that is made anew whenever it was changed. Of each line it looks at the exit code, at what
was printed, at what the folder holds afterwards, and at every file that Python opened for writing (an audit hook, which
also forbids what would leave the folder). A worker that dies or hangs has failed by its line; another one goes on.
Lines that are refused at once are typed a second time in processes of their own, which must answer the same.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.reliability import processes, workspace
from tests.reliability.command_lines import Line, generate
from tests.reliability.guard import Guard
from tests.reliability.outcome import Outcome

CODES = {0, 1, 2, 3, 130, 143}
HANG = 60.0  # seconds
PATIENCE = 300.0  # seconds for the folder to be made
MEMORY = 10 * 2**30  # bytes of address space of a worker: what asks for more must be refused in one line
BATCH = 250  # lines of one worker
REAL = 40  # lines typed a second time, for real
SHORT, LONG = 60, 2000


@dataclass(frozen=True)
class Answer:
    """What a line led to."""

    code: int
    out: str
    err: str
    stray: str = ""  # what was written past sys.stdout and sys.stderr
    changed: tuple[str, ...] = ()  # paths in the folder
    outside: tuple[str, ...] = ()  # paths elsewhere that were opened for writing, or would have been
    seconds: float = 0.0
    traceback: str = ""


def faults(line: Line, answer: Answer) -> list[str]:
    """Return what is wrong with an answer, a word or two each."""
    found = []
    errors = answer.err.strip("\n").split("\n")
    if answer.traceback or "Traceback (most" in answer.err:
        found.append(f"traceback: {answer.traceback}")
    if "unexpected " in errors[-1] and errors[-1].startswith("Error: unexpected"):
        found.append("an error that nobody thought of")
    if answer.code not in CODES:
        found.append("exit code")
    if re.search(r"[a-z]Warning: ", answer.err):
        found.append("a warning")
    if answer.stray:
        found.append(f"stray output {answer.stray[:200]!r}")
    if answer.outside:
        found.append(f"written elsewhere: {answer.outside[:3]}")
    refused = answer.code == 2
    messages = [text for text in errors if text.startswith("Error: ")]
    if (
        answer.code in (1, 2)
        and not has_result(answer)
        and (len(messages) != 1 or not errors[-1].startswith("Error: "))
    ):
        found.append("not one line of error")
    if refused and (len(errors) != 1 or answer.out or answer.changed):
        found.append("refused with more than one line" if not answer.changed else "refused, and yet files changed")
    if line.as_json and not document(answer.out, empty=answer.code in (1, 2) or "--help" in line.words):
        found.append("no JSON document")
    return found


def has_result(answer: Answer) -> bool:
    """Whether a failure is reported on standard output: of an export that was not written, or gradients that differ."""
    return answer.code == 1 and bool(answer.out)


def document(text: str, empty: bool) -> bool:
    """Whether a text is one JSON document, without NaN; or nothing, if that is allowed."""

    def never(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=never)
    except ValueError:
        return empty and not text
    return True


class Typist:
    """Types lines into a copy of a folder, in this process."""

    def __init__(self, model: Path, target: Path, guard: Guard) -> None:
        self._model, self._target, self._guard = model, target, guard
        self._sound: dict[str, Any] = {}

    def __call__(self, line: Line) -> Answer:
        """Type one line."""
        from click.testing import CliRunner

        from deeptaxi.cli.main import cli

        self._restore()
        os.chdir(self._target)
        start = time.perf_counter()
        with self._guard.watching() as outside:
            result = CliRunner().invoke(cli, list(line.words))
        seconds = time.perf_counter() - start
        now = workspace.listing(self._target)
        changed = tuple(sorted(path for path in {*now, *self._sound} if now.get(path) != self._sound.get(path)))
        broken = result.exception is not None and not isinstance(result.exception, SystemExit)
        return Answer(
            result.exit_code,
            text_of(result.stdout_bytes) if line.as_json else own(text_of(result.stdout_bytes)),
            own(text_of(result.stderr_bytes)),
            "",
            tuple(path for path in changed if "__pycache__" not in path),
            tuple(outside),
            seconds,
            repr(result.exception) if broken else "",
        )

    def _restore(self) -> None:
        """Make the folder as it was at first, where it is not."""
        if not self._sound or workspace.listing(self._target) != self._sound:
            os.chdir(self._target.parent)
            workspace.copy(self._model, self._target)
            self._sound = workspace.listing(self._target)


def text_of(data: bytes) -> str:
    """Return what was printed, whatever it is."""
    return data.decode("utf-8", "backslashreplace")


def own(text: str) -> str:
    """Return what the command printed, without what an environment of the folder did."""
    return text.replace(f"{workspace.NOISE}\n", "")


def work(lines: Sequence[Line], model: Path, target: Path, send: Any) -> None:
    """Be a worker: type the lines, and send what each led to."""
    temporary, strays = target.parent / "temporary", target.parent / "strays"
    shutil.rmtree(target.parent, ignore_errors=True)
    temporary.mkdir(parents=True)
    processes.standard_streams(strays)
    processes.limit_memory(MEMORY)
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    typist = Typist(model, target, Guard(target, temporary))
    for line in lines:
        answer = asdict(typist(line))
        answer["stray"] = strays.read_text(encoding="utf-8", errors="backslashreplace")
        os.truncate(strays, 0)
        send(answer)


def answers(lines: Sequence[Line], model: Path, target: Path) -> Iterator[tuple[Line, Answer | None]]:
    """Let workers type the lines; yield each with its answer, None where the worker died of it or hung."""
    left = list(lines)
    while left:
        batch, done = left[:BATCH], 0
        for answer in processes.messages(lambda send, now=batch: work(now, model, target, send), HANG):
            yield batch[done], Answer(**answer)
            done += 1
        if done < len(batch):
            yield batch[done], None
            done += 1
        left = left[done:]


def typed_by(task: tuple[Sequence[Line], Path, Path]) -> list[tuple[Line, Answer | None]]:
    """Return all answers to a share of the lines."""
    return list(answers(*task))


def for_real(line: Line, answer: Answer, folder: Path) -> list[str]:
    """Type a line in a process of its own; return what is wrong with what it answers, or differs."""
    with processes.fresh(line.words, folder) as process:
        out, err = process.communicate(timeout=HANG)
    found = faults(line, Answer(process.returncode, out if line.as_json else own(out), own(err)))
    if process.returncode != answer.code:
        found.append(f"another answer in a process of its own: {process.returncode} {err[:200]!r}")
    return found


def run(count: int = LONG, seed: int = 0, jobs: int = 2) -> Outcome:
    """Type `count` lines."""
    outcome = Outcome("commands")
    codes: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        model = made(Path(folder))
        lines = list(generate(count, seed))
        shares = [(lines[job::jobs], model, Path(folder) / f"{job}" / "here") for job in range(jobs)]
        quick = []
        for found in processes.share(typed_by, shares, jobs):
            for line, answer in found:
                wrong = faults(line, answer) if answer else ["died or hung"]
                outcome.count([describe(line, fault, answer) for fault in wrong])
                codes[str(answer.code) if answer else "none"] += 1
                slowest = max(slowest, answer.seconds if answer else HANG)
                quick += [(line, answer)] if answer and answer.code == 2 and "\0" not in "".join(line.words) else []
        again = quick[:: max(1, len(quick) // (REAL if count > SHORT else 4))]
        workspace.copy(model, Path(folder) / "here")
        for line, answer in again:
            outcome.failures += [
                describe(line, fault, answer) for fault in for_real(line, answer, Path(folder) / "here")
            ]
    outcome.figures = {
        "exit codes": dict(sorted(codes.items())),
        "slowest, s": round(slowest, 1),
        "again in a process of its own": len(again),
    }
    return outcome


def made(folder: Path) -> Path:
    """Make the folder that the lines are typed into; in a fork, as it takes trainings."""
    model = folder / "model"
    if processes.wait(processes.call(lambda: workspace.build(model)), PATIENCE):
        raise RuntimeError("the folder for the command lines could not be made")
    return model


def describe(line: Line, fault: str, answer: Answer | None) -> str:
    """Return a failure with all that is needed to see it again."""
    words = " ".join(shlex.quote(word[:60]) for word in line.words).encode("unicode_escape").decode()
    said = (answer.err.strip().splitlines() or [""])[-1][:200] if answer else ""
    return f"line {line.number}: {fault}: deeptaxi {words}: {said}"
