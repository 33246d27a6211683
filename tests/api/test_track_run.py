"""Trainings with a tracker, in a database of MLflow itself."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

import deeptaxi
from deeptaxi.api.track_run import write_files
from deeptaxi.errors import CallbackError, UsageError
from deeptaxi.learning.callbacks import Event
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.metrics import Tracked
from tests.api.conftest import CHAIN
from tests.boards import Wander
from tests.cli.conftest import refused
from tests.cli.conftest import run as command
from tests.problems import registered

LONG: dict[str, Any] = {**CHAIN, "early_stop": False, "track": "mlflow"}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder, where MLflow finds its database by itself."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


def artifacts(run: str) -> Path:
    return Path(mlflow.artifacts.download_artifacts(run_id=run))


def steps(run: str, name: str) -> list[int]:
    return [item.step for item in mlflow.MlflowClient().get_metric_history(run, name)]


def test_a_training_in_memory_has_settings_curves_verdict_and_files(folder: Path, table: TransitionTable) -> None:
    run = deeptaxi.train(table, **LONG)
    assert run.history is not None
    (tracked,) = run.history.tracked
    assert tracked == Tracked(0, "mlflow", tracked.run, f"sqlite:///{folder / 'mlflow.db'}", False)
    found = mlflow.get_run(tracked.run)
    assert (found.info.run_name, found.info.status) == ("transition-table-q-table-3", "FINISHED")
    assert {found.data.params[name] for name in ("seed", "updates")} == {"3", "400"}
    assert found.data.tags["deeptaxi.weights_digest"] == run.weights_digest
    assert found.data.tags["deeptaxi.verdict"].startswith("optimal: ")
    assert found.data.metrics["final/return"] == run.exact["return"]  # type: ignore[index]
    assert steps(tracked.run, "exact/value") == [100, 200, 300, 400]
    kept = artifacts(tracked.run)
    files = {"model.keras", "config.toml", "card.md", "card.json", "table.npz"}
    assert {path.name for path in kept.iterdir()} == files
    assert json.loads((kept / "card.json").read_text())["weights_digest"] == run.weights_digest
    assert tomllib.loads((kept / "config.toml").read_text())["run"]["weights_digest"] == run.weights_digest
    assert deeptaxi.load(kept / "model.keras", table).weights_digest == run.weights_digest
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "mlruns"]
    assert run.to_dict()["tracked"] == [{"tracker": "mlflow", "run": tracked.run, "place": tracked.place}]
    assert run.to_dict()["tracking_unavailable"] is None


def test_seeds_are_named_after_their_folder(table: TransitionTable, tmp_path: Path) -> None:
    settings = {**CHAIN, "updates": 5}
    del settings["seed"]
    group = deeptaxi.train(table, seeds="0-1", out=tmp_path / "mine", logs=tmp_path, track="mlflow", **settings)
    runs = [run.history.tracked[0].run for run in group if run.history is not None]
    assert [mlflow.get_run(run).info.run_name for run in runs] == ["mine/seed-0", "mine/seed-1"]


def test_it_trains_to_the_same_weights_as_without(table: TransitionTable, kept: Any) -> None:
    assert deeptaxi.train(table, track=["mlflow"], **CHAIN).weights_digest == kept.weights_digest


def test_the_files_of_a_run_in_memory_are_those_of_a_run_folder(table: TransitionTable, tmp_path: Path) -> None:
    with registered("Wander-v0", Wander) as name:
        met = deeptaxi.train(name, updates=12, environments=2, batch_size=8, replay_start=16, eval_every=6)
        opened = deeptaxi.load(write_files(met, new_folder(tmp_path / "met")))
        assert opened.weights_digest == met.weights_digest
        assert opened.environment.states == met.environment.states
    run = deeptaxi.train(table, **CHAIN)
    opened = deeptaxi.load(write_files(run, new_folder(tmp_path / "run")))
    assert opened.exact == run.exact


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_resumed_training_goes_on_in_the_run_of_the_tracker(table: TransitionTable) -> None:
    part = deeptaxi.train(table, out="part", stop_after=150, **LONG)
    again = deeptaxi.train(resume="part", updates=500, track="mlflow")
    assert part.history is not None
    assert again.history is not None
    (before,), (after,) = part.history.tracked, again.history.tracked
    assert (after.run, after.resumed, after.update) == (before.run, True, 150)
    assert steps(after.run, "train/loss") == list(range(1, 501))
    run = mlflow.get_run(after.run)
    assert (run.data.params["updates"], run.data.tags["deeptaxi.updates"]) == ("400", "500")
    assert run.data.tags["deeptaxi.weights_digest"] == again.weights_digest


def test_a_training_that_fails_ends_its_run_as_failed(table: TransitionTable) -> None:
    def fail(event: Event) -> None:
        if event.kind == kind:
            raise ZeroDivisionError

    for kind, curves in (("started", False), ("evaluation", True)):
        with pytest.raises(CallbackError):
            deeptaxi.train(table, callbacks=[fail], **LONG)
        run = mlflow.search_runs(output_format="list", max_results=1)[0]
        assert run.info.status == "FAILED"
        assert f"callback 'fail' failed at event '{kind}'" in run.data.tags["deeptaxi.failure"]
        assert ("train/loss" in run.data.metrics) == curves
    assert mlflow.active_run() is None


def test_a_tracker_that_fails_costs_a_warning(
    table: TransitionTable, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Event] = []

    def forget(event: Event) -> None:
        if event.kind == "evaluation" and (tracked := [one for one in seen if isinstance(one, Tracked)]):
            with monkeypatch.context():
                mlflow.delete_run(tracked.pop().run)
        seen.append(event)

    run = deeptaxi.train(table, out="lost", callbacks=[forget], **{**LONG, "early_stop": True})
    assert run.weights_digest == kept.weights_digest
    texts = [event.text for event in seen if event.kind == "warning"]  # type: ignore[union-attr]
    warnings = [text for text in texts if text.startswith("not-tracked: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith("not-tracked: MLflow: ")
    assert str(run.to_dict()["tracking_unavailable"]).startswith("MLflow: ")
    assert deeptaxi.load("lost").weights_digest == run.weights_digest


def test_the_command_tracks_and_says_where_and_how_to_resume(folder: Path) -> None:
    words = ["--env-arg", "is_slippery=false", "--q-table", "--updates", 400, "--no-early-stop", "--no-tensorboard"]
    done = command(
        "train", "FrozenLake-v1", *words, "--stop-after", 100, "--out", "lake", "--track", "mlflow", "--json"
    )
    assert done.exit_code == 0, done.output
    (tracked,) = json.loads(done.stdout)["tracked"]
    assert f"Tracked by mlflow in run {tracked['run']}: {tracked['place']}." in done.stderr
    assert "Resume with: deeptaxi train --resume lake --track mlflow" in done.stderr
    assert {path.name for path in artifacts(tracked["run"]).iterdir()} > {"model.keras", "card.md"}
    again = command("train", "--resume", "lake", "--track", "mlflow")
    assert f"Tracked by mlflow continued in run {tracked['run']}: " in again.stderr


def test_an_unknown_tracker_is_refused_before_anything_is_done(table: TransitionTable) -> None:
    with pytest.raises(UsageError, match=r"^unknown tracker 'tensorboard': expected mlflow or wandb$"):
        deeptaxi.train(table, **{**LONG, "track": "tensorboard"})
    refused(command("train", "Taxi-v4", "--track", "mlflo"), 2, "'mlflo' is not one of 'mlflow', 'wandb'")
