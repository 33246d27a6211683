"""The lines of a sweep's folder survive what interrupts them."""

from __future__ import annotations

import json

import pytest

from deeptaxi.errors import UsageError
from deeptaxi.experiments.grid import Grid
from deeptaxi.experiments.results import SweepFolder, is_sweep, read_results, read_sweep

GRID = Grid((0, 1), ("FrozenLake-v1",))


def line(job, status="done", **more):
    ended = {"environment": "FrozenLake-v1", "weights_digest": "ab", "updates": 3, "train_seconds": 0.5}
    return {"job": job, "point": "", "seed": 0, "varied": {}, "status": status, **ended, **more}


def written(path, *lines):
    folder = SweepFolder(path)
    folder.begin(GRID)
    for one in lines:
        folder.append(one)
    folder.close()


def test_each_line_is_there_as_soon_as_it_is_appended(tmp_path):
    folder = SweepFolder(tmp_path)
    folder.begin(GRID)
    folder.append(line("seed-0", score=float("nan")))
    assert read_results(tmp_path) == {"seed-0": line("seed-0", score=None)}
    folder.close()
    assert is_sweep(tmp_path)
    assert list(read_sweep(tmp_path)[0].jobs()) == list(GRID.jobs())


def test_the_last_line_of_a_job_counts(tmp_path):
    written(tmp_path, line("seed-0", "failed"), line("seed-1"), line("seed-0"))
    found = read_results(tmp_path)
    assert list(found) == ["seed-0", "seed-1"]
    assert found["seed-0"]["status"] == "done"


def test_a_line_that_was_cut_off_counts_as_none_and_the_next_one_is_whole(tmp_path):
    written(tmp_path, line("seed-0"))
    with (tmp_path / "results.jsonl").open("ab") as file:
        file.write(b'{"job": "seed-1", "poi\xe2')
    assert list(read_results(tmp_path)) == ["seed-0"]
    folder = SweepFolder(tmp_path)
    folder.append(line("seed-2"))
    folder.close()
    assert list(read_results(tmp_path)) == ["seed-0", "seed-2"]


def test_lines_of_another_form_are_left_out(tmp_path):
    written(tmp_path, line("seed-0"))
    with (tmp_path / "results.jsonl").open("a") as file:
        for other in ([1], {"job": 3}, {"job": "a"}):
            file.write(json.dumps(other) + "\n")
    assert list(read_results(tmp_path)) == ["seed-0"]


@pytest.mark.parametrize(
    "damage",
    [
        {"updates": "many"},
        {"train_seconds": None},
        {"weights_digest": "\x1b[2J"},
        {"varied": []},
        {"exact": {"optimal": True}},
        {"exact": [1]},
        {"episodes": {}},
        {"best_update": "x"},
    ],
)
def test_a_line_of_a_trained_job_that_lacks_what_it_should_have_counts_as_none(tmp_path, damage):
    written(tmp_path, line("seed-0"), line("seed-1", **damage), line("seed-2", "failed", **damage))
    assert list(read_results(tmp_path)) == ["seed-0", "seed-2"]


def test_a_folder_without_a_grid_is_no_sweep(tmp_path):
    with pytest.raises(UsageError, match="is no folder of a sweep"):
        read_sweep(tmp_path)
    assert read_results(tmp_path) == {}
