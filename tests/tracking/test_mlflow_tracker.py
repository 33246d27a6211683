"""Runs in a database of MLflow itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from deeptaxi.tracking.mlflow_tracker import LONGEST_SETTING, LONGEST_TAG, MlflowTracker
from deeptaxi.tracking.tracker import Point, RunDescription

BEGUN = RunDescription("a-run", {"seed": 0, "network.hidden": "64,32", "long": "x" * 7_000}, {"deeptaxi.version": "1"})
POINTS = [Point(update, 1e9 + update, {"train/loss": 1 / update, "q/max": float("nan")}) for update in range(1, 701)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database with its tables, which take MLflow two seconds to make."""
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", address)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield address


@pytest.fixture(scope="module")
def ended(store: str) -> MlflowTracker:
    """A run with curves, facts and a file."""
    tracker = MlflowTracker(BEGUN)
    tracker.log(POINTS)
    Path("card.md").write_text("# A card")
    tracker.add({"deeptaxi.verdict": "optimal", "deeptaxi.failure": "y" * 9_000}, [Path("card.md")])
    tracker.end(failed=False)
    return tracker


def test_a_run_has_settings_curves_facts_and_files(ended: MlflowTracker, store: str) -> None:
    run = mlflow.get_run(ended.run)
    assert (ended.place, ended.resumed, ended.logged, ended.note) == (store, False, -1, None)
    assert (run.info.run_name, run.info.status) == ("a-run", "FINISHED")
    assert {name: run.data.params[name] for name in ("seed", "network.hidden")} == {
        "seed": "0",
        "network.hidden": "64,32",
    }
    assert run.data.params["long"] == "x" * (LONGEST_SETTING - 1) + "…"
    assert run.data.tags["deeptaxi.verdict"] == "optimal"
    assert run.data.tags["deeptaxi.version"] == "1"
    assert len(run.data.tags["deeptaxi.failure"]) == LONGEST_TAG
    history = mlflow.MlflowClient().get_metric_history(ended.run, "train/loss")
    assert [(item.step, item.value) for item in history][:2] == [(1, 1.0), (2, 0.5)]
    assert len(history) == len(POINTS)
    assert [item.path for item in mlflow.MlflowClient().list_artifacts(ended.run)] == ["card.md"]


def test_a_resumed_training_goes_on_in_its_run_and_what_has_changed_is_a_tag(ended: MlflowTracker) -> None:
    again = MlflowTracker(RunDescription("a-run", {**BEGUN.settings, "seed": 1, "updates": 9}, {}, ended.run))
    again.end(failed=True)
    assert (again.run, again.resumed, again.logged, again.note) == (ended.run, True, 700, None)
    run = mlflow.get_run(ended.run)
    assert (run.data.params["seed"], run.data.params["updates"], run.data.tags["deeptaxi.seed"]) == ("0", "9", "1")
    assert run.info.status == "FAILED"


def test_a_run_that_is_gone_is_replaced_by_a_new_one_and_that_is_said(store: str) -> None:
    old = MlflowTracker(BEGUN)
    old.end(failed=False)
    mlflow.delete_run(old.run)
    for previous, what in ((old.run, "deleted"), ("0" * 32, "missing")):
        tracker = MlflowTracker(RunDescription("a-run", {}, {}, previous))
        tracker.end(failed=False)
        assert not tracker.resumed
        assert tracker.run != previous
        assert tracker.note == f"the run {previous} of MLflow is {what} in {store}: a new one is started"


def test_the_active_run_of_a_script_is_the_parent_and_stays_active(store: str) -> None:
    with mlflow.start_run() as parent:
        tracker = MlflowTracker(BEGUN)
        mlflow.log_metric("own", 1.0)  # by a callback of the script
        tracker.end(failed=False)
        assert mlflow.active_run().info.run_id == parent.info.run_id
    run = mlflow.get_run(tracker.run)
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.data.metrics["own"] == 1.0


def test_a_run_that_the_script_has_ended_is_ended_all_the_same(store: str) -> None:
    tracker = MlflowTracker(BEGUN)
    mlflow.end_run()
    tracker.end(failed=True)
    assert mlflow.get_run(tracker.run).info.status == "FAILED"
    assert mlflow.active_run() is None
