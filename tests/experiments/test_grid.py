"""A grid of trainings: its seeds, its values and its jobs."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeptaxi.errors import UsageError
from deeptaxi.experiments.grid import (
    LARGEST_SEED,
    LONGEST_NAME,
    Grid,
    check_seeds,
    dump_grid,
    find_setting,
    format_seeds,
    grid_of,
    parse_axis,
    parse_seeds,
    program_of,
    read_grid,
)

LAKE = {"environment": {"id": "FrozenLake-v1"}}


def test_seeds_are_numbers_and_ranges():
    assert parse_seeds("0-3,7") == (0, 1, 2, 3, 7)
    assert parse_seeds("5") == (5,)
    assert parse_seeds(" 3, 1-2 ") == (3, 1, 2)
    assert parse_seeds(str(LARGEST_SEED)) == (LARGEST_SEED,)
    assert format_seeds((0, 1, 2, 3, 7, 9, 8)) == "0-3,7,9,8"


@given(st.lists(st.integers(0, 60), min_size=1, unique=True))
def test_seeds_are_read_as_they_are_written(seeds):
    assert parse_seeds(format_seeds(seeds)) == tuple(seeds)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("5-1", "write 1-5"),
        ("", "expected whole numbers"),
        ("0..3", "expected whole numbers"),
        ("-1", "expected whole numbers"),
        ("1,2,1", "1 is named twice"),
        ("0-3,2", "2 is named twice"),
        ("0-999999,999999", "999999 is named twice"),  # at once: not each of a million is counted
        ("0-999999,1000000-1999999", "at most 1,000,000 seeds$"),
        ("0-99999999", "at most 1,000,000"),
        ("9" * 19, "up to"),
    ],
)
def test_other_seeds_are_refused(text, fault):
    with pytest.raises(UsageError, match=fault):
        parse_seeds(text)


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1], [0.5], [True], [2**63], ["1"], 1.5, date(1979, 5, 27), None])
def test_seeds_of_python_are_whole_numbers_each_once(seeds):
    with pytest.raises(UsageError, match=r"^seeds"):
        check_seeds(seeds)
    assert check_seeds(range(3)) == (0, 1, 2)
    assert check_seeds(4) == (4,)


def test_axes_are_typed_as_settings():
    assert parse_axis("learning_rate=0.001,0.003") == ("learning_rate", (0.001, 0.003))
    assert parse_axis("network.hidden=64,128x64,none") == ("network.hidden", ([64], [128, 64], []))
    assert parse_axis("dueling=true,false") == ("dueling", (True, False))
    assert parse_axis("activation=relu,tanh") == ("activation", ("relu", "tanh"))
    assert parse_axis("environment.kwargs.is_slippery=true,false")[1] == (True, False)
    assert find_setting("--batch-size")[0] == find_setting("replay.batch_size")[0] == ("replay", "batch_size")


@pytest.mark.parametrize(
    ("axis", "fault"),
    [
        ("learning_rate", "expected NAME=VALUE"),
        ("learnin_rate=1", "did you mean 'learning_rate'"),
        ("seed=1,2", "given by --seeds"),
        ("environment.id=a,b", "given by --env"),
        ("hidden=64-32", "expected sizes such as 64 or 128x64"),
    ],
)
def test_other_axes_are_refused(axis, fault):
    with pytest.raises(UsageError, match=fault):
        parse_axis(axis)


def test_a_grid_is_every_combination_seeds_last():
    axes = {"learning_rate": (0.1, 0.2), "network.hidden": ([8], [8, 4])}
    grid = Grid((0, 5), ("FrozenLake-v1", "gw:Grid/World-v0"), axes, {"updates": 9})
    jobs = list(grid.jobs())
    assert grid.count == len(jobs) == 2 * 2 * 2 * 2
    assert len({job.name for job in jobs}) == len(jobs)
    assert [job.seed for job in jobs[:4]] == [0, 5, 0, 5]
    first, last = jobs[0], jobs[-1]
    assert first.name == "FrozenLake-v1_learning_rate=0.1_hidden=8/seed-0"
    assert last.name == "World-v0_learning_rate=0.2_hidden=8x4/seed-5"
    assert last.varied == {"env": "gw:Grid/World-v0", "learning_rate": 0.2, "network.hidden": [8, 4]}
    assert last.values == {
        "updates": 9,
        "seed": 5,
        "environment": {"id": "gw:Grid/World-v0"},
        "optimizer": {"learning_rate": 0.2},
        "network": {"hidden": [8, 4]},
    }


def test_arguments_of_a_network_join_those_of_all_jobs():
    network = {"builder": "net.py:build", "kwargs": {"depth": 2}}
    grid = Grid((0,), ("Taxi-v4",), {"network.kwargs.width": (4, 8)}, {"network": network})
    assert [job.values["network"]["kwargs"] for job in grid.jobs()] == [
        {"depth": 2, "width": 4},
        {"depth": 2, "width": 8},
    ]
    assert [job.point for job in grid.jobs()] == ["width=4", "width=8"]


def test_options_of_an_optimizer_join_those_of_all_jobs():
    optimizer = {"name": "adam", "options": {"amsgrad": True}}
    grid = Grid((0,), ("Taxi-v4",), {"optimizer.options.beta_1": (0.8, 0.9)}, {"optimizer": optimizer})
    assert [job.values["optimizer"]["options"] for job in grid.jobs()] == [
        {"amsgrad": True, "beta_1": 0.8},
        {"amsgrad": True, "beta_1": 0.9},
    ]


def test_a_group_of_seeds_has_one_point_without_a_name():
    jobs = list(Grid((3, 1), settings=LAKE).jobs())
    assert [(job.name, job.point, job.varied) for job in jobs] == [("seed-3", "", {}), ("seed-1", "", {})]


def test_long_names_are_shortened_and_stay_apart():
    values = tuple([size] * 40 for size in (8, 9))
    names = {job.point for job in Grid((0,), axes={"hidden": values}, settings=LAKE).jobs()}
    assert len(names) == 2
    assert all(len(name) <= LONGEST_NAME for name in names)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"settings": {}}, "nothing to train: name an environment"),
        ({"seeds": ()}, "nothing to train: name seeds"),
        ({"axes": {"learning_rate": ()}}, "no values"),
        ({"axes": {"learning_rate": (0.1, 0.1)}}, "given twice"),
        ({"axes": {"learning_rate": (-1.0,)}}, "expected a value above 0"),
        ({"axes": {"learning_rate": ("fast",)}}, "expected a number"),
        ({"axes": {"hidden": ([8],), "network.hidden": ([9],)}}, "hidden is the same setting"),
        ({"axes": {"environment.kwargs": ({"a": 1},)}}, "expected a single argument"),
        ({"environments": ("A", "A")}, "given twice"),
        ({"seeds": tuple(range(2_000)), "axes": {"updates": tuple(range(1, 1_000))}}, "at most 1,000,000"),
    ],
)
def test_a_grid_of_wrong_or_no_jobs_is_refused(changes, fault):
    with pytest.raises(UsageError, match=fault):
        Grid(**{"seeds": (0,), "settings": LAKE, **changes})


def test_real_numbers_share_a_program():
    axes = {"learning_rate": (0.1, 0.2), "hidden": ([8], [9]), "updates": (5, 6)}
    jobs = list(Grid((0,), ("A", "B"), axes).jobs())
    assert len({program_of(job) for job in jobs}) == 2 * 2 * 2
    assert program_of(jobs[0]) == program_of(next(job for job in jobs if job.varied["learning_rate"] == 0.2))


def test_a_grid_is_read_as_it_was_written(tmp_path):
    axes = {"learning_rate": (0.1, 0.2), "hidden": ((8,), (8, 4)), "environment.kwargs.is_slippery": (True, False)}
    settings = {"updates": 9, "environment": {"kwargs": {"desc": ("SF", "FG")}}}
    grid = Grid((0, 1, 2), ("FrozenLake-v1",), axes, settings, "frozenlake")
    (tmp_path / "sweep.toml").write_text(dump_grid(grid))
    again = grid_of(read_grid(tmp_path / "sweep.toml"))
    assert list(again.jobs()) == list(grid.jobs())
    assert again.settings["environment"]["kwargs"] == {"desc": ("SF", "FG")}  # a tuple, which TOML has not


def test_one_way_to_set_the_step_replaces_the_other_in_the_file(tmp_path):
    settings = {**LAKE, "optimizer": {"learning_rate": 0.1, "tabular_step": None}}
    (tmp_path / "sweep.toml").write_text(dump_grid(Grid((0,), settings=settings)))
    assert grid_of(read_grid(tmp_path / "sweep.toml")).settings["optimizer"] == {"learning_rate": 0.1}


def test_dotted_names_need_no_quotes(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text('environments = ["Taxi-v4"]\n[grid]\nnetwork.hidden = [[8]]\noptimizer.learning_rate = [0.1]\n')
    assert dict(grid_of(read_grid(path)).axes) == {"network.hidden": ([8],), "optimizer.learning_rate": (0.1,)}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("environment = []", "unknown key 'environment'; did you mean 'environments'"),
        ("environments = 'Taxi-v4'", "expected a list of names"),
        ("environments = ['T']\ngrid = 3", "expected a table of lists"),
        ("environments = ['T']\n[grid]\nlearning_rate = 0.1", "expected a table of lists"),
        ("environments = ['T']\n[settings]\nupdate = 3", "unknown key 'update'"),
        ("environments = ['T']\n[settings]\nseed = 3", "'settings.seed'"),
        ("environments = [", "cannot read"),
    ],
)
def test_other_files_are_refused(tmp_path, text, fault):
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(UsageError, match=fault):
        grid_of(read_grid(tmp_path / "sweep.toml"))
