from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.zoo import plan
from tests.docs.console import Command, blocks, commands, execute, matches, words_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = [page for page in PAGES if any(block.kind in ("console", "python") for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.timeout(900)  # README's page alone makes some thirty commands, on a machine that may be busy
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_every_command_of_a_page_does_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that is empty but for the agents that a checkout has."""
    for name in plan():
        shutil.copytree(ROOT / "models" / name, tmp_path / "models" / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed: str | None = None
    for block in blocks(page):
        printed = execute(block, names, printed)


def test_a_block_that_is_not_run_says_why() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.not_run is None or len(block.not_run) > 10, page


def test_commands_are_parsed_with_their_output() -> None:
    body = "$ deeptaxi envs  # all\na\n\nb\n$ deeptaxi train X \\\n    --seed 1\n"
    first, second = commands(body)
    assert (first.words, first.output) == (["deeptaxi", "envs"], ("a", "", "b"))
    assert second == Command("deeptaxi train X      --seed 1", ())


def test_a_training_whose_result_the_page_does_not_show_is_cut_short() -> None:
    cut = ["deeptaxi", "train", "X", "--stop-after", "1000"]
    assert words_of(Command("deeptaxi train X  # long", ())) == cut
    swept = ["deeptaxi", "sweep", "--env", "X", "--updates", "30", "--workers", "0"]
    assert words_of(Command("deeptaxi sweep --env X", ())) == swept
    assert words_of(Command("deeptaxi train X --seeds 0-1", ()))[-2:] == ["--updates", "30"]
    resumed = ["deeptaxi", "train", "--resume", "X", "--updates", "9", "--stop-after", "2000"]
    assert words_of(Command("deeptaxi train --resume X --updates 9", ())) == resumed
    for whole in (Command("deeptaxi train X", ("yes",)), Command("deeptaxi train --updates 9", ()), Command("b", ())):
        assert words_of(whole) == whole.words


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (("a", "b"), "a  \nb\n\n", True),
        (("a", "b"), "a\nc", False),
        (("a",), "a\nb", False),
        (("a", "…"), "a\nb\nc", True),
        (("a", "…"), "a", True),
        (("…", "c"), "a\nb\nc", True),
        (("…", "c"), "c", True),
        (("…", "c"), "a\nb", False),
        (("a", "…", "d"), "a\nb\nc\nd", True),
        (("a", "…", "d"), "a\nd", True),
        (("took … s (cold)",), "took 3.5 s (cold)", True),
        (("took … s (cold)",), "took 3.5\n s (cold)", False),
        (("1.5",), "1x5", False),
    ],
)
def test_output_is_compared_except_where_the_page_elides_it(
    expected: tuple[str, ...], printed: str, same: bool
) -> None:
    assert matches(expected, printed) is same


@pytest.mark.parametrize(
    "page",
    [
        "```console\n$ deeptaxi solve FrozenLake-v1 --json\n{}\n```\n",  # prints something else
        "```console\n$ deeptaxi solve FrozenLake-v0\n```\n",  # fails
        "```console\n$ rm -r nothing\n```\n",  # is no command of ours
        "```python\nraise AssertionError\n```\n",
    ],
)
def test_a_wrong_page_is_detected(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    (block,) = blocks(tmp_path / "page.md")
    with pytest.raises(AssertionError):
        execute(block)


def test_python_output_is_compared_and_names_persist_between_blocks(tmp_path: Path) -> None:
    page = "```python\nx = 3\nprint(x)\n```\n\n```output\n3\n```\n\n```python\nprint(x + 1)\n```\n\n```output\n5\n```\n"
    (tmp_path / "page.md").write_text(page, encoding="utf-8")
    first, right, second, wrong = blocks(tmp_path / "page.md")
    names: dict[str, Any] = {}
    assert execute(right, names, execute(first, names)) is None
    with pytest.raises(AssertionError):
        execute(wrong, names, execute(second, names))
    with pytest.raises(AssertionError):
        execute(right, names, None)


def test_a_page_may_show_how_a_command_fails_and_leave_a_block_alone(tmp_path: Path) -> None:
    fails = "```console\n$ deeptaxi solve Nowhere-v0\nError: unknown environment…\n```\n"
    left_alone = "<!-- not run: it asks for a GPU -->\n\n```console\n$ rm x\n```\n"
    (tmp_path / "page.md").write_text(fails + left_alone, encoding="utf-8")
    first, second = blocks(tmp_path / "page.md")
    execute(first)
    execute(second)
    assert second.not_run == "it asks for a GPU"
