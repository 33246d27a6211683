"""A factored network through every command, and what it is for: states that training never shows."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from deeptaxi.layers import OneHotDense
from deeptaxi.mdp import planning
from deeptaxi.mdp.table import load_table, save_table
from deeptaxi.network.tabulate import tabulate
from tests.cli.conftest import LAKE, QUICK, run
from tests.problems import two_jobs


@pytest.fixture(scope="module")
def factored_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: FrozenLake that does not slip, its row and its column encoded each by itself."""
    folder = tmp_path_factory.mktemp("factored") / "run"
    words = ["--encoding", "factored", "--hidden", "16", "--initial-value", "0.5", *QUICK, "--updates", 60]
    result = run("train", *LAKE, *words, "--out", folder, "--logs", folder.parent / "logs", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["encoding"] == "factored"
    return folder


def test_the_model_has_a_row_for_each_row_and_column_of_the_lake(factored_run: Path) -> None:
    network = keras.saving.load_model(factored_run / "model.keras")
    (first,) = [layer for layer in network.layers if isinstance(layer, OneHotDense)]
    assert (first.factors, first.kernel.shape) == ((4, 4), (8, 16))
    assert tabulate(network).shape == (16, 4)


def test_the_card_says_how_states_are_encoded(factored_run: Path, lake_run: Path) -> None:
    assert "| Network | dueling, hidden 16, factored encoding |" in (factored_run / "card.md").read_text()
    assert "| Network | q-table, joint encoding |" in (lake_run / "card.md").read_text()


@pytest.mark.parametrize("form", ["keras", "csv", "npz", "json", "savedmodel"])
def test_a_factored_network_is_exported_in_every_format(factored_run: Path, tmp_path: Path, form: str) -> None:
    words = ["export", factored_run, "--format", form, "--out", tmp_path / f"model.{form}", "--json"]
    done = json.loads(run(*words).stdout)
    assert done["states"] == 16
    assert done["max_difference"] <= (1e-6 if form == "savedmodel" else 0)


def test_a_factored_network_is_evaluated_and_trained_again(factored_run: Path, tmp_path: Path) -> None:
    summary = json.loads(run("evaluate", factored_run, "--episodes", 5, "--json").stdout)
    assert summary["exact"]["start_states"] == 1
    assert summary["episodes"]["count"] == 5
    words = ["--config", factored_run / "config.toml", "--out", tmp_path / "again", "--logs", tmp_path, "--json"]
    again = json.loads(run("train", *words).stdout)
    assert again["weights_digest"] in (factored_run / "card.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "seeds"), [("factored", range(2)), ("joint", range(1))])
def test_states_never_seen_are_generalized_to_by_their_factors(encoding: str, seeds: range, tmp_path: Path) -> None:
    # No episode starts where both jobs have 2 steps or more to go, and no action leads there: steps to go only fall.
    save_table(two_jobs(lambda a, b: ((a < 2) | (b < 2)) & (a + b > 0)), tmp_path / "seen.npz")
    save_table(two_jobs(lambda a, b: (a >= 2) & (b >= 2)), tmp_path / "unseen.npz")
    seen, unseen = (load_table(tmp_path / f"{name}.npz") for name in ("seen", "unseen"))
    assert not np.any(planning.reachable(seen) & (unseen.start > 0))

    words = ["--encoding", encoding, "--preset", "none", "--updates", 600, "--eval-every", 600]
    for seed in seeds:
        place = ["--seed", seed, "--out", tmp_path / str(seed), "--logs", tmp_path / "logs"]
        on_seen = json.loads(run("train", tmp_path / "seen.npz", *words, *place, "--json").stdout)["exact"]
        assert (on_seen["optimal_start_states"], on_seen["start_states"]) == (27, 27)
        words_unseen = ["--env", tmp_path / "unseen.npz", "--episodes", 0, "--json"]
        exact = json.loads(run("evaluate", tmp_path / str(seed), *words_unseen).stdout)["exact"]
        assert exact["start_states"] == 36
        assert exact["optimal_start_states"] >= 34 if encoding == "factored" else exact["optimal_start_states"] <= 12
