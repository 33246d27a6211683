"""The other Keras backends: what `on_a_backend` tries on each, in one process a backend."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.on_a_backend import NAMES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first test of a backend waits for all of its cases


@cache
def results(backend: str, folder: Path) -> tuple[dict[str, str | None], str]:
    """Run all cases on a backend; return what became of each, and what the process wrote."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-W", "error::UserWarning", "-m", "tests.on_a_backend", "results.jsonl"]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    file = folder / "results.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {case: failure for case, failure, _ in map(json.loads, lines)}, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {backend: tmp_path_factory.mktemp(backend) for backend in NAMES}


@pytest.mark.parametrize(("backend", "case"), [(backend, name) for backend, names in NAMES.items() for name in names])
def test_the_other_backends_keep_the_same_promises(backend: str, case: str, folders: dict[str, Path]) -> None:
    found, output = results(backend, folders[backend])
    assert case in found, f"the process ended before this case\n{output}"
    assert found[case] is None, found[case]


@pytest.mark.parametrize("backend", NAMES)
def test_the_other_backends_print_nothing_but_the_output_of_the_command(backend: str, folders: dict[str, Path]) -> None:
    assert results(backend, folders[backend])[1] == ""
