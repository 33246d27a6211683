"""Compact groups: the same agents as in folders, in one file that may be killed, damaged or anybody's."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.sweep import SweepResult
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.experiments.results import read_results
from deeptaxi.storage import compact_group
from deeptaxi.storage.compact_group import CompactGroup, agents_in, find_agent, unpack
from deeptaxi.storage.run_folder import AGENTS_FILE
from tests.api.conftest import LAKE
from tests.boards import Wander
from tests.problems import chain, registered

QUICK: dict[str, Any] = {"updates": 12, "eval_every": 6, "environments": 2, "batch_size": 8, "replay_start": 16}


def train(folder: Path, **options: Any) -> SweepResult:
    """Train a group of two seeds, in folders."""
    return deeptaxi.train("FrozenLake-v1", **{"seeds": "0-1", "out": folder, "tensorboard": False, **LAKE, **options})


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, SweepResult]:
    """The same group in folders, and in one file."""
    place = tmp_path_factory.mktemp("both")
    return train(place / "folders", logs=place / "logs"), train(place / "file", compact=True)


@pytest.fixture
def group(both: tuple[SweepResult, SweepResult], tmp_path: Path) -> Path:
    """A copy of the compact group."""
    assert both[1].folder is not None
    return Path(shutil.copytree(both[1].folder, tmp_path / "group"))


def change(group: Path, command: str, *values: Any) -> None:
    connection = sqlite3.connect(group / AGENTS_FILE)
    connection.execute(command, values)
    connection.commit()
    connection.close()


def test_its_folder_holds_three_files(group: Path) -> None:
    assert sorted(path.name for path in group.iterdir() if path.name != ".lock") == [
        AGENTS_FILE, "results.jsonl", "sweep.toml",
    ]  # fmt: skip
    assert agents_in(group) == ["seed-0", "seed-1"]


def test_an_agent_is_that_of_a_folder(both: tuple[SweepResult, SweepResult]) -> None:
    for in_folder, in_file in zip(*both, strict=True):
        assert in_file.weights_digest == in_folder.weights_digest
        assert in_file.exact == in_folder.exact
        assert in_file.config == in_folder.config
        assert in_file.history is not None
        assert in_folder.history is not None
        assert [one.update for one in in_file.history.evaluations] == [
            one.update for one in in_folder.history.evaluations
        ]
        assert in_file.coverage is not None
        assert in_folder.coverage is not None
        np.testing.assert_array_equal(in_file.coverage.visits, in_folder.coverage.visits)


def test_lines_name_the_agents(both: tuple[SweepResult, SweepResult]) -> None:
    assert both[1].folder is not None
    assert [line["run"] for line in both[1].results] == [str(both[1].folder / f"seed-{seed}") for seed in (0, 1)]


def test_groups_of_both_kinds_compare_alike(both: tuple[SweepResult, SweepResult]) -> None:
    first, second = (deeptaxi.compare(result).to_dict() for result in both)
    names = ("seeds", "optimal", "updates_to_optimum", "score")
    known = [json.dumps([[one[name] for name in names] for one in found["groups"]]) for found in (first, second)]
    assert known[0] == known[1]


def test_an_agent_is_saved_as_a_run_of_its_own(both: tuple[SweepResult, SweepResult], tmp_path: Path) -> None:
    run = list(both[1])[1]
    saved = deeptaxi.load(run.save(tmp_path / "run", logs=tmp_path / "logs"))
    assert saved.weights_digest == run.weights_digest
    assert saved.history is not None


def test_it_is_trained_again_by_the_command_of_its_card(group: Path) -> None:
    card = json.loads((unpack(compact_group.Agent(group, "seed-1")) / "card.json").read_text())
    assert "seed-1/config.toml" in card["commands"]["train"]
    again = deeptaxi.train(config=group / "seed-1" / "config.toml")
    assert again.weights_digest == card["weights_digest"]


def test_what_a_killed_process_had_not_written_is_trained_again(group: Path) -> None:
    before = deeptaxi.load(group / "seed-1").weights_digest
    change(group, "DELETE FROM file WHERE agent = 'seed-1'")
    assert len(read_results(group)) == 2  # whose line was written at once
    again = deeptaxi.train(resume=group)
    assert [line["weights_digest"] for line in again.results][1] == before
    lines = (group / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [0, 1, 1]


def test_an_interrupted_agent_is_begun_again(tmp_path: Path) -> None:
    asked = iter(range(10**6))
    first = train(tmp_path / "group", compact=True, stop=lambda: next(asked) > 3)
    assert first.interrupted
    assert agents_in(tmp_path / "group") == [line["job"] for line in first.results]
    whole = deeptaxi.train(resume=tmp_path / "group")
    assert [line["seed"] for line in whole.results] == [0, 1]
    assert agents_in(tmp_path / "group") == ["seed-0", "seed-1"]


def test_a_crash_between_two_agents_leaves_the_committed_ones(group: Path) -> None:
    writing = CompactGroup(group)
    writing.add("seed-2", {"config.toml": b"seed = 2"})  # not committed
    writing._connection.close()  # as the end of a process closes it
    assert agents_in(group) == ["seed-0", "seed-1"]


def test_a_table_in_memory_is_there_once(tmp_path: Path) -> None:
    trained = deeptaxi.train(chain(), seeds="0-2", out=tmp_path / "group", compact=True, q_table=True, **QUICK)
    connection = sqlite3.connect(tmp_path / "group" / AGENTS_FILE)
    rows = connection.execute("SELECT agent, name FROM file WHERE name IN ('table.npz', 'model.keras')").fetchall()
    connection.close()
    assert sorted(rows) == [("", "model.keras"), ("", "table.npz")]
    runs = list(trained)
    assert [run.weights_digest for run in runs] == [line["weights_digest"] for line in trained.results]
    assert runs[0].exact is not None


def test_observations_that_are_numbered_as_they_come_are_kept(tmp_path: Path) -> None:
    with registered("Wander-v0", Wander) as name:
        trained = deeptaxi.train(name, seeds="0-1", out=tmp_path / "group", compact=True, **QUICK)
        first = next(iter(trained))
        assert first.weights_digest == trained.results[0]["weights_digest"]
        assert first.environment.numbering is not None
        assert "observations" in first.facts


def test_networks_of_ones_own_are_opened_by_their_code(tmp_path: Path) -> None:
    trained = deeptaxi.train(
        "FrozenLake-v1",
        network="tests.network.own_models:build",
        seeds="0-1",
        out=tmp_path / "group",
        compact=True,
        **QUICK,
    )
    opened = [deeptaxi.load(tmp_path / "group" / line["job"], trust_env=True) for line in trained.results]
    assert [run.weights_digest for run in opened] == [line["weights_digest"] for line in trained.results]
    assert len({run.weights_digest for run in opened}) == 2


def test_many_agents_are_not_unpacked_at_once(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_group, "KEPT", 1)
    first = deeptaxi.load(group / "seed-0")
    place = unpack(compact_group.Agent(group, "seed-1"))
    assert [path.name for path in place.parent.iterdir()] == ["seed-1"]
    assert first.history is not None  # its log was read with it


def test_only_an_agent_of_a_group_is_one(group: Path, tmp_path: Path) -> None:
    assert find_agent(group / "seed-1") == (group, "seed-1")
    assert find_agent(group / "results.jsonl") is None  # a file
    assert find_agent(tmp_path / "seed-1") is None
    with pytest.raises(UsageError, match=r"has no agent 'seed-7': it has seed-0, seed-1"):
        deeptaxi.load(group / "seed-7")
    with pytest.raises(UsageError, match=r"no checkpoints: --config .*seed-1/config.toml trains it from the beginning"):
        deeptaxi.train(resume=group / "seed-1")


def bomb() -> bytes:
    return zlib.compress(bytes(2**20))


@pytest.mark.parametrize(
    ("command", "values", "fault"),
    [
        ("UPDATE file SET content = ? WHERE name = 'config.toml'", (b"torn",), "is damaged"),
        ("UPDATE file SET content = 7 WHERE name = 'config.toml'", (), "is damaged"),
        ("UPDATE file SET content = ? WHERE name = 'config.toml'", (bomb(),), "larger than a model may be"),
        ("UPDATE file SET content = ? WHERE name = 'weights.npz'", (zlib.compress(b"x"),), "group/seed-1: .*corrupt"),
        ("DELETE FROM file WHERE name = 'weights.npz'", (), "seed-1 has no weights.npz"),
        ("DELETE FROM file WHERE name = 'model.keras'", (), "seed-1 has no model.keras"),
        ("PRAGMA user_version = 2", (), "of a newer deeptaxi"),
        ("ALTER TABLE file RENAME TO other", (), "has no table of files"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_said_in_one_line(
    group: Path, command: str, values: tuple[Any, ...], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact_group, "MAX_BYTES", 2**19)
    change(group, command, *values)
    with pytest.raises(DeepTaxiError, match=fault) as caught:
        deeptaxi.load(group / "seed-1")
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_said_in_one_line(group: Path) -> None:
    (group / AGENTS_FILE).write_bytes(b"no database" * 100)
    with pytest.raises(DeepTaxiError, match=r"agents\.sqlite cannot be read: file is not a database"):
        deeptaxi.load(group / "seed-1")
    with pytest.raises(DeepTaxiError, match="not a database"):
        deeptaxi.compare(group)


def test_a_name_that_leads_elsewhere_is_no_agent(group: Path) -> None:
    change(group, "UPDATE file SET agent = '../../elsewhere' WHERE agent = 'seed-1'")
    assert agents_in(group) == ["seed-0"]
    change(group, "UPDATE file SET name = '../config.toml' WHERE name = 'visits.npz'")
    place = unpack(compact_group.Agent(group, "seed-0"))
    assert not (place.parent / "config.toml").exists()


def test_an_agent_is_not_hidden_by_something_new(group: Path, tmp_path: Path) -> None:
    fault = "group/seed-1 is an agent of a compact group; choose another --out"
    with pytest.raises(UsageError, match=fault):
        deeptaxi.train("FrozenLake-v1", out=group / "seed-1", **LAKE)
    with pytest.raises(UsageError, match=fault):
        train(group / "seed-1", compact=True)
    with pytest.raises(UsageError, match=fault):
        deeptaxi.load(group / "seed-0").save(group / "seed-1")
    assert not (group / "seed-1").exists()
    assert deeptaxi.load(group / "seed-0").save(group / "best", logs=tmp_path / "logs") == group / "best"


@pytest.mark.parametrize("kind", ["gone", "folder", "nowhere", "pipe"])
def test_a_group_whose_file_is_gone_stays_compact(group: Path, kind: str) -> None:
    path = group / AGENTS_FILE
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "nowhere":
        path.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    if kind != "gone":
        for use in (lambda: deeptaxi.load(group / "seed-0"), lambda: deeptaxi.compare(group), lambda: resumed(group)):
            with pytest.raises(DeepTaxiError, match="not the agents of a group; once it is moved away, --resume"):
                use()
        path.rename(group.parent / "moved")
    resumed(group)
    assert agents_in(group) == ["seed-0", "seed-1"]
    assert not (group / "seed-0").exists()


def resumed(group: Path) -> SweepResult:
    return deeptaxi.train(resume=group)


def test_a_file_that_cannot_be_written_ends_the_training_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ended = tmp_path / "group", []
    monkeypatch.setattr(compact_group, "COMMIT_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)

    def replace_file(event: Any) -> None:
        if type(event).__name__ == "Finished":
            ended.append(event)
            if len(ended) == 2:
                (folder / AGENTS_FILE).rename(tmp_path / "moved")

    with pytest.raises(DeepTaxiError, match=rf"cannot write .*; then `deeptaxi train --resume {folder}` continues"):
        train(folder, compact=True, callbacks=[replace_file], seeds="0-3")
    assert len(ended) == 2
    resumed(folder)
    assert agents_in(folder) == [f"seed-{seed}" for seed in range(4)]


def test_a_group_is_no_run_and_says_which_are(group: Path, both: tuple[SweepResult, SweepResult]) -> None:
    for folder in (group, both[0].folder):
        with pytest.raises(UsageError, match=rf"holds several runs: name one of them, such as {folder}/seed-\d"):
            deeptaxi.load(folder)
    with pytest.raises(UsageError, match="seed-1 is an agent of a compact group, without files: name it itself"):
        deeptaxi.load(group / "seed-1" / "model.keras")
    with pytest.raises(UsageError, match=r"has no agent 'seed-9': it has seed-0, seed-1$"):
        deeptaxi.load(group / "seed-9")
