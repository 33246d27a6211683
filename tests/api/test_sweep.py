"""Sweeps: each job is an ordinary run, whoever runs it, and whatever interrupts it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.sweep import SweepResult, median
from deeptaxi.errors import UsageError
from deeptaxi.experiments.results import read_results
from deeptaxi.network.build import weights_digest
from tests.api.conftest import LAKE
from tests.problems import chain

GRID: dict[str, Any] = {"env": "FrozenLake-v1", "grid": {"learning_rate": [0.05, 0.02]}, "seeds": "0-1"}
SETTINGS = {"hidden": (), "dueling": False, **{name: value for name, value in LAKE.items() if name != "q_table"}}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """Two steps and two seeds, in this process."""
    folder = tmp_path_factory.mktemp("swept")
    return deeptaxi.sweep(**GRID, **SETTINGS, workers=0, out=folder / "sweep", logs=folder / "logs")


def digests(result: SweepResult) -> dict[str, str]:
    return {line["job"]: line["weights_digest"] for line in result.results}


def test_each_job_is_the_run_of_its_own_command(swept: SweepResult) -> None:
    alone = deeptaxi.train("FrozenLake-v1", seed=1, learning_rate=0.02, **LAKE)
    assert digests(swept)["learning_rate=0.02/seed-1"] == alone.weights_digest
    assert len(set(digests(swept).values())) == 4
    assert swept.folder is not None
    saved = deeptaxi.load(swept.folder / "learning_rate=0.02" / "seed-1")
    assert saved.weights_digest == alone.weights_digest
    assert saved.exact == alone.exact
    assert saved.finished is not None
    assert [run.weights_digest for run in swept] == list(digests(swept).values())


def test_its_document_counts_what_its_lines_say(swept: SweepResult) -> None:
    document = swept.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert (document["jobs"], document["done"], document["failed"], document["interrupted"]) == (4, 4, 0, False)
    assert document["optimal"] == sum(line["exact"]["optimal"] for line in document["runs"]) == 4
    assert [point["varied"] for point in document["points"]] == [{"learning_rate": 0.05}, {"learning_rate": 0.02}]
    assert [point["seeds"] for point in document["points"]] == [2, 2]
    assert "2 of 2" in str(swept)


def test_workers_change_nothing_in_the_result(swept: SweepResult, tmp_path: Path) -> None:
    seen: list[str] = []
    result = deeptaxi.sweep(
        **GRID,
        **SETTINGS,
        workers=2,
        out=tmp_path / "sweep",
        logs=tmp_path / "logs",
        watch=lambda line, progress: seen.append(f"{line['job']} {progress.done}"),
    )
    assert digests(result) == digests(swept)
    assert len(seen) == 4
    assert seen[-1].endswith(" 4")


def test_an_interrupted_sweep_goes_on_where_it_was(swept: SweepResult, tmp_path: Path) -> None:
    folder, lines = tmp_path / "sweep", []
    result = deeptaxi.sweep(
        **GRID,
        **SETTINGS,
        workers=0,
        out=folder,
        logs=tmp_path / "logs",
        stop=lambda: len(lines) == 2,
        watch=lambda line, _progress: lines.append(line),
    )
    assert result.interrupted
    assert len(result) == 2
    shutil.rmtree(folder / lines[1]["job"])  # the user wants it again
    again = deeptaxi.sweep(resume=folder, workers=0, logs=tmp_path / "logs")
    assert not again.interrupted
    assert digests(again) == digests(swept)
    names = [json.loads(line)["job"] for line in (folder / "results.jsonl").read_text().splitlines()]
    assert names[:2] == [line["job"] for line in lines]
    assert sorted(names[2:]) == sorted({*digests(swept)} - {lines[0]["job"]})  # what is done is not done again
    assert [run.weights_digest for run in again] == list(digests(swept).values())


def test_a_job_that_was_stopped_in_the_middle_is_resumed_to_the_same_weights(
    swept: SweepResult, tmp_path: Path
) -> None:
    asked = iter(range(10**6))
    options = {"workers": 0, "out": tmp_path / "sweep", "logs": tmp_path / "logs", "checkpoint_every": 1e-6}
    result = deeptaxi.sweep(**GRID, **SETTINGS, **options, stop=lambda: next(asked) > 4)
    assert result.interrupted
    assert len(result) == 0
    assert list((tmp_path / "sweep").glob("*/*/checkpoints/*.npz"))
    again = deeptaxi.sweep(resume=tmp_path / "sweep", workers=0, logs=tmp_path / "logs")
    assert digests(again) == digests(swept)
    assert not list((tmp_path / "sweep").glob("*/*/checkpoints/*.npz"))


def test_a_job_that_has_ended_keeps_no_checkpoint(tmp_path: Path) -> None:
    options = {"workers": 0, "out": tmp_path / "sweep", "logs": tmp_path / "logs", "checkpoint_every": 1e-6}
    result = deeptaxi.sweep(env="FrozenLake-v1", **SETTINGS, **options)
    assert len(result) == 1
    assert not list((tmp_path / "sweep").glob("**/*.npz"))


def test_a_job_that_fails_is_told_and_does_not_stop_the_others(tmp_path: Path) -> None:
    diverges = {**GRID, "grid": {"learning_rate": [1e30, 0.05]}, "seeds": [0]}
    result = deeptaxi.sweep(**diverges, **SETTINGS, workers=0, out=tmp_path / "sweep", logs=tmp_path / "logs")
    assert [line["status"] for line in result.results] == ["failed", "done"]
    assert "diverged" in result.failed[0]["reason"]
    assert "failed" in str(result)
    assert result.to_dict()["failed"] == 1


def test_settings_that_exclude_each_other_are_no_job(tmp_path: Path) -> None:
    grid = {"loop": ["compiled", "fit"], "exploring_starts": [0.0, 0.1]}
    with pytest.raises(UsageError, match=r"loop=fit_exploring_starts=0.1: --exploring-starts sets"):
        deeptaxi.sweep(env="FrozenLake-v1", grid=grid, workers=0, out=tmp_path / "sweep")
    assert not list(tmp_path.iterdir())


def test_lines_of_jobs_that_failed_are_tried_again(swept: SweepResult, tmp_path: Path) -> None:
    assert swept.folder is not None
    folder = shutil.copytree(swept.folder, tmp_path / "sweep")
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    lines[0] = {**{key: lines[0][key] for key in ("job", "point", "seed", "varied")}, "status": "failed", "reason": "x"}
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = deeptaxi.sweep(resume=folder, workers=0, logs=tmp_path / "logs")
    assert digests(result) == digests(swept)
    assert read_results(folder)[lines[0]["job"]]["status"] == "done"


def test_a_taken_folder_is_refused(swept: SweepResult, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is taken: resume it with --resume"):
        deeptaxi.sweep(**GRID, out=swept.folder)
    (tmp_path / "note.txt").touch()
    named = shutil.copytree(swept.folder, tmp_path / "two words" / "sweep") if swept.folder else tmp_path
    with pytest.raises(UsageError, match=r"resume it with --resume '.*two words/sweep'"):
        deeptaxi.sweep(**GRID, out=named)
    shutil.rmtree(named.parent)
    with pytest.raises(UsageError, match="is taken: it is not empty"):
        deeptaxi.sweep(**GRID, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_the_logs_of_another_sweep_are_refused_before_anything_is_trained(swept: SweepResult, tmp_path: Path) -> None:
    assert swept.folder is not None
    logs = swept.folder.parent / "logs"
    with pytest.raises(UsageError, match=r"is the log of .*: choose another --out or --logs"):
        deeptaxi.sweep(**GRID, **SETTINGS, workers=0, out=tmp_path / "sweep", logs=logs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({}, "nothing to train: name an environment"),
        ({"env": "FrozenLake-v9"}, "unknown environment 'FrozenLake-v9'"),
        ({"env": "FrozenLake-v1", "seed": 3}, "give --seeds"),
        ({"env": "FrozenLake-v1", "workers": -1}, "expected a number of 0 or more"),
        ({"env": "FrozenLake-v1", "learnin_rate": 3}, "did you mean 'learning_rate'"),
        ({"env": "FrozenLake-v1", "network": "no_such_module:build"}, "no_such_module"),
        ({"env": "FrozenLake-v1", "config": {"network": {"builder": "net:build"}}}, "pass --trust-env"),
        ({"env": "FrozenLake-v1", "network": lambda states, actions: None}, "has no name for a worker"),
    ],
)
def test_other_sweeps_are_refused_before_anything_is_written(
    arguments: dict[str, Any], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=fault):
        deeptaxi.sweep(**arguments)
    assert not list(tmp_path.iterdir())


def test_a_file_says_what_is_swept_and_arguments_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'environments = ["Taxi-v4"]\nseeds = "0-9"\n[grid]\nlearning_rate = [0.1]\n[settings]\nupdates = 2\n'
    )
    result = deeptaxi.sweep(
        path, env=["FrozenLake-v1"], seeds=[4], environments=2, workers=0, out=tmp_path / "s", logs=tmp_path / "l"
    )
    assert [(line["job"], line["environment"]) for line in result.results] == [
        ("learning_rate=0.1/seed-4", "FrozenLake-v1")
    ]
    assert result.results[0]["updates"] == 2


def test_seeds_give_the_agents_of_their_own_trainings(tmp_path: Path) -> None:
    group = deeptaxi.train("FrozenLake-v1", seeds=range(2), out=tmp_path / "group", logs=tmp_path / "logs", **LAKE)
    alone = [deeptaxi.train("FrozenLake-v1", seed=seed, **LAKE).weights_digest for seed in range(2)]
    assert [line["weights_digest"] for line in group.results] == alone
    assert sorted(path.name for path in (tmp_path / "group").iterdir()) == [
        "results.jsonl",
        "seed-0",
        "seed-1",
        "sweep.toml",
    ]
    assert len(deeptaxi.train(resume=tmp_path / "group")) == 2


def test_seeds_train_on_objects_of_python_too() -> None:
    events: list[Any] = []
    settings = {"hidden": (), "dueling": False, "updates": 20, "environments": 2, "batch_size": 4}
    group = deeptaxi.train(chain(), seeds="3,5", callbacks=[events.append], **settings)
    assert [run.weights_digest for run in group] == [
        deeptaxi.train(chain(), seed=seed, **settings).weights_digest for seed in (3, 5)
    ]
    assert sum(event.kind == "finished" for event in events) == 2
    with pytest.raises(UsageError, match="leave out --seed"):
        deeptaxi.train(chain(), seeds="3,5", seed=1, **settings)


def test_the_networks_of_a_group_are_its_users_alone() -> None:
    """Agents are trained one after the other by a network that each borrows; nobody else may hold that."""
    settings = {"hidden": (4,), "updates": 20, "environments": 2, "batch_size": 4}
    alone = {seed: deeptaxi.train(chain(), seed=seed, **settings).weights_digest for seed in (3, 4, 5)}
    first, second = deeptaxi.train(chain(), seeds="3,4", **settings)
    held = first.network
    before = held.get_weights()
    assert held is not second.network
    second.network.set_weights([weight + 1 for weight in before])  # a user trains it further
    (third,) = deeptaxi.train(chain(), seeds="5", **settings)
    assert third.weights_digest == alone[5]
    assert all(np.array_equal(one, two) for one, two in zip(before, held.get_weights(), strict=True))
    assert first.weights_digest == alone[3]
    assert weights_digest(third.network) == alone[5]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [({"env": "Taxi-v4"}, "env"), ({"seeds": 0}, "seeds"), ({"learning_rate": 0.1}, "learning-rate"),
     ({"q_table": True}, "q-table"), ({"epsilon_end": 0.0}, "epsilon-end"), ({"early_stop": False}, "early-stop"),
     ({"env_args": {"is_slippery": True}}, "env-arg")],
)  # fmt: skip
def test_what_is_resumed_has_its_settings(swept: SweepResult, arguments: dict[str, Any], option: str) -> None:
    for resume in (deeptaxi.sweep, deeptaxi.train):
        with pytest.raises(UsageError, match=f"--resume continues the run unchanged: leave out --{option}$"):
            resume(resume=swept.folder, **arguments)


def test_no_seeds_are_no_group() -> None:
    with pytest.raises(UsageError, match="seeds: expected 1 to"):
        deeptaxi.train(chain(), seeds=[])


def test_medians_are_of_the_middle() -> None:
    assert (median([]), median([3]), median([4, 1, 3]), median([4, 1])) == (None, 3, 3, 2.5)
