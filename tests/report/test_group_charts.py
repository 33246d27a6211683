"""The charts of groups: which there are, and what their texts say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deeptaxi
from deeptaxi.report.content import GroupContent
from deeptaxi.report.group_charts import bootstrap_of_curve, group_charts, values_over_updates
from tests.written_runs import rate, write_group


def charts_of(folder: Path, *by: str) -> dict[str, str]:
    """The names and texts of the charts of a comparison."""
    found = deeptaxi.compare(folder, by)
    curves = {(one.group.environment, one.group.label): [run.curve for run in one.group.runs] for one in found.groups}
    charts = group_charts(GroupContent(found.to_dict(), curves))
    for chart in charts:
        assert "<svg" in chart.inline()
    return {chart.name: chart.text for chart in charts}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    for value, size, optimal in ((0.1, 8, 1), (0.1, 32, 4), (0.2, 8, 0), (0.2, 32, 3)):
        write_group(
            folder / f"{value}-{size}", 4, optimal, optimizer=rate(value), replay={"batch_size": size}, reached=300
        )
    return folder


def test_two_settings_make_a_grid_and_every_group_a_row(grid: Path) -> None:
    charts = charts_of(grid, "learning_rate", "batch_size")
    assert list(charts) == ["grid", "shares", "optimal", "values", "profiles"]
    assert charts["grid"] == (
        "The darker, the more seeds are optimal. The best is learning_rate=0.1 batch_size=32: 4 of 4."
    )
    assert charts["shares"].count(" of 4") == 4
    assert "learning_rate=0.1 batch_size=32: half of them by update 300" in charts["optimal"]


def test_the_best_group_of_the_charts_is_that_of_the_verdict(tmp_path: Path) -> None:
    """All seeds of all groups are optimal and score the same: the best group is the fastest."""
    for value in (0.1, 0.2):
        for size in (8, 32):
            settings = {"optimizer": rate(value), "replay": {"batch_size": size}}
            write_group(
                tmp_path / f"{value}-{size}", 4, 4, reached=300 if (value, size) == (0.2, 32) else 600, **settings
            )
    best = "learning_rate=0.2 batch_size=32"
    assert deeptaxi.compare(tmp_path, ("learning_rate", "batch_size")).verdict.startswith(best)
    assert f"The best is {best}: 4 of 4." in charts_of(tmp_path, "learning_rate", "batch_size")["grid"]


def test_one_setting_makes_no_grid(grid: Path) -> None:
    assert list(charts_of(grid, "batch_size")) == ["shares", "optimal", "values", "profiles"]


def test_each_environment_has_its_charts(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 3, 3, kwargs={"is_slippery": False})
    write_group(tmp_path / "b", 3, 1, kwargs={"is_slippery": True})
    assert [name for name in charts_of(tmp_path, "env") if name.startswith("shares")] == ["shares-1", "shares-2"]


def test_runs_without_logs_have_no_curves(tmp_path: Path) -> None:
    write_group(tmp_path / "a", 3, 3, log=False)
    assert list(charts_of(tmp_path)) == ["shares", "profiles"]


def test_a_run_that_has_ended_keeps_its_last_value() -> None:
    found = values_over_updates([np.array([[100, 200], [1.0, 2]]), np.array([[100, 300], [5.0, 6]]), np.zeros((2, 0))])
    assert found is not None
    assert found[0].tolist() == [100, 200, 300]
    assert found[1].tolist() == [[1, 2, 2], [5, 5, 6]]
    assert values_over_updates([]) is None


def test_whole_runs_are_drawn_for_the_interval_of_a_curve() -> None:
    """Where one run is always above the other, so is the interval's end: never are points of both mixed."""
    values = np.array([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])
    middle, low, high = bootstrap_of_curve(values)
    assert (middle.tolist(), low.tolist(), high.tolist()) == ([5, 6, 7], [0, 1, 2], [10, 11, 12])
