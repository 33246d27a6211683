"""Command lines in odd surroundings: how these are drawn and judged, and a few lines in processes of their own."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.fuzzing.hostile import SIGN
from tests.reliability import workspace
from tests.reliability.command_lines import Line
from tests.reliability.commands import Answer

pytest.importorskip("resource")

from tests.reliability.odd_lines import Sandbox, Trial, type_line, wrong
from tests.reliability.surroundings import CLOSED, ODD, Surrounding, draw, variable

PRESETS = Line(0, ("presets", "--json"), as_json=True)
REFUSED = Line(0, ("logs", "nowhere"), as_json=False)
HARMLESS = Surrounding("harmless")
DEAF, MUTE = Surrounding("2>&-", closed=frozenset([2])), Surrounding(">&-", closed=frozenset([1]))


def test_every_surrounding_is_drawn() -> None:
    drawn = [draw(random.Random(number), lambda item: True).said for number in range(3000)]
    for item in (*CLOSED, *ODD):
        assert any(item.said in said for said in drawn), item.said


def test_unfit_surroundings_are_not_drawn() -> None:
    found = [draw(random.Random(number), lambda item: not item.at_start) for number in range(300)]
    assert not any(item.at_start for item in found)


def test_two_surroundings_can_be_combined() -> None:
    both = variable("A=1\0-B") + Surrounding("umask 0;", closed=frozenset([0]), mask=0, harmless=False)
    assert (both.variables, both.closed, both.mask) == ({"A": "1", "B": None}, {0}, 0)
    assert both.at_start
    assert not both.harmless


@pytest.mark.parametrize(
    ("around", "answer", "usual"),
    [
        (HARMLESS, Answer(0, "[]", ""), Answer(0, "[]", "")),
        (MUTE, Answer(0, "", ""), Answer(0, "[]", "")),
        (DEAF, Answer(2, "", ""), Answer(2, "", "Error: x\n")),
        (replace(HARMLESS, harmless=False), Answer(1, "", "Error: too many files\n"), Answer(0, "[]", "")),
    ],
)
def test_a_correct_answer_has_no_fault(around: Surrounding, answer: Answer, usual: Answer) -> None:
    assert wrong(Trial(PRESETS, around), answer, usual) == []


@pytest.mark.parametrize(
    ("around", "answer", "usual", "fault"),
    [
        (HARMLESS, Answer(1, "", "Error: x\n"), Answer(0, "[]", ""), "as usual with 0"),
        (HARMLESS, Answer(0, "[]", ""), Answer(0, "[]", "a note\n"), "standard error lost something to say"),
        (HARMLESS, Answer(0, "[]", "a note\n"), Answer(0, "[]", ""), "standard error has something to say"),
        (HARMLESS, Answer(0, "[]", "\x1b[?25l\n"), Answer(0, "[]", "\n"), "a moving picture"),
        (HARMLESS, Answer(-6, "", "F0000 x\n"), Answer(0, "[]", ""), "exit code"),
        (DEAF, Answer(2, "Error: x\n", ""), Answer(2, "", "Error: x\n"), "more than one line"),
        (MUTE, Answer(1, "", "Error: unexpected AttributeError: x"), Answer(0, "[]", ""), "nobody thought of"),
        (HARMLESS, Answer(0, "[]", "", outside=(SIGN,)), Answer(0, "[]", ""), "written elsewhere"),
    ],
)
def test_every_fault_is_noticed(around: Surrounding, answer: Answer, usual: Answer, fault: str) -> None:
    assert fault in " ".join(wrong(Trial(PRESETS, around), answer, usual))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    folder = tmp_path_factory.mktemp("surroundings")
    (folder / "model").mkdir()
    workspace.plain_files(folder / "model")
    return Sandbox(folder / "model", folder / "sandbox")


def typed(line: Line, around: Surrounding, sandbox: Sandbox) -> Answer:
    """Type a line into a process of its own."""
    return type_line(Trial(line, around, fresh=True), sandbox)


def named(*said: str) -> list[Surrounding]:
    """Return surroundings by what is typed for them."""
    return [item for item in ODD if item.said in said]


@pytest.mark.slow
@pytest.mark.parametrize(
    "around",
    [
        *CLOSED,
        *named("COLUMNS=0", "KERAS_BACKEND=nonsense", "umask 0777;", "ulimit -n 8"),
        *named("mkdir gone; cd gone; rmdir ../gone;", "chmod -R a-w .;"),
        *(item for item in ODD if item.folder == "forbidden"),
    ],
    ids=lambda around: around.said[:30],
)
def test_command_lines_end_as_promised_in_odd_surroundings(around: Surrounding, sandbox: Sandbox) -> None:
    assert wrong(Trial(PRESETS, around), typed(PRESETS, around, sandbox), Answer(0, "[]", "")) == []
    if 1 not in around.closed:
        assert wrong(Trial(REFUSED, around), typed(REFUSED, around, sandbox), Answer(2, "", "Error: x\n")) == []
