"""``deeptaxi tune``, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from deeptaxi.experiments import study
from tests.cli.conftest import LAKE, refused

TypeIn = Callable[..., Result]
SEARCH = ["tune", *LAKE, "--q-table", "--updates", 400, "--eval-every", 50, "--seeds", "0-1"]


def test_a_search_prints_one_document_and_resumes(type_in: TypeIn) -> None:
    Path("space.toml").write_text("[learning_rate]\nlow = 0.01\nhigh = 0.1\n", encoding="utf-8")
    result = type_in(*SEARCH, "--space", "space.toml", "--trials", 2, "--out", "found", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (document["trials"], document["best"]["solved"]) == (2, 2)
    assert document["config"] == str(Path("found/best.toml"))
    assert "2 of 2 trials" in result.stderr
    again = type_in("tune", "--resume", "found", "--trials", 3)
    assert again.exit_code == 0
    assert "3 trials: " in again.stdout
    table, _, file = again.stdout.partition("# Trial ")
    assert "Best trials" in table
    assert f"# Trial {file}" == Path("found/best.toml").read_text(encoding="utf-8")
    assert f"Saved in found; train with the best: deeptaxi train --config {Path('found/best.toml')}\n" in table
    trained = type_in("train", "--config", "found/best.toml", "--json")
    assert json.loads(trained.stdout)["exact"]["optimal"]
    refused(type_in(*SEARCH, "--out", "found"), 2, "found is taken: continue it with --resume found")


def test_wrong_use(type_in: TypeIn, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(type_in("tune", "--resume", "found", "--seeds", "0-1"), 2, "leave out --seeds")
    refused(type_in("tune", "--resume", "found", "--sampler-seed", 0), 2, "leave out --sampler-seed")
    refused(type_in("tune", "--resume", "found", "--discount", 0), 2, "leave out --discount")
    refused(type_in(*SEARCH, "--seed", 1), 2, "a search has several seeds: give --seeds")
    refused(type_in("tune"), 2, "nothing to train: name an environment")
    refused(type_in("tune", "--storage", "sqlite:///x.db", "--study", "x"), 2, "name ENV to begin it")
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    refused(type_in(*SEARCH), 2, "pip install 'deeptaxi[tune]'")
