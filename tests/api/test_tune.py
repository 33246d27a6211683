"""Searches: what they find, keep and refuse. FrozenLake without slipping takes a Q table a tenth of a second."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

import deeptaxi
from deeptaxi.errors import UsageError
from deeptaxi.metrics import Finished

SPACE = {"learning_rate": {"low": 1e-6, "high": 0.1, "log": True}, "epsilon_end": {"low": 0.1, "high": 0.9}}
LAKE: dict[str, Any] = {
    "env": "FrozenLake-v1",
    "env_args": {"is_slippery": False},
    "q_table": True,
    "updates": 400,
    "eval_every": 50,
    "seeds": "0-1",
    "space": SPACE,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, before = tmp_path_factory.mktemp("search"), Path.cwd()
    os.chdir(folder)
    try:
        seen: list[int] = []
        return deeptaxi.tune(**LAKE, trials=9, watch=lambda trial, found: seen.append(trial["trial"])), seen, folder
    finally:
        os.chdir(before)


def test_a_search_finds_settings_and_keeps_them(searched: Any) -> None:
    result, seen, folder = searched
    assert seen == list(range(9))
    assert [trial["trial"] for trial in result.trials] == seen
    assert result.folder == Path("models/tune-frozenlake-v1-q-table")
    assert not result.interrupted
    best = result.best
    assert (best["solved"], best["seeds"]) == (2, 2)
    assert best["score"] >= max(trial["score"] or 0 for trial in result.trials)
    assert set(best["settings"]) == {"learning_rate", "epsilon_end"}
    assert result.first["trial"] == 0
    assert (folder / result.config_file).read_text() == result.best_toml


def test_what_cannot_learn_is_given_up() -> None:
    space = {"learning_rate": {"choices": [0.05, 1e-9]}}
    result = deeptaxi.tune(**{**LAKE, "space": space}, trials=14)
    pruned = [trial for trial in result.trials if trial["state"] == "pruned"]
    assert pruned
    assert {trial["settings"]["learning_rate"] for trial in pruned} == {1e-9}
    assert all(trial["score"] is None for trial in pruned)


def test_the_file_of_the_best_trains_what_the_trial_trained(searched: Any, tmp_path: Path) -> None:
    result, *_ = searched
    path = tmp_path / "best.toml"
    path.write_text(result.best_toml, encoding="utf-8")
    assert "seed" not in tomllib.loads(result.best_toml)
    updates = []
    for seed in (0, 1):
        run = deeptaxi.train("FrozenLake-v1", config=path, seed=seed)
        assert run.exact is not None
        assert run.exact["optimal"]
        assert run.config.optimizer.learning_rate == result.best["settings"]["learning_rate"]
        assert isinstance(run.history.finished, Finished)
        evaluations = [record for record in run.history.records if record.kind == "evaluation"]
        updates.append(next(record.update for record in evaluations if record.optimal))
    assert sum(updates) / 2 == result.best["updates"]


def test_the_document(searched: Any) -> None:
    document = searched[0].to_dict()
    assert document["trials"] == 9
    assert document["complete"] + document["pruned"] + document["failed"] == 9
    assert document["environment"]["id"] == "FrozenLake-v1"
    assert document["space"] == SPACE
    assert document["seeds"] == "0-1"
    assert "9 trials" in str(searched[0])


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(searched: Any) -> None:
    stopping: list[int] = []
    first = deeptaxi.tune(
        **LAKE, trials=9, watch=lambda trial, found: stopping.append(0), stop=lambda: len(stopping) >= 3
    )
    assert first.interrupted
    assert len(first.trials) == 3
    second = deeptaxi.tune(resume=first.folder, trials=9)
    assert not second.interrupted
    found = [[trial["settings"] for trial in result.trials] for result in (second, searched[0])]
    assert found[0][:5] == found[1][:5]  # later ones depend on times where trials tie
    assert len(found[0]) == 9
    assert deeptaxi.tune(resume=first.folder, trials=9).trials == second.trials, "nothing is left to do"


def test_a_study_elsewhere_is_joined_by_its_name() -> None:
    shared = {"storage": f"sqlite:///{Path.cwd() / 'shared.db'}", "study": "lake"}
    first = deeptaxi.tune(**LAKE, **shared, trials=2)
    assert (first.folder, first.config_file) == (None, None)
    assert first.best_toml is not None
    both = deeptaxi.tune(**shared, trials=3)
    assert len(both.trials) == 3
    assert both.trials[:2] == first.trials
    with pytest.raises(UsageError, match="--study lake searches something else"):
        deeptaxi.tune(**{**LAKE, "seeds": "5-9"}, **shared, trials=4)


def test_settings_that_exclude_each_other_fail_their_trial_alone() -> None:
    space = {"n_step": {"choices": [1, 3]}, "backup": {"choices": ["sample", "expected"]}}
    result = deeptaxi.tune(**{**LAKE, "space": space}, trials=8, sampler_seed=1)
    assert result.count("failed") + result.count("complete") + result.count("pruned") == 8
    failed = [trial for trial in result.trials if trial["state"] == "failed"]
    assert failed
    assert all("it cannot be used with --n-step 3" in trial["reason"] for trial in failed)
    assert all((trial["settings"]["n_step"], trial["settings"]["backup"]) == (3, "expected") for trial in failed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"env": None}, "name an environment"),
        ({"env": "Blackjack-v1", "env_args": None, "discover": False}, "has no transition table"),
        ({"trials": 0}, "expected a number of 1 or more"),
        ({"seed": 3}, "give --seeds"),
        ({"storage": "sqlite:///x.db"}, "--storage and --study go together"),
        ({"storage": "sqlite:///x.db", "study": "x", "out": "y"}, "leave out one of them"),
        ({"resume": "nowhere"}, "--resume continues the run unchanged: leave out --env"),
        ({"space": {"hiden": {"choices": [[3]]}}}, "did you mean 'hidden'"),
        ({"out": "."}, "it is not empty"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_written(options: dict[str, Any], said: str) -> None:
    Path("here").touch()
    with pytest.raises(UsageError) as caught:
        deeptaxi.tune(**{**LAKE, **options})
    assert said in str(caught.value)
    assert [path.name for path in Path.cwd().iterdir()] == ["here"]


def test_only_the_folder_of_a_search_is_resumed() -> None:
    with pytest.raises(UsageError, match="nowhere is no folder of a search"):
        deeptaxi.tune(resume="nowhere")
