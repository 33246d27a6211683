"""Runs without a model: the training still runs, has failed, or was interrupted."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

import deeptaxi
from deeptaxi.errors import UsageError
from deeptaxi.io.locks import lock
from deeptaxi.metrics import Failed, to_line
from tests.cli.conftest import LAKE, QUICK, refused, run

TypeIn = Callable[..., Result]
READERS = ("evaluate", "watch", "diagnose", "report", "export --format npz", "explain update")
POND = """
import gymnasium
from gymnasium.spaces import Discrete

class Pond(gymnasium.Env):
    observation_space, action_space = Discrete(3), Discrete(2)
    steps = 0
    def reset(self, **arguments):
        return 0, {}
    def step(self, action):
        Pond.steps += 1
        if Pond.steps > 300:
            raise RuntimeError("out of\\nwater")
        return Pond.steps % 3, 0.0, False, False, {}

gymnasium.register("Dry-v1", entry_point=Pond, max_episode_steps=50)
"""


@pytest.fixture(scope="module")
def without_end(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in models/a that was ended, and has lost its model: as one that a training has not come to keep yet."""
    folder = tmp_path_factory.mktemp("without end")
    words = ["--q-table", *QUICK, "--updates", 60, "--eval-every", 20, "--stop-after", 40]
    places = ["--out", folder / "models" / "a", "--logs", folder / "logs"]
    assert run("train", *LAKE, *words, *places).exit_code == 0
    for name in ("model.keras", "config.toml", "card.md", "card.json"):
        (folder / "models" / "a" / name).unlink()
    log = folder / "logs" / "a" / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    return folder


@pytest.fixture
def stopped(without_end: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TypeIn:
    """Type commands beside a copy of it."""
    shutil.copytree(without_end, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return run


@pytest.mark.parametrize("reader", READERS)
def test_a_run_in_progress_is_reported_with_how_to_watch_it(stopped: TypeIn, reader: str) -> None:
    with lock(Path("models/a"), "deeptaxi train", log=Path("logs/a")):
        message = "models/a is still being trained, by this process (deeptaxi train, since "
        refused(stopped(*reader.split(), "models/a"), 2, message, ": `deeptaxi logs models/a` shows how far it is")


def test_the_log_of_a_run_in_progress_is_shown_and_never_called_interrupted(stopped: TypeIn) -> None:
    with lock(Path("models/a"), "deeptaxi train", log=Path("logs/a")), lock(Path("logs/a"), "deeptaxi train"):
        for name in ("models/a", "logs/a"):
            assert "Still running, after update 40 of 60" in stopped("logs", name).stdout
        assert json.loads(stopped("logs", "models/a", "--json").stdout)["running"].startswith("this process")
        found = json.loads(stopped("diagnose", "logs/a", "--json").stdout)
        assert "interrupted" not in [finding["name"] for finding in found["findings"]]
        reasons = {item["name"]: item["why"] for item in found["not_checked"]}
        assert reasons["interrupted"].startswith("the training is still running, by this process")
        for folder in ("models", "models/a"):
            assert "Note: models/a is still being trained, by this process" in stopped("zoo", folder).stderr
        with pytest.raises(UsageError, match="is still being trained"):
            deeptaxi.load("models/a")
        refused(stopped("evaluate", "models/a/model.keras"), 2, "models/a is still being trained")
        refused(stopped("train", "--resume", "models/a"), 2, "models/a is in use by this process", "wait for it")
        shutil.rmtree("logs/a")
        refused(stopped("logs", "models/a"), 2, "still being trained", "has not made its first updates yet")


def test_a_killed_run_is_distinguished_from_one_in_progress(stopped: TypeIn) -> None:
    with lock(Path("models/a"), "deeptaxi train", log=Path("logs/a")):
        stale = Path("models/a/.lock").read_bytes()
    Path("models/a/.lock").write_bytes(stale)
    broken_off = "was interrupted; `deeptaxi train --resume models/a` resumes it"
    refused(stopped("evaluate", "models/a"), 2, broken_off)
    assert "the training was interrupted" in stopped("logs", "models/a").stdout
    found = json.loads(stopped("diagnose", "logs/a", "--json").stdout)
    assert "interrupted" in [finding["name"] for finding in found["findings"]]


def test_the_reason_of_a_failed_run_is_reported(stopped: TypeIn) -> None:
    log = Path("logs/a/metrics.jsonl")
    log.write_text(log.read_text() + to_line(Failed(40, "the disk is full", "other")) + "\n")
    message = refused(
        stopped("evaluate", "models/a"), 2, "models/a has no model because its training failed: the disk is full"
    )
    assert "`deeptaxi logs models/a` shows its log, and `deeptaxi train --resume models/a` resumes" in message
    log.rename("logs/a/metrics.failed.jsonl")
    shutil.rmtree("models/a")
    refused(stopped("evaluate", "models/a"), 2, "models/a has no model because its training failed: the disk is full")
    assert "Failed after update 40 of 60: the disk is full." in stopped("logs", "models/a").stdout
    assert json.loads(stopped("logs", "models/a", "--json").stdout)["failed"]["cause"] == "other"
    found = json.loads(stopped("diagnose", "logs/a", "--json").stdout)["findings"][0]
    assert (found["name"], found["cause"]) == ("training-failed", "the disk is full")


@pytest.fixture
def pond(type_in: TypeIn) -> Iterator[TypeIn]:
    Path("pond.py").write_text(POND)
    yield type_in
    sys.modules.pop("pond", None)


def test_a_failing_environment_is_the_finding(pond: TypeIn) -> None:
    words = ["--loop", "gymnasium", "--q-table", *QUICK, "--replay-start", 200, "--out", "models/a"]
    assert pond("train", "pond:Dry-v1", *words).exit_code == 1
    failure = "the environment pond:Dry-v1 failed: RuntimeError: out of water (pond.py:13, in step)"
    refused(
        pond("evaluate", "models/a"),
        2,
        f"models/a has no model because its training failed: {failure}; `deeptaxi logs",
    )
    assert failure in " ".join(pond("logs", "models/a").stdout.split())
    done = pond("diagnose", "logs/a", "--json")
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.exit_code == 3
    assert "interrupted" not in found
    assert found["environment-failed"]["severity"] == "severe"
    assert failure in found["environment-failed"]["summary"]
    assert found["environment-failed"]["cure"] == "fix the environment at pond.py:13, in step, then train again"
