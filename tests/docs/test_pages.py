"""What the documentation promises, as far as a machine can check it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import run

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
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
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [
        line.strip()
        for line in text.splitlines()
        if line.startswith("    python3.11 -m venv") or "-m venv .venv &&" in line
    ]
    assert any("deeptaxi train Taxi-v4" in command for command in commands)
    assert any("pytest" in command for command in commands)
