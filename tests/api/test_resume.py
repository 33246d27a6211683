from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import deeptaxi
from deeptaxi.errors import UsageError
from deeptaxi.learning.callbacks import each_record
from deeptaxi.learning.trainer import NOT_EVALUATED
from deeptaxi.mdp import planning, stopping
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.metrics import Resumed, Started
from deeptaxi.storage import checkpoints
from deeptaxi.storage.checkpoints import Checkpoint
from tests.api.conftest import CHAIN
from tests.problems import chain, random_table


def test_a_training_on_a_table_in_memory_is_resumed_from_its_folder(empty: Path, table: TransitionTable) -> None:
    more = {**CHAIN, "early_stop": False}
    whole = deeptaxi.train(table, **more)
    part = deeptaxi.train(table, out="a", stop_after=110, **more)
    assert part.finished is not None
    assert part.finished.stopped == "stop-after"
    shutil.move("a", "b")  # with its table
    shutil.move("logs/a", "logs/b")
    records: list[object] = []
    rest = deeptaxi.train(resume="b", callbacks=[each_record(records.append)])
    assert rest.weights_digest == whole.weights_digest
    assert rest.to_dict()["resumed_from"] == 110
    assert [type(record) for record in records[:2]] == [Started, Resumed]
    assert rest.history is not None
    assert rest.history.finished is not None
    assert rest.history.started == records[0] or rest.history.started is not None
    assert deeptaxi.load("b").weights_digest == whole.weights_digest
    with pytest.raises(UsageError, match="has made all its"):
        deeptaxi.train(table, resume="b")
    with pytest.raises(UsageError, match="another transition table"):
        deeptaxi.train(chain(start=1, time_limit=20), resume="b", updates=500)


@pytest.mark.parametrize("evaluation", [1, 3])
def test_a_training_that_is_stopped_in_an_evaluation_is_saved_without_it_and_resumed(
    evaluation: int, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**CHAIN, "early_stop": False, "updates": 15, "eval_every": 5}
    problem = random_table(0, states=40, time_limit=5)
    whole = deeptaxi.train(problem, **settings)
    begun: list[int] = []
    plain = planning.evaluate_returns

    def evaluate_returns(*args: Any) -> Any:
        begun.append(1)
        return plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(stopping, "EVERY", 0.0)
        patch.setattr(stopping, "GRACE", 0.0)
        patch.setattr(planning, "evaluate_returns", evaluate_returns)
        part = deeptaxi.train(problem, out="a", stop=lambda: len(begun) >= evaluation, **settings)
    assert part.finished is not None
    assert (part.finished.stopped, part.finished.updates) == ("interrupted", 5 * evaluation)
    if evaluation == 1:
        assert part.to_dict()["exact"] is None
        assert "interrupted before its weights were evaluated" in str(part)
        assert part.exact_unavailable == part.to_dict()["exact_unavailable"] == NOT_EVALUATED
        assert NOT_EVALUATED in Path("a/card.md").read_text()
        judged = deeptaxi.evaluate(part, episodes=0)
        assert judged.exact is not None
        assert judged.exact == deeptaxi.load("a").exact
        assert judged.exact_unavailable is None
    else:
        assert part.exact is not None
        assert part.exact["mean_episode_length"] is None
        assert part.exact_unavailable is None
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(part)
        assert "Normalized score" in (text := console.export_text())
        assert "Episodes end" not in text
    assert deeptaxi.train(resume="a").to_dict()["exact"] == whole.exact
    with pytest.raises(UsageError, match="has made all its"):
        deeptaxi.train(resume="a")


def test_a_training_on_a_random_table_in_memory_is_resumed(empty: Path) -> None:
    deeptaxi.train(random_table(0, states=30, outcomes=3), out="a", stop_after=110, **CHAIN)
    assert deeptaxi.train(resume="a").finished is not None


def test_options_fixed_on_resume_are_refused(empty: Path) -> None:
    for given in ({"out": "b"}, {"config": "c.toml"}, {"preset": "taxi"}, {"force": True}):
        with pytest.raises(UsageError, match=f"leave out --{next(iter(given))}"):
            deeptaxi.train(resume="a", **given)  # type: ignore[arg-type]  # one after the other
    with pytest.raises(UsageError, match="stop_after = 0"):
        deeptaxi.train("FrozenLake-v1", stop_after=0)
    with pytest.raises(UsageError, match="checkpoint_every"):
        deeptaxi.train("FrozenLake-v1", checkpoint_every=0)


def test_a_run_from_before_sums_of_n_steps_were_corrected_goes_on_without_correction(
    empty: Path, table: TransitionTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**CHAIN, "early_stop": False, "n_step": 3, "n_step_correction": "none"}
    whole = deeptaxi.train(table, **settings)
    deeptaxi.train(table, out="a", stop_after=110, **settings)
    newest = checkpoints.newest

    def before_the_key(folder: Path) -> Checkpoint:
        found = newest(folder)
        text = str(found.about["config"])
        assert 'n_step_correction = "none"\n' in text
        return replace(found, about={**found.about, "config": text.replace('n_step_correction = "none"\n', "")})

    monkeypatch.setattr(checkpoints, "newest", before_the_key)
    with pytest.raises(UsageError, match="cannot change --n-step-correction on resume: a uses none, not watkins"):
        deeptaxi.train(resume="a", n_step_correction="watkins")
    assert deeptaxi.train(resume="a").weights_digest == whole.weights_digest
