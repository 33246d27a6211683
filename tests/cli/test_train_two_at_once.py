"""Two trainings at once: into one place, and beside each other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import deeptaxi
from deeptaxi.metrics import Record, Started
from tests.cli.conftest import LAKE, refused

# Types a command, and tells whether that took Keras.
TYPE = """
import sys; from deeptaxi.cli.main import main
try:
    main()
finally:
    print(sorted({"keras", "tensorflow", "jax", "torch"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_second_training_into_the_same_folder_is_refused_at_once(type_in: Callable[..., Result]) -> None:
    second = ["train", *LAKE, "--q-table", "--out", "models/a"]
    refusals: list[str] = []

    def interfere(record: Record) -> None:
        if isinstance(record, Started):
            words = [sys.executable, "-c", TYPE, *second, "--force"]
            other = subprocess.run(words, capture_output=True, text=True, check=False)
            assert (other.returncode, other.stdout) == (2, "[]\n"), other.stderr
            refusals.append(other.stderr)
            refused(type_in(*second), 2, "models/a is in use by this process")
            refused(type_in(*second[:-1], "b/a"), 2, "logs/a is in use by this process")

    run = deeptaxi.train(
        "FrozenLake-v1",
        q_table=True,
        env_args={"is_slippery": False},
        updates=400,
        environments=8,
        batch_size=32,
        out="models/a",
        callbacks=[interfere],
    )
    assert len(refusals) == 1
    assert refusals[0].startswith("Error: models/a is in use by process ")
    assert refusals[0].count("\n") == 1
    assert run.folder is not None
    assert not Path("b").exists()
    assert not list(Path().rglob(".lock"))
    assert type_in(*second).exit_code == 2  # it exists now
    assert type_in("evaluate", "models/a", "--episodes", 1).exit_code == 0
