from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deeptaxi.errors import UsageError
from deeptaxi.tracking.tracker import TRACKERS, check_trackers


def test_names_may_be_one_or_several_and_come_once() -> None:
    assert check_trackers(None) == check_trackers(()) == ()
    assert check_trackers("mlflow") == ("mlflow",)
    assert check_trackers(["wandb", "mlflow", "wandb"]) == ("wandb", "mlflow")
    assert set(TRACKERS).isdisjoint(sys.modules) or check_trackers(TRACKERS) == tuple(TRACKERS)


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^unknown tracker 'mlflo': expected mlflow or wandb$"):
        check_trackers("mlflo")


def test_a_missing_package_is_named_with_its_extra_and_a_folder_of_runs_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UsageError, match=r"^--track wandb needs the package wandb: pip install 'deeptaxi\[wandb\]'$"):
        check_trackers("wandb")
