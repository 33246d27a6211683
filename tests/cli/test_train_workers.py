"""``deeptaxi train --workers``: the same run, stepped by other processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import tests
from deeptaxi.config import read_toml
from deeptaxi.metrics import Warned, read_history
from tests.cli.conftest import refused

TypeIn = Callable[..., Result]
TRAIN = [
    *("train", "wanderer.py:Wanderer", "--no-discover", "--action-mask", "--environments", 5, "--replay-start", 20),
    *("--batch-size", 8, "--hidden", 8, "--updates", 40, "--eval-every", 20, "--json"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for an environment."""
    (tmp_path / "wanderer.py").write_bytes((Path(tests.__file__).parent / "mdp" / "wanderer.py").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digest_of(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return str(json.loads(result.stdout)["weights_digest"])


def warnings_of(folder: str) -> list[Any]:
    records = read_history(Path("logs") / folder / "metrics.jsonl").records
    return [record.finding for record in records if isinstance(record, Warned)]


def test_the_weights_are_those_of_a_training_without_workers(here: Path, type_in: TypeIn) -> None:
    alone = digest_of(type_in(*TRAIN, "--out", "a"))
    assert digest_of(type_in(*TRAIN, "--out", "b", "--workers", 2)) == alone
    assert "workers" not in read_toml(Path("a/config.toml"))["interaction"]
    assert read_toml(Path("b/config.toml"))["interaction"]["workers"] == 2
    # A file may set them, and an option override the file; a resumed run may have others.
    Path("c.toml").write_text("[interaction]\nworkers = 1\n")
    assert type_in(*TRAIN, "--out", "c", "--config", "c.toml", "--stop-after", 15).exit_code == 0
    assert type_in("train", "--resume", "c", "--workers", 3, "--stop-after", 30, "--trust-env").exit_code == 0
    assert read_toml(Path("c/config.toml"))["interaction"]["workers"] == 3
    assert digest_of(type_in("train", "--resume", "c", "--workers", 0, "--trust-env", "--json")) == alone
    assert "workers" not in read_toml(Path("c/config.toml"))["interaction"]


def test_a_training_whose_worker_dies_is_resumed_from_its_checkpoint(here: Path, type_in: TypeIn) -> None:
    words = [*TRAIN, "--checkpoint-every", 0.0001, "--workers", 2]
    whole = digest_of(type_in(*words, "--out", "whole", "--env-arg", "fault=exit", "--env-arg", "at=1000"))
    for at, kept in ((15, "resumes from its last checkpoint"), (35, "has the best weights before that")):
        died = type_in(*words, "--out", f"at-{at}", "--env-arg", "fault=exit", "--env-arg", f"at={at}")
        assert died.exit_code == 1, died.output
        error = died.stderr.splitlines()[-1]
        assert "worker 1 of 2 ended with exit code 3 in step(" in error
        assert kept in error
        assert f"train --resume at-{at}" in died.stderr
        Path("mended").touch()
        assert digest_of(type_in("train", "--resume", f"at-{at}", "--trust-env", "--json")) == whole
        Path("mended").unlink()


def test_what_workers_cannot_do_is_refused(here: Path, type_in: TypeIn) -> None:
    refused(type_in("train", "Taxi-v4", "--workers", 2), 2, "--workers 2: the compiled loop", "use --loop gymnasium")
    refused(type_in(*TRAIN, "--workers", 6), 2, "--workers 6: there are 5 environments to step: at most --workers 5")
    refused(type_in(*TRAIN, "--workers", -1), 2, "workers = -1: expected a value from 0 to 1,024")
    assert not list(Path().rglob("*.keras"))


def test_draws_from_the_process_are_warned_of(here: Path, type_in: TypeIn) -> None:
    words = [*TRAIN, "--updates", 2, "--env-arg", "fault=chance", "--env-arg", "at=3"]
    assert digest_of(type_in(*words, "--out", "a", "--workers", 2)) == digest_of(type_in(*words, "--out", "b"))
    assert (warnings_of("a"), warnings_of("b")) == (["global-random-state"], [])


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")
def test_ctrl_c_ends_the_workers_too(here: Path) -> None:
    words = [*map(str, TRAIN), "--updates", "1000000", "--eval-every", "100", "--workers", "2", "--out", "a"]
    training = subprocess.Popen(
        [sys.executable, "-m", "deeptaxi", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(Path().glob("logs/a/metrics.jsonl")) and training.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)  # until it trains
    os.killpg(training.pid, signal.SIGINT)  # as a terminal does
    start = time.monotonic()
    _, errors = training.communicate(timeout=60)
    assert training.returncode == 130, errors
    assert time.monotonic() - start < 10  # two seconds on an idle machine
    with pytest.raises(ProcessLookupError):  # nobody is left
        os.killpg(training.pid, 0)
