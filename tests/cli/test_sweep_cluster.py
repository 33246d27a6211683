"""``deeptaxi sweep --scheduler`` and ``--cluster``, as they are typed; what runs there is tested in `tests.api`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from deeptaxi.experiments import dask_cluster
from tests.cli.conftest import LAKE, refused

TypeIn = Callable[..., Result]
SWEEP = ["--env", *LAKE, "--q-table", "--out", "s"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scheduler", "somewhere"], "--scheduler somewhere: expected an address such as tcp://host:8786"),
        (["--scheduler", "tcp://h:1", "--workers", "2"], "the scheduler has the workers that it has"),
        (["--scheduler", "tcp://h:1", "--cluster", "slurm"], "leave out one of them"),
        (["--cluster", "slurm"], "say how many workers to ask for, such as --workers 20"),
        (["--cluster-options", "x.toml"], "--cluster-options are of --cluster slurm or --cluster kubernetes"),
    ],
)
def test_options_that_exclude_each_other(type_in: TypeIn, words: list[str], said: str) -> None:
    refused(type_in("sweep", *SWEEP, *words), 2, said)
    assert not Path("s").exists()


def test_a_scheduler_that_does_not_answer_leaves_nothing_behind(
    type_in: TypeIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "CONNECT", 0.5)
    result = type_in("sweep", *SWEEP, "--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 1
    assert "no scheduler answers at tcp://127.0.0.1:9 (tried for 0.5 s" in result.stderr
    assert not Path("s").exists()


def test_a_missing_package_names_its_extra(type_in: TypeIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "find_spec", lambda name: None)
    refused(type_in("sweep", *SWEEP, "--scheduler", "tcp://h:1"), 2, "pip install 'deeptaxi[dask]'")
