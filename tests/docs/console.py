"""The commands of a page of the documentation, run as they stand there.

A block of ``console`` holds lines that begin with ``$``, each followed by what the command prints. A line of output is
compared with the next line that is printed; ``…`` stands for anything within a line, and by itself for any number of
lines. Where no output is given, any will do, and a training is stopped early: it runs the program that the whole one
would, which other pages have compiled. A block of ``sh`` is a line that sets up an environment and then uses it: of
that, the commands of deeptaxi are run.

A block of Python after a comment ``<!-- file: NAME -->`` is that file, any other is run, with the names of those before
it on the page; what it prints is compared with the block of ``output`` that follows it, if one does. A comment
``<!-- not run: WHY -->`` keeps the next block from being run.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cli.conftest import run

FENCE = re.compile(
    r"(?:<!-- (?P<note>file|not run): (?P<text>.*?) -->\n+)?```(?P<kind>\w+)\n(?P<body>.*?)^```", re.M | re.S
)
FAILS = {"Error:": (1, 2)}  # a command whose output begins so
SEVERE = 3  # the exit code of `diagnose`
SHORT, RESUMED = "1000", "2000"  # the update that a training stops after; its result is for other tests to judge


@dataclass(frozen=True)
class Block:
    """A block of code of a page, and the comment before it."""

    kind: str
    body: str
    file: str | None
    not_run: str | None


@dataclass(frozen=True)
class Command:
    """A command, and the lines that the page shows as its output."""

    line: str
    output: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The words of the command, comments left out."""
        return shlex.split(self.line, comments=True)


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of code of a page."""
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        note, text = match["note"], match["text"]
        yield Block(match["kind"], match["body"], text if note == "file" else None, text if note == "not run" else None)


def commands(body: str) -> Iterator[Command]:
    """Yield the commands of a block with their output."""
    for part in re.split(r"^\$ ", body.replace("\\\n", " "), flags=re.M)[1:]:
        line, *output = part.rstrip("\n").split("\n")
        yield Command(line, tuple(output))


def execute(block: Block, names: dict[str, Any] | None = None, printed: str | None = None) -> str | None:
    """Run a block in the current folder; return what it printed, if it is Python.

    Args:
        block: of the page.
        names: what the Python of the page has defined so far.
        printed: what the Python before this block printed; None where the block before is something else.

    Raises:
        AssertionError: a command fails, or prints something else.
    """
    if block.not_run is not None:
        return None
    if block.kind == "python" and block.file:
        Path(block.file).write_text(block.body, encoding="utf-8")
    elif block.kind == "python":
        with contextlib.redirect_stdout(io.StringIO()) as found:
            exec(block.body, {} if names is None else names)  # noqa: S102  # it is our own page
        return found.getvalue()
    elif block.kind == "console":
        for command in commands(block.body):
            check(command)
    elif block.kind == "sh":
        for part in block.body.strip().split(" && "):
            if part.startswith("deeptaxi "):
                check(Command(part, ()))
    elif block.kind == "output":
        assert printed is not None, f"output of what?\n{block.body}"
        assert matches(tuple(block.body.rstrip().split("\n")), printed), printed
    return None


def words_of(command: Command) -> list[str]:
    """Return the words to type: a training whose result the page does not show is cut short."""
    words = command.words
    many = words[:2] == ["deeptaxi", "sweep"] or "--seeds" in words
    if command.output or not (many or words[:2] == ["deeptaxi", "train"]):
        return words
    if many:  # in this process, which has compiled much already
        return [
            *words,
            *([] if "--updates" in words else ["--updates", "30"]),
            *(["--workers", "0"] if words[1] == "sweep" else []),
        ]
    if "--resume" in words:
        return [*words, "--stop-after", RESUMED]
    return words if "--updates" in words else [*words, "--stop-after", SHORT]


def check(command: Command) -> None:
    """Run one command, and compare what it prints with what the page shows."""
    program, *words = words_of(command)
    if program == "python":
        runpy.run_path(words[0], run_name="__main__")
        return
    assert program == "deeptaxi", f"{command.line}: a page may run deeptaxi and python, or say why a block is not run"
    result = run(*words)
    expected = next(
        (codes for start, codes in FAILS.items() if command.output[:1] and command.output[0].startswith(start)), (0,)
    )
    assert result.exit_code in (*expected, *((SEVERE,) if words[0] == "diagnose" else ())), result.output
    if command.output:
        # What a terminal shows between the lines of the result, such as the progress of a training, may be left out.
        shown = matches(command.output, result.stdout) or matches(command.output, result.output)
        assert shown, f"$ {command.line}\n{result.output}"


def matches(expected: tuple[str, ...], printed: str) -> bool:
    """Whether `printed` is what a page shows; spaces at the ends of lines, and empty lines at the end, do not count."""
    return aligned([line.rstrip() for line in expected], [line.rstrip() for line in printed.rstrip().split("\n")])


def aligned(expected: list[str], lines: list[str]) -> bool:
    """Whether each line fits the expected one; ``…`` is any number of them."""
    if not expected:
        return not lines
    first, *rest = expected
    if first.strip() == "…":
        return any(aligned(rest, lines[count:]) for count in range(len(lines) + 1))
    pattern = re.escape(first).replace("…", ".*")
    return bool(lines) and re.fullmatch(pattern, lines[0]) is not None and aligned(rest, lines[1:])
