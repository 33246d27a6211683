"""What the documentation promises, as far as a machine can check it."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import run
from tests.docs.console import blocks

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "examples" / "README.md",
    ROOT / "tests" / "reliability" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_the_table_that_the_docs_build_can_be_solved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    exec(block[1], {})  # noqa: S102  # it is our own page
    solution = json.loads(run("solve", "two.npz", "--json").stdout)
    assert solution["optimal_return"] == 1.0
    assert solution["policy"][0] == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_the_docs_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_readme_installs_and_tests_with_one_command_each() -> None:
    lines = [block.body.strip() for block in blocks(ROOT / "README.md") if block.kind == "sh"]
    start = "python3 -m venv .venv && . .venv/bin/activate && pip install -q"
    assert lines == [f"{start} . && deeptaxi train Taxi-v4", f"{start} -e '.[test]' && pytest"]


@pytest.mark.parametrize("path", [*PAGES, ROOT / "benchmarks" / "README.md", ROOT / "Makefile", ROOT / ".ci" / "run"])
def test_no_command_asks_for_one_version_of_python(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    commands = "".join(block.body for block in blocks(path)) if path.suffix == ".md" else text
    assert not re.search(r"python3\.\d", commands)


def test_the_page_on_installation_lists_every_extra_of_users() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert {name for name in extras if f".[{name}]'" not in page} == {"bench", "dev", "docs"}


def test_contributing_lists_every_reason_to_skip_a_test() -> None:
    listed = re.findall(r"^\| `([^`]+)` +\|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(
        {reason for path in (ROOT / "tests").rglob("*.py") for reason in reasons_to_skip(path)}
    )


def reasons_to_skip(path: Path) -> Iterator[str]:
    """Yield the reasons for which the tests of a file skip; … for what is filled in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in ("pytest.skip", "pytest.importorskip"):
            given = text_of(node.args[0])
            yield given if name == "pytest.skip" else f"could not import '{given}'"
        elif name in ("pytest.mark.skip", "pytest.mark.skipif"):
            yield next(text_of(keyword.value) for keyword in node.keywords if keyword.arg == "reason")


def text_of(node: ast.expr) -> str:
    """Return a text as it stands in the code, with … for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return str(ast.literal_eval(node))
