"""The other Keras backends, each in a process of its own: skipped where they are not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import LAKE, QUICK

pytestmark = pytest.mark.slow
CODE = """
import sys
from deeptaxi.cli.main import cli
try:
    cli.main(sys.argv[1:], prog_name="deeptaxi")
finally:
    assert sys.modules.get("tensorflow") is None
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--loop", "gymnasium"], id="gymnasium"),
        pytest.param(["--loop", "fit"], id="fit"),
        pytest.param(
            ["--loop", "gymnasium", "--prioritised", "--n-step", "2", "--double", "--clip-norm", "9"], id="variants"
        ),
    ],
)
def test_every_loop_finds_the_optimum_without_tensorflow(backend: str, options: list[str], tmp_path: Path) -> None:
    assert_optimal(backend, options, tmp_path)


def test_the_compiled_loop_is_the_one_that_jax_runs_where_none_is_asked_for(tmp_path: Path) -> None:
    assert assert_optimal("jax", [], tmp_path)["loop"] == "compiled"


def assert_optimal(backend: str, options: list[str], tmp_path: Path) -> dict[str, Any]:
    """Train on a lake; return what the command tells."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    words = ["train", *LAKE, "--q-table", *QUICK, *options, "--out", "a", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert summary["exact"]["optimal"]
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Preset: ")]
    assert all(" updates, " in line for line in lines), done.stderr  # progress, no chatter
    return summary
