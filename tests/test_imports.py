"""Many imports stand inside of functions, so that starting up is quick; nothing else looks whether they are right."""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("deeptaxi", "benchmarks", "tests")
FOLDERS = ("deeptaxi", "benchmarks", "docs", "tests/fuzzing", "tests/reliability")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """Put back the variables that a module sets when it is imported: it is not the process that they steer."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_import_of_our_own_modules_resolves(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
            module = imported(str(node.module))
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or imported(f"{node.module}.{name}"), f"{node.module}: {name}"


def imported(name: str) -> ModuleType:
    """Import a module of ours; without the package of somebody else that it needs, skip."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise
        pytest.skip(f"{error.name} is not installed")
