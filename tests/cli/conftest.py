"""A way to type commands, and a small run that evaluate and export read."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deeptaxi.cli import signals
from deeptaxi.cli.main import cli

LAKE = ["FrozenLake-v1", "--env-arg", "is_slippery=false"]
QUICK = ["--updates", "400", "--eval-every", "100", "--environments", "8", "--batch-size", "32"]


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    """Put back the handlers of signals: a training that one of them stopped leaves all of them ignored."""
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def type_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return run


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def refused(result: Result, code: int, *parts: str) -> str:
    """Assert that a command failed with one line on standard error, and return it."""
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == code, result.output
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert result.stdout == ""
    for part in parts:
        assert part in lines[0]
    return lines[0]


@pytest.fixture(scope="session")
def lake_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: the Q table of a FrozenLake that does not slip, learned in 400 updates."""
    folder = tmp_path_factory.mktemp("lake") / "run"
    result = run("train", *LAKE, "--q-table", *QUICK, "--out", folder, "--logs", folder.parent / "logs", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["exact"]["optimal"]
    return folder
