from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from deeptaxi.errors import DeepTaxiError, describe_fault
from deeptaxi.learning.state import CheckpointEvent, TrainingState
from deeptaxi.metrics import Evaluated, Finished, Progress, Record, Started, Tracked, Warned
from deeptaxi.tracking.callback import EVERY, SHARE, TrackingCallback, open_tracker
from deeptaxi.tracking.tracker import Point, RunDescription

STARTED = Started("chain", 3, 2, "q-table", "compiled", 0, 20, 0.1, None, 0.0)
FINISHED = Finished("updates", 30, 30, 960, 1.0, 1.5, "ab12", {"return": 7.5, "optimal": False}, None)


def progress(update: int) -> Progress:
    return Progress(update, 32 * update, float(update), 0.25, 0.125, 0.9, 0.003, 0, None)


class Notebook:
    """A tracker in memory, which fails where `broken` says."""

    run, place, resumed, note = "7", "here", False, None
    logged = -1

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.points: list[Point] = []
        self.calls: list[str] = []
        self.spent = 0.0

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.spent += 2.0
        if name in self.broken:
            raise ConnectionError(f"{name}:\nno answer")

    def log(self, points: Sequence[Point]) -> None:
        self._call("log")
        self.points += points

    def add(self, tags: Mapping[str, str], files: Sequence[Path]) -> None:
        self._call("add")

    def end(self, failed: bool) -> None:
        self._call(f"end{' failed' if failed else ''}")


class Clock:
    now = 0.0

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook

    def __call__(self) -> float:
        return self.now + self.notebook.spent


def tracking(*broken: str) -> tuple[TrackingCallback, Notebook, Clock]:
    notebook = Notebook(*broken)
    clock = Clock(notebook)
    return TrackingCallback("mlflow", notebook, clock), notebook, clock


def test_it_says_at_the_start_where_the_run_is() -> None:
    callback, notebook, _ = tracking()
    assert callback(STARTED) == [Tracked(0, "mlflow", "7", "here", False)]
    notebook.resumed, notebook.logged, notebook.note = True, 9, "it is another"  # type: ignore[misc, assignment]
    assert callback(STARTED) == [
        Tracked(9, "mlflow", "7", "here", True),
        Warned(9, "tracked-elsewhere", "tracked-elsewhere: it is another"),
    ]


def test_points_are_passed_on_together_and_so_rarely_that_it_takes_a_fiftieth_of_the_time() -> None:
    callback, notebook, clock = tracking()
    assert callback(CheckpointEvent(3, False, lambda: TrainingState({}, {}))) == []
    for update in range(1, 5):
        callback(progress(update))
    assert notebook.calls == []
    clock.now = EVERY
    callback(progress(5))
    assert [point.update for point in notebook.points] == [1, 2, 3, 4, 5]
    assert notebook.points[0].values["train/loss"] == 0.25
    clock.now += 2 * SHARE - 1  # two seconds were spent on it
    callback(progress(6))
    assert notebook.calls == ["log"]
    clock.now += 1
    callback(progress(7))
    assert notebook.calls == ["log", "log"]
    callback(FINISHED)
    callback.finish({}, [], failed=False)
    assert notebook.calls == ["log", "log", "log", "add", "end"]
    assert notebook.points[-1].values["final/return"] == 7.5
    assert callback.lost is None


def test_points_of_a_short_training_wait_for_its_end() -> None:
    callback, notebook, clock = tracking()
    for update in range(1, 501):
        clock.now += 0.04  # twenty seconds in all
        callback(progress(update))
    assert notebook.calls == []
    callback.finish({}, [], failed=False)
    assert len(notebook.points) == 500


def test_what_the_run_has_already_is_not_passed_on_again() -> None:
    callback, notebook, _ = tracking()
    notebook.logged = 20  # type: ignore[misc]
    for record in (progress(20), Evaluated(20, True, 1.0, 0.0, 0.0, 1, 1, None), progress(21)):
        callback(record)
    callback.finish({}, [], failed=False)
    assert [point.update for point in notebook.points] == [21]


def test_a_failure_is_warned_of_once_and_made_up_for_at_the_end() -> None:
    callback, notebook, clock = tracking("log")
    found: list[Record] = []
    for update in range(1, 4):
        clock.now += 10 * EVERY
        found += callback(progress(update))
    text = "not-tracked: MLflow: log: no answer; training continues without it, and tries again at its end"
    assert found == [Warned(1, "not-tracked", text)]
    assert notebook.calls == ["log"]
    notebook.broken.clear()
    callback.finish({}, [], failed=False)
    assert [point.update for point in notebook.points] == [1, 2, 3]
    assert (callback.lost, callback.warnings) == (None, [])


@pytest.mark.parametrize(("broken", "calls"), [("log", ["log", "end"]), ("add", ["log", "add", "end"])])
def test_a_run_that_is_not_whole_is_said_to_be_so(broken: str, calls: list[str]) -> None:
    callback, notebook, _ = tracking(broken)
    callback(progress(1))
    callback.finish({}, [], failed=False)
    assert notebook.calls == calls
    assert callback.lost == f"MLflow: {broken}: no answer"
    assert [warned.text for warned in callback.warnings] == [f"not-tracked: {callback.lost}; its run 7 is not whole"]


def test_a_run_that_cannot_be_started_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://me:secret@there")
    with pytest.raises(
        DeepTaxiError, match=r"^MLflow cannot be started: .*; mend that, or leave out --track mlflow$"
    ) as e:
        open_tracker("mlflow", RunDescription("a", {}, {}))
    assert "secret" not in str(e.value)
    assert "\n" not in str(e.value)


def test_the_message_of_an_error_is_one_line_without_passwords() -> None:
    assert describe_fault(ValueError("")) == "ValueError"
    assert describe_fault(ValueError("a\n  b to http://me:pass@host:5000/x")) == "a b to http://host:5000/x"
    assert len(describe_fault(ValueError("x" * 1000))) == 300
