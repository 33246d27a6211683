"""Links in the place of what is written or removed: nothing is followed, nothing of others is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from tests.cli.conftest import LAKE, QUICK, refused, run

TypeIn = Callable[..., Result]
TRAIN = ["train", *LAKE, "--q-table", *QUICK, "--out", "models/a"]


def others(folder: Path) -> list[Path]:
    """Make files of somebody else that are named as ours might be."""
    folder.mkdir()
    paths = [folder / name for name in ("1.npz", "2024.npz", "000001.npz", "000002.npz", "000003.npz", "table.npz")]
    for path in paths:
        np.savez(path, mine=np.arange(3))
    return paths


@pytest.mark.parametrize("words", [TRAIN, [*TRAIN, "--force"], ["train", "--resume", "models/a"]])
def test_a_folder_of_checkpoints_that_is_a_link_is_refused(type_in: TypeIn, words: list[object]) -> None:
    paths = others(Path("others"))
    Path("models/a").mkdir(parents=True)
    Path("models/a/checkpoints").symlink_to(Path("others").resolve())
    refused(type_in(*words), 2, "models/a/checkpoints is a link, which is not followed: remove it")
    assert all(path.exists() for path in paths)
    assert [path.name for path in Path("models/a").iterdir()] == ["checkpoints"]


def test_foreign_files_among_the_checkpoints_stay(type_in: TypeIn) -> None:
    Path("models/a").mkdir(parents=True)
    paths = others(Path("models/a/checkpoints"))
    Path("others").mkdir()
    shutil.copy(paths[2], "others/000009.npz")
    Path("models/a/checkpoints/000009.npz").symlink_to(Path("others/000009.npz").resolve())
    assert type_in(*TRAIN, "--force", "--checkpoint-every", 1e-9).exit_code == 0
    ours = sorted(path.name for path in Path("models/a/checkpoints").iterdir() if path not in paths)
    assert all(path.exists() for path in [*paths, Path("others/000009.npz")])
    assert ours[0] == "000009.npz"
    assert len(ours) <= 3


def test_a_hard_linked_lock_is_refused_and_not_written_to(type_in: TypeIn) -> None:
    Path("mine.txt").write_text("mine")
    Path("models/a").mkdir(parents=True)
    os.link("mine.txt", "models/a/.lock")
    refused(type_in(*TRAIN), 1, "cannot lock models/a: ", "models/a/.lock is a link to another file; remove it")
    assert Path("mine.txt").read_text() == "mine"
    assert Path("models/a/.lock").samefile("mine.txt")


def test_a_log_backup_that_is_a_link_is_refused(type_in: TypeIn) -> None:
    Path("others").mkdir()
    Path("others/metrics.jsonl").write_text("mine")
    Path("logs/a").mkdir(parents=True)
    Path("logs/a/.previous").symlink_to(Path("others").resolve())
    refused(type_in(*TRAIN), 2, "logs/a/.previous is a link")
    assert Path("others/metrics.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    "place",
    ["models/a/model.keras", "models/a/config.toml", "models/a/card.md", "models/a/card.json", "logs/a/metrics.jsonl"],
)
def test_a_link_in_a_run_or_a_log_is_not_written_through(type_in: TypeIn, place: str) -> None:
    Path(place).parent.mkdir(parents=True)
    Path(place).symlink_to(Path("nowhere").resolve())
    refused(type_in(*TRAIN), 2, f"{place} exists and is something else")
    Path("nowhere").write_text("mine")
    refused(type_in(*TRAIN), 2, f"{place} exists; choose another --out, or overwrite it with --force")


def test_force_replaces_a_link_and_not_its_target(type_in: TypeIn) -> None:
    Path("mine").write_text("mine")
    for place in ("models/a/model.keras", "models/a/config.toml", "logs/a/metrics.jsonl", "logs/a/visits.npz"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).symlink_to(Path("mine").resolve())
    assert type_in(*TRAIN, "--force").exit_code == 0
    assert Path("mine").read_text() == "mine"
    assert not any(path.is_symlink() for top in ("models", "logs") for path in Path(top).rglob("*"))


@pytest.mark.parametrize(
    "words",
    [
        ["report", "RUN", "--out", "link.html"],
        ["export", "RUN", "--format", "npz", "--out", "link.npz"],
        ["export", "RUN", "--format", "savedmodel", "--out", "link.npz"],
        ["solve", "FrozenLake-v1", "--out", "link.csv"],
        ["watch", "RUN", "--gif", "link.gif"],
        ["explain", "gradients", "--vectors", "link.json"],
    ],
)
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_dangling_link_counts_as_an_existing_file(
    type_in: TypeIn, lake_run: Path, words: list[str], force: list[str]
) -> None:
    link = Path(words[-1])
    link.symlink_to("nowhere")
    refused(run(*(str(lake_run) if word == "RUN" else word for word in words), *force), 2, f"{link} exists")
    assert link.is_symlink()
    assert not Path("nowhere").exists()
