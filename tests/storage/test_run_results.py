from __future__ import annotations

from pathlib import Path

import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.metrics import Evaluated, Finished, History, Progress
from deeptaxi.storage.run_results import (
    TimeToOptimum,
    holds_runs,
    read_result,
    run_folders,
    time_to_optimum,
)
from tests.written_runs import rate, write_run


def history(*optimal: bool, every: int = 100) -> History:
    """A log with an evaluation every 100 updates; a hundred updates take two seconds."""
    updates = [every * (number + 1) for number in range(len(optimal))]
    end = Finished("updates", updates[-1], 0, 0, 2 * len(optimal), 0.0, "0", None, None)
    evaluations = [Evaluated(u, good, 1.0, 0.0, 0.0, 1, 1, None) for u, good in zip(updates, optimal, strict=True)]
    progress = [Progress(u, u, 0.02 * u, 1.0, 1.0, 0.5, 0.01, 1, None) for u in updates[:-1:2]]
    return History(None, (*progress, *evaluations, end))


def test_the_time_to_the_optimum_is_that_of_the_first_evaluation_from_which_all_are_optimal() -> None:
    assert time_to_optimum(history(False, True, False, True, True)) == TimeToOptimum(400, 8, True)
    assert time_to_optimum(history(True, True)) == TimeToOptimum(100, 2, True)


def test_a_run_that_is_not_optimal_at_the_end_is_censored_there() -> None:
    assert time_to_optimum(history(False, True, False)) == TimeToOptimum(300, 6, False)


def test_without_an_end_or_evaluations_there_is_no_time() -> None:
    assert time_to_optimum(History(None, history(True).records[:-1])) is None
    assert time_to_optimum(History(None, history(True).records[-1:])) is None


def test_a_result_has_what_card_and_log_say(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run", seed=3, reached=700, kwargs={"is_slippery": False}, optimizer=rate(0.01), updates=1_000
    )
    found = read_result(folder)
    assert (found.seed, found.optimal, found.normalized_score) == (3, True, 1)
    assert found.environment == "FrozenLake-v1 is_slippery=false"
    assert found.settings["optimizer.learning_rate"] == 0.01
    assert found.settings["environment.kwargs.is_slippery"] is False
    assert found.settings["target.double"] is not None  # a default, or the preset's
    assert found.time_to_optimum == TimeToOptimum(700, 7, True)


def test_without_a_log_there_is_no_time(tmp_path: Path) -> None:
    assert read_result(write_run(tmp_path / "run", log=False)).time_to_optimum is None


def test_runs_are_found_at_any_depth_and_once(tmp_path: Path) -> None:
    for name in ("b/seed-1", "a/seed-0", "c/d/e/seed-10", "c/d/e/seed-2"):
        write_run(tmp_path / name)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "c")
    (tmp_path / ".hidden").mkdir()
    found = list(run_folders([tmp_path, tmp_path / "a" / "seed-0"]))
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a/seed-0",
        "b/seed-1",
        "c/d/e/seed-2",
        "c/d/e/seed-10",
    ]


@pytest.mark.parametrize(("name", "part"), [("none", "does not exist"), ("file", "is a file"), ("empty", "no runs")])
def test_a_path_without_runs_is_refused(tmp_path: Path, name: str, part: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=part):
        list(run_folders([tmp_path / name]))


def test_a_folder_of_runs_is_told_from_a_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "one")
    (tmp_path / "empty").mkdir()
    assert holds_runs(tmp_path / "runs")
    assert holds_runs(tmp_path)
    assert not holds_runs(run)
    assert not holds_runs(tmp_path / "empty")
    assert not holds_runs(run / "card.json")
    (tmp_path / "empty" / ".lock").touch()
    assert not holds_runs(tmp_path / "empty")


@pytest.mark.parametrize(
    ("facts", "part"),
    [
        ({"stopped": "interrupted"}, "ended early, after 1,000 updates"),
        ({"stopped": "stop-after"}, "ended early"),
        ({"failure": "the environment broke"}, "its training failed: the environment broke"),
    ],
)
def test_an_unfinished_run_is_refused_with_the_reason(tmp_path: Path, facts: dict[str, str], part: str) -> None:
    with pytest.raises(DeepTaxiError, match=part):
        read_result(write_run(tmp_path / "run", **facts))


def test_an_interrupted_training_is_refused(tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "000100.npz").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".lock").touch()
    assert list(run_folders([tmp_path])) == [tmp_path / "other", tmp_path / "run"]
    with pytest.raises(DeepTaxiError, match="its training did not finish"):
        read_result(tmp_path / "other")
    with pytest.raises(DeepTaxiError, match="its training was interrupted"):
        read_result(tmp_path / "run")


def test_a_damaged_card_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "card.json").write_text("{", encoding="utf-8")
    with pytest.raises(DeepTaxiError, match="is damaged"):
        read_result(folder)
    (folder / "card.json").unlink()
    with pytest.raises(DeepTaxiError, match="no card"):
        read_result(folder)
