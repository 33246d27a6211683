"""Clusters that Dask starts, with a stand-in for SLURM: what it would run elsewhere, it runs here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from distributed import Client

from deeptaxi.errors import UsageError
from deeptaxi.experiments.cluster_start import build_slurm, read_options, start_cluster
from tests.docs.console import blocks

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"
SBATCH = """#!/bin/sh
cp "$1" "{folder}/script"
setsid sh "{folder}/script" > "{folder}/worker.log" 2>&1 &
echo $! >> "{folder}/jobs"
echo $!
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do kill -- -"$job" "$job" 2>/dev/null; done
touch "{folder}/cancelled"
"""


def test_options_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('queue = "short"\nworker_extra_args = ["--no-nanny"]\n', encoding="utf-8")
    assert read_options(path) == {"queue": "short", "worker_extra_args": ["--no-nanny"]}
    path.write_text("queue = ", encoding="utf-8")
    with pytest.raises(UsageError, match=f"cannot read {path}"):
        read_options(path)


def test_slurm_needs_sbatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="there is no sbatch here"), start_cluster("slurm", 1, {}):
        pass


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        path = folder / name
        path.write_text(text.format(folder=folder), encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_wrong_option_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch)
    with (
        pytest.raises(UsageError, match=r"--cluster slurm: an option is wrong: .*'quue'"),
        start_cluster("slurm", 1, {"quue": "short"}),
    ):
        pass


@pytest.mark.slow
def test_workers_are_jobs_of_slurm_and_end_with_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch)
    with start_cluster("slurm", 1, {"local_directory": str(tmp_path)}) as address, Client(address) as client:
        client.wait_for_workers(1, timeout=60)
        assert list(client.nthreads().values()) == [1]
    assert (tmp_path / "jobs").read_text().count("\n") == 1
    assert (tmp_path / "cancelled").exists()


def test_the_files_of_the_guide_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {block.file: block.body for block in blocks(PAGE) if block.file}
    stand_in(tmp_path, monkeypatch)
    (tmp_path / "slurm.toml").write_text(files["slurm.toml"], encoding="utf-8")
    with build_slurm(read_options(tmp_path / "slurm.toml")) as cluster:
        script = cluster.job_script()
    for line in ("#SBATCH -p short", "#SBATCH --account=mine", ". .venv/bin/activate", "--nthreads 1"):
        assert line in script
    kinds = [document["kind"] for document in yaml.safe_load_all(files["deeptaxi.yaml"])]
    assert kinds == ["Service", "Deployment", "Deployment"]
    (tmp_path / "kubernetes.toml").write_text(files["kubernetes.toml"], encoding="utf-8")
    assert read_options(tmp_path / "kubernetes.toml")["image"] == "registry.example.org/deeptaxi"
