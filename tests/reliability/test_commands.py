"""Generated command lines: how they are made and judged, and a few of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click
import pytest

from tests.reliability import workspace
from tests.reliability.command_lines import LEFT_OUT, Line, commands, generate
from tests.reliability.commands import Answer, Typist, describe, faults
from tests.reliability.guard import Guard

QUICK = {"solve", "envs", "presets", "zoo", "logs", "evaluate", "watch", "diagnose", "explain"}
LINE = Line(0, ("evaluate", "run"), as_json=False)
JSON = Line(0, ("evaluate", "run", "--json"), as_json=True)


def test_every_option_of_every_command_is_generated() -> None:
    typed = {word.partition("=")[0] for line in generate(12_000, 0) for word in line.words}
    for name, command in commands().items():
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in LEFT_OUT:
                assert typed & {*option.opts, *option.secondary_opts}, f"{name} {option.name}"


def test_the_same_seed_makes_the_same_lines() -> None:
    assert list(generate(50, 3)) == list(generate(50, 3)) != list(generate(50, 4))


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (LINE, Answer(0, "fine\n", "a note\n")),
        (LINE, Answer(2, "", "Error: no such thing\n")),
        (LINE, Answer(1, "", "Preset: taxi\nError: it failed\n")),
        (JSON, Answer(0, '{"a": null}\n', "")),
        (JSON, Answer(1, "", "Error: it failed\n")),
    ],
)
def test_a_correct_answer_has_no_fault(line: Line, answer: Answer) -> None:
    assert faults(line, answer) == []


@pytest.mark.parametrize(
    ("line", "answer", "fault"),
    [
        (LINE, Answer(0, "", "", traceback="ValueError()"), "traceback"),
        (LINE, Answer(1, "", "Error: unexpected ValueError: x\n"), "nobody thought of"),
        (LINE, Answer(7, "", ""), "exit code"),
        (LINE, Answer(0, "fine\n", "x.py:1: RuntimeWarning: overflow\n"), "warning"),
        (LINE, Answer(0, "fine\n", "", stray="from C"), "stray"),
        (LINE, Answer(0, "fine\n", "", outside=("open /etc/x",)), "elsewhere"),
        (LINE, Answer(2, "", "Error: one\nError: two\n"), "not one line"),
        (LINE, Answer(1, "", ""), "not one line"),
        (LINE, Answer(2, "half", "Error: one\n"), "more than one line"),
        (LINE, Answer(2, "", "Error: one\n", changed=("new",)), "files changed"),
        (JSON, Answer(0, "", ""), "no JSON"),
        (JSON, Answer(0, '{"a": NaN}', ""), "no JSON"),
        (JSON, Answer(1, '{"a": 1}\n{}', "Error: it failed\n"), "no JSON"),
    ],
)
def test_every_fault_is_noticed(line: Line, answer: Answer, fault: str) -> None:
    assert fault in " ".join(faults(line, answer))


def test_the_guard_forbids_what_is_outside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    guard = Guard(inside)
    with guard.watching() as seen:
        (inside / "a").write_text("a")
        with pytest.raises(PermissionError):
            outside.write_text("b")
        with pytest.raises(PermissionError):
            (inside / "a").rename(outside)
    assert [event.partition(" ")[0] for event in seen] == ["open", "os.rename"]
    outside.write_text("it looks away now")


@pytest.fixture(scope="module")
def typist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typist]:
    folder = tmp_path_factory.mktemp("lines")
    workspace.build(folder / "model")
    with pytest.MonkeyPatch.context() as patching:
        patching.chdir(folder)
        yield Typist(folder / "model", folder / "here", Guard(tmp_path_factory.getbasetemp()))


@pytest.mark.slow
def test_generated_command_lines_end_as_promised(typist: Typist) -> None:
    quick = (line for line in generate(400, 11) if line.words[0] in QUICK)
    for line in islice(quick, 60):
        answer = typist(line)
        assert [describe(line, fault, answer) for fault in faults(line, answer)] == []
