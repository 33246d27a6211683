"""evaluate, solve, load, diagnose, explain, export and listing: beside the JSON of their commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.run import Run
from deeptaxi.errors import UsageError
from deeptaxi.exports import exporter
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.storage.formats import FORMATS
from tests.cli.conftest import run
from tests.problems import SOUND, rows_of


def answer(*words: object) -> Any:
    return json.loads(run(*words, "--json").stdout)


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return json.loads(json.dumps(value))


def test_evaluate_says_what_the_command_says(lake_run: Path, lake: Run) -> None:
    assert deeptaxi.evaluate(lake_run, episodes=20, seed=4).to_dict() == answer(
        "evaluate", lake_run, "--episodes", 20, "--seed", 4
    )
    found = deeptaxi.evaluate(lake, "FrozenLake-v1", episodes=0, objective_discount=0.5, time_limit=7)
    words = ["--env", "FrozenLake-v1", "--episodes", 0, "--objective-discount", 0.5, "--time-limit", 7]
    there = answer("evaluate", lake_run, *words)
    assert {**found.to_dict(), "model": None} == {**there, "model": None}
    assert found.optimal is False  # it slips there
    assert "not optimal" in repr(found)
    assert str(found).startswith("frozenlake-v1-q-table-0 on FrozenLake-v1")


def test_evaluate_refuses_what_cannot_be(lake: Run, lake_run: Path) -> None:
    for model, arguments, message in (
        (lake, {"env": "Taxi-v4"}, "16 states and 4 actions, Taxi-v4 has 500 and 6"),
        (lake_run, {"env": "Taxi-v4"}, "16 states and 4 actions, Taxi-v4 has 500 and 6"),
        (lake, {"episodes": -1}, "expected 0 or more"),
        (lake, {"objective_discount": 1.5}, "expected a discount between 0 and 1"),
        ("nowhere", {}, "no model at nowhere"),
        (lake_run / "model.keras", {}, "does not record what it was trained on"),
    ):
        with pytest.raises(UsageError, match=message):
            deeptaxi.evaluate(model, **arguments)


def test_solve_says_what_the_command_says(table: TransitionTable, empty: Path) -> None:
    found = deeptaxi.solve("FrozenLake-v1", 0.9, env_args={"is_slippery": False}, time_limit=9)
    words = ["--env-arg", "is_slippery=false", "--time-limit", 9, "--objective-discount", 0.9]
    there = answer("solve", "FrozenLake-v1", *words)
    assert plain(found.to_dict()) == {key: there[key] for key in found.to_dict()}
    three = deeptaxi.solve(table, out="three.csv")
    assert three.discount == 0.9
    assert three.value.tolist() == pytest.approx([0.81, 0.9, 1.0])
    assert Path("three.csv").read_text(encoding="utf-8").count("\n") == 4
    for out, message in (("three.csv", "exists"), ("three.txt", r"\.csv, \.npz or \.json")):
        with pytest.raises(UsageError, match=message):
            deeptaxi.solve(table, out=out)
    with pytest.raises(UsageError, match="Blackjack-v1 has no true table"):
        deeptaxi.solve("Blackjack-v1")


def test_a_run_is_looked_at_on_a_table_and_on_an_open_environment(kept: Run, table: TransitionTable) -> None:
    elsewhere = deeptaxi.load(kept.folder or "", table)
    assert elsewhere.exact == kept.exact
    assert deeptaxi.evaluate(kept, elsewhere.environment, episodes=0).exact == kept.exact
    shorter = deeptaxi.load(kept.folder or "", table, time_limit=2)
    assert shorter.exact is not None
    assert shorter.exact["horizon"] == 2
    assert shorter.exact["return"] == 0


def test_diagnose_says_what_the_command_says(lake_run: Path, lake: Run) -> None:
    found = deeptaxi.diagnose(lake_run)
    assert plain(found.to_dict()) == answer("diagnose", lake_run)
    assert [finding.name for finding in found.findings] == [
        finding.name for finding in deeptaxi.diagnose(lake).findings
    ]
    assert found.optimal is True
    told = " ".join(str(found).split())  # a line is broken where the folder's name is long
    assert told.startswith(f"{lake_run} on FrozenLake-v1 is_slippery=false: its policy is optimal")
    log = deeptaxi.diagnose(lake_run.parent / "logs" / "run")
    assert log.history is not None
    assert log.optimal is None
    elsewhere = deeptaxi.diagnose(lake, "Taxi-v4")
    assert elsewhere.severe
    assert [finding.name for finding in elsewhere.findings] == ["wrong-environment"]
    assert "wrong-environment" in repr(elsewhere)


def test_an_update_is_explained_as_by_the_command_and_leaves_the_run_alone(lake_run: Path, lake: Run) -> None:
    before = lake.network.get_weights()
    found = deeptaxi.explain.update(lake, state=14, action=2, learning_rate=0.5)
    words = ["--state", 14, "--action", 2, "--learning-rate", 0.5]
    there = answer("explain", "update", lake_run, *words)
    assert plain({**found.to_dict(), "model": None}) == {**there, "model": None}
    for weight, same in zip(before, lake.network.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)
    assert "Compute the td_target" in str(found)
    assert repr(found).startswith("Explanation(update of FrozenLake-v1, state 14, action 2")
    written = deeptaxi.explain.update(None, "FrozenLake-v1", transitions=[(0, 1, -1, 4)], hidden=(8,), seed=1)
    assert written["outcome"] == "as given"
    with pytest.raises(UsageError, match="add --state"):
        deeptaxi.explain.update(lake, action=2)
    with pytest.raises(UsageError, match="configures a fresh network"):
        deeptaxi.explain.update(lake, state=1, hidden=(8,))
    with pytest.raises(UsageError, match="next state"):
        deeptaxi.explain.update(lake, transitions=[(1, 2)])


def test_gradients_are_explained_as_by_the_command(empty: Path) -> None:
    found = deeptaxi.explain.gradients(3, seed=2, aggregation="max", vectors="vectors.json")
    there = answer("explain", "gradients", "--actions", 3, "--seed", 2, "--aggregation", "max")
    assert {**found.to_dict(), "vectors": None} == there
    assert found["discrepancy"]["largest"] <= found["limit"]
    assert Path("vectors.json").exists()
    assert deeptaxi.explain.gradients(gradient=[0, 8])["dE_dV"]["autodiff"] == 8
    for arguments, message in (
        ({"actions": 0}, "from 1 to"),
        ({"actions": 3, "gradient": [1.0]}, "--actions is 3"),
        ({"gradient": [float("nan")]}, "finite"),
        ({"aggregation": "sum"}, "expected one of mean"),
        ({"vectors": "vectors.json"}, "exists"),
    ):
        with pytest.raises(UsageError, match=message):
            deeptaxi.explain.gradients(**arguments)


def test_export_writes_what_the_command_writes(lake: Run, lake_run: Path, empty: Path) -> None:
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


def test_what_is_no_model_of_ours_is_not_exported(empty: Path) -> None:
    foreign = keras.Sequential([keras.Input((), dtype="int32"), keras.layers.Embedding(16, 4)], name="theirs")
    for model, message in (
        (None, "received an object of type NoneType"),
        (foreign, "theirs cannot be exported: expected"),
    ):
        with pytest.raises(UsageError, match=message):
            deeptaxi.export(model, "json", "x.json")
    assert list(empty.iterdir()) == []


def test_the_exports_of_a_run_that_is_kept_have_its_card(
    lake_run: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "FORMATS", {name: FORMATS[name] for name in ("npz", "json")})
    deeptaxi.export(deeptaxi.load(lake_run), "all", "exports")
    assert {path.name for path in (empty / "exports").iterdir()} == {
        "q_table.npz", "q_table.json", "card.md", "card.json",
    }  # fmt: skip


def test_the_listings_are_those_of_the_commands(table: TransitionTable) -> None:
    assert plain(deeptaxi.listing.presets()) == answer("presets")
    there = answer("envs", "FrozenLake-v1", "--env-arg", "is_slippery=false")
    assert plain(deeptaxi.listing.envs("FrozenLake-v1", env_args={"is_slippery": False})) == there
    models = Path(__file__).parents[2] / "models"
    assert plain(deeptaxi.listing.zoo(models)) == answer("zoo", models)
    (row,) = deeptaxi.listing.envs(table)
    assert (row["id"], row["states"], row["optimal_return"]) == ("transition-table", 3, 1.0)
    with pytest.raises(UsageError, match="--env-arg needs the environment"):
        deeptaxi.listing.envs(env_args={"size": 3})


def test_a_table_is_made_of_lists_of_rows_or_of_a_file(table: TransitionTable, empty: Path) -> None:
    made = deeptaxi.TransitionTable(**SOUND)
    assert repr(made) == "TransitionTable(2 states, 1 action, 2 outcomes, 2 start states)"
    again = deeptaxi.TransitionTable.from_rows(rows_of(table), table.start)
    np.testing.assert_array_equal(again.next_state, table.next_state)
    table.save("three.npz")
    assert deeptaxi.TransitionTable.load("three.npz").state_names == ("first", "second", "last")
    with pytest.raises(UsageError, match="exists"):
        table.save("three.npz")
    with pytest.raises(deeptaxi.DeepTaxiError, match="different lengths"):
        deeptaxi.TransitionTable(**{**SOUND, "reward": [[[1.0], [2.0, 3.0]]]})
