"""Cures are tried on a walk to a reward, in the loop that compiles nothing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api import try_cures
from deeptaxi.api.run import Run
from deeptaxi.errors import UsageError
from deeptaxi.metrics import to_json
from tests.problems import build, surely

SLOW: dict[str, Any] = {
    "loop": "gymnasium", "q_table": True, "updates": 300, "environments": 4, "batch_size": 16, "replay_start": 50,
    "eval_every": 100, "learning_rate": 1e-6, "hidden": None,
}  # fmt: skip


def walk(length: int = 4) -> Any:
    """A walk to the reward; action 0 stays where it is."""
    last = length - 1
    rows = [[surely(s, 0.001), surely(min(s + 1, last), float(s == last), s == last)] for s in range(length)]
    return build(rows, time_limit=30)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("bad")
    settings = {key: value for key, value in SLOW.items() if value is not None}
    return deeptaxi.train(walk(), out=folder / "run", logs=folder / "logs", **settings)


def test_the_first_cure_makes_it_optimal_and_the_run_stays_as_it_is(bad: Run) -> None:
    folder = Path(bad.name)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    found = deeptaxi.diagnose(folder, cure=True, budget=60)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert found.trials is not None
    first = found.trials.tried[0]
    assert first.optimal
    assert first.good
    assert first.seconds < 60
    assert found.trials.best == first
    assert first.command == f"deeptaxi train --config {folder / 'config.toml'} {first.cure}"
    document = found.to_dict()["cures"]
    assert document["tried"][0]["cured"] is True
    assert document["tried"][0]["reached"] == "optimal"
    assert document["best"] == first.command
    assert "NaN" not in to_json(document)
    assert "optimal" in str(found)
    again = deeptaxi.train(config=folder / "config.toml", learning_rate=bad_cure(first.cure))
    assert again.exact is not None
    assert again.exact["optimal"]


def bad_cure(cure: str) -> float:
    """Return the learning rate of a cure."""
    words = cure.split()
    return float(words[words.index("--learning-rate") + 1])


def test_what_was_learned_before_it_was_stopped_is_reported(bad: Run) -> None:
    asked = iter([False] * 3)
    found = deeptaxi.diagnose(bad, cure=True, stop=lambda: next(asked, True))
    assert found.trials is not None
    assert found.trials.interrupted
    assert any(one.updates < one.planned for one in found.trials.tried) or found.trials.not_tried
    assert "interrupted" in str(found)


def test_a_training_that_takes_longer_than_the_budget_is_not_begun(bad: Run) -> None:
    done = bad.finished
    assert done is not None
    assert bad.history is not None
    hours = dataclasses.replace(done, train_seconds=7_200.0)
    records = tuple(hours if record is done else record for record in bad.history.records)
    log = bad.log._replace(history=dataclasses.replace(bad.history, records=records))
    found = deeptaxi.diagnose(dataclasses.replace(bad, training_log=log), cure=True, budget=5)
    assert found.trials is not None
    assert not found.trials.tried
    assert re.fullmatch(r"it takes about \d+[.]\d hours: --budget \d+", found.trials.not_tried[0].why)
    with pytest.raises(UsageError, match="budget = 0"):
        deeptaxi.diagnose(bad, cure=True, budget=0)


def test_a_model_of_no_training_says_what_cannot_be_tried() -> None:
    found = deeptaxi.diagnose(np.eye(4, 2), walk(), cure=True)
    assert found.trials is not None
    assert "belongs to no training" in str(found.trials.unavailable)
    assert found.to_dict()["cures"]["tried"] == []


def test_a_good_agent_needs_no_cure() -> None:
    settings = {key: value for key, value in SLOW.items() if value is not None} | {"learning_rate": 0.05}
    found = deeptaxi.diagnose(deeptaxi.train(walk(), **settings), cure=True)
    assert found.trials is not None
    assert found.trials.unavailable == "there is nothing to cure"


@pytest.mark.parametrize(("seconds", "text"), [(5.2, "6 seconds"), (720, "12 minutes"), (12_600, "3.5 hours")])
def test_durations_are_said_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert try_cures.describe_seconds(seconds) == text
