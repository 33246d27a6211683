from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.run import Run
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.exports import exporter
from deeptaxi.storage.formats import FORMATS
from tests.cli.conftest import run


def test_export_writes_the_same_files_as_the_command(lake: Run, lake_run: Path, empty: Path) -> None:
    done = deeptaxi.export(lake, "json", "lake.json")
    assert (done.states, done.max_difference) == (16, 0.0)
    assert run("export", lake_run, "--format", "json", "--out", "there.json").exit_code == 0
    assert Path("lake.json").read_bytes() == Path("there.json").read_bytes()
    deeptaxi.export(lake.network, "keras", "lake.keras")
    assert deeptaxi.load("lake.keras", lake.environment).weights_digest == lake.weights_digest
    agent = keras.saving.load_model("lake.keras")
    assert deeptaxi.evaluate(agent, lake.environment, episodes=0).exact is not None
    deeptaxi.export(agent, "json", "again.json", env=lake.environment)
    assert Path("again.json").read_bytes() == Path("lake.json").read_bytes()
    with pytest.raises(UsageError, match="another number of states"):
        deeptaxi.evaluate(agent, "CliffWalking-v1", episodes=0)
    for form, out, message in (("jsn", "x", "unknown format 'jsn'"), ("json", "lake.json", "exists")):
        with pytest.raises(UsageError, match=message):
            deeptaxi.export(lake, form, out)


def test_foreign_models_are_exported_as_the_q_table_that_they_compute(empty: Path) -> None:
    foreign = keras.Sequential([keras.Input((), dtype="int32"), keras.layers.Embedding(16, 4)], name="theirs")
    for model, message in ((None, "received an object of type NoneType"), (foreign, "pass its environment")):
        with pytest.raises(UsageError, match=message):
            deeptaxi.export(model, "json", "x.json")
    assert list(empty.iterdir()) == []
    q = foreign.get_weights()[0]
    deeptaxi.export(foreign, "npz", "q.npz", env="FrozenLake-v1")
    deeptaxi.export(q, "keras", "q.keras", env="FrozenLake-v1")
    for path in ("q.npz", "q.keras"):
        np.testing.assert_array_equal(deeptaxi.load(path, "FrozenLake-v1").q_values, q)


def test_a_policy_is_exported_to_tables_alone(empty: Path) -> None:
    policy = np.arange(16) % 4
    deeptaxi.export(policy, "csv", "p.csv", env="FrozenLake-v1")
    assert Path("p.csv").read_text().startswith("state,state_name,action,action_name\n")
    assert deeptaxi.load("p.csv", "FrozenLake-v1").policy.tolist() == policy.tolist()
    with pytest.raises(UsageError, match="a policy has no Q values, which plain computes: write one of csv, npz, json"):
        deeptaxi.export(policy, "plain", "p.keras", env="FrozenLake-v1")


def test_rounding_that_would_change_the_policy_is_refused(empty: Path) -> None:
    q = np.zeros((16, 4))
    q[7, 2] = 1 + 1e-12
    q[7, 1] = 1
    with pytest.raises(DeepTaxiError, match="another best action in 1 of 16 states, such as state 7"):
        deeptaxi.export(q, "csv", "q.csv", env="FrozenLake-v1")
    assert list(empty.iterdir()) == []


def test_the_exports_of_a_saved_run_include_its_card(
    lake_run: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "FORMATS", {name: FORMATS[name] for name in ("npz", "json")})
    deeptaxi.export(deeptaxi.load(lake_run), "all", "exports")
    assert {path.name for path in (empty / "exports").iterdir()} == {
        "q_table.npz", "q_table.json", "card.md", "card.json",
    }  # fmt: skip
