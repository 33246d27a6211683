"""Studies: the order of scores, when a trial is given up, and what a database keeps."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.experiments import study as study_module
from deeptaxi.experiments.study import (
    INTERRUPTED,
    LOOKS,
    Outcome,
    PruningCallback,
    ask,
    check_installed,
    ended,
    open_study,
    score,
    shortfall_of,
    tell,
)
from deeptaxi.learning.callbacks import StopTraining
from deeptaxi.metrics import Evaluated

UPDATES, EVERY = 1_000, 100
DEFINITION = {"settings": {}, "seeds": "0-1"}


def key(outcomes: tuple[Outcome, ...]) -> tuple[float, ...]:
    """Return what is compared one after the other."""
    shares = [one.updates / UPDATES if one.solved else 1 + one.shortfall for one in outcomes]
    return sum(one.solved for one in outcomes), -sum(shares), -sum(one.cpu_seconds for one in outcomes)


def test_scores_are_in_the_order_of_solved_then_updates_then_time() -> None:
    rng = random.Random(0)
    found = [
        tuple(
            Outcome(rng.random() < 0.5, rng.randrange(100, 1001, EVERY), rng.randrange(11) / 10, rng.random() * 100)
            for _ in range(3)
        )
        for _ in range(60)
    ]
    for one, other in itertools.combinations(found, 2):
        if abs(sum(key(one)[1:2]) - sum(key(other)[1:2])) < 1e-9 or key(one)[:2] != key(other)[:2]:
            better = round(key(one)[1], 9), key(one)[2]
            worse = round(key(other)[1], 9), key(other)[2]
            expected = (key(one)[0], *better) > (key(other)[0], *worse)
            assert (score(one, UPDATES, EVERY) > score(other, UPDATES, EVERY)) == expected


def test_a_score_by_hand() -> None:
    assert score([Outcome(True, 0, 0.0, 0.0)], 100, 50) == 1 + 1 / 2 + 0.5 / 16
    assert score([Outcome(False, 100, 1.0, 60.0)], 100, 50) == 0 + 0 + 0.5 / 16 / 2


def test_shortfalls() -> None:
    assert shortfall_of(0.0, 5.0) == 0
    assert shortfall_of(3.0, -5.0) == 0.5
    assert shortfall_of(100.0, 5.0) == 1
    assert shortfall_of(None, 5.0) == 1


class Recorded:
    """A trial that notes what is reported, and is given up at a step."""

    def __init__(self, last: int = 10**9) -> None:
        self.reports: dict[int, float] = {}
        self.last = last

    def report(self, value: float, step: int) -> None:
        self.reports[step] = value

    def should_prune(self) -> bool:
        return max(self.reports, default=0) >= self.last


def evaluation(update: int, gap: float) -> Evaluated:
    return Evaluated(update, gap == 0, 1 - gap, gap, gap, 1, int(gap == 0), None)


def test_each_seed_is_looked_at_eight_times_and_one_that_ends_early_fills_its_looks() -> None:
    trial = Recorded()
    pruning = PruningCallback(trial, 800)
    for update in range(50, 401, 50):
        pruning(evaluation(update, 1.0))
    assert trial.reports == dict.fromkeys(range(4), 0.5)  # a gap of 1 below an optimum of 1 is half
    pruning.end_seed(Outcome(True, 400, 0.0, 1.0))
    assert trial.reports == {**dict.fromkeys(range(4), 0.5), **dict.fromkeys(range(4, 8), 1.0)}
    pruning(evaluation(100, 1.0))
    assert trial.reports[LOOKS] == 0.75, "the mean over the seeds so far"


def test_since_when_a_policy_is_optimal() -> None:
    pruning = PruningCallback(Recorded(), 1000)
    for update, gap in ((100, 0.0), (200, 0.5), (300, 0.0), (400, 0.0)):
        pruning(evaluation(update, gap))
    assert pruning.optimal_since == 300


def test_a_trial_is_given_up() -> None:
    pruning = PruningCallback(Recorded(1), 800)
    pruning(evaluation(100, 1.0))
    assert not pruning.pruned
    with pytest.raises(StopTraining):
        pruning(evaluation(200, 1.0))
    assert pruning.pruned


def proposals(url: str | None, name: str, count: int) -> list[float]:
    with open_study(url, name, DEFINITION) as (study, _, _):
        for _ in range(count):
            trial = ask(study, 7)
            x = trial.suggest_float("x", 0, 1)
            tell(study, trial, x, "complete", {"settings": {"x": x}})
        return [trial["settings"]["x"] for trial in ended(study)]


def test_proposals_depend_on_the_seed_and_what_was_before_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    whole = proposals(None, "whole", 16)
    proposals(url, "parts", 11)
    assert proposals(url, "parts", 5) == whole
    assert len(set(whole)) == 16


def test_a_study_keeps_what_it_searches(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with open_study(url, "mine", DEFINITION) as (_, known, is_new):
        assert (known, is_new) == (DEFINITION, True)
    with open_study(url, "mine", None) as (_, known, is_new):
        assert (known, is_new) == (DEFINITION, False)
    with pytest.raises(UsageError, match="--study mine searches something else"):
        open_and_close(url, "mine", {**DEFINITION, "seeds": "0-9"})
    with pytest.raises(UsageError, match="--study other: there is none of this name in sqlite:"):
        open_and_close(url, "other", None)


def open_and_close(url: str, name: str, definition: Any) -> None:
    with open_study(url, name, definition):
        pass


def test_states_of_trials(tmp_path: Path) -> None:
    with open_study(None, "mine", DEFINITION) as (study, _, _):
        for state, value in (("complete", 1.0), ("pruned", None), ("failed", None), (INTERRUPTED, None)):
            tell(study, ask(study, 0), value, state, {"note": state})
        found = ended(study)
    assert [trial["state"] for trial in found] == ["complete", "pruned", "failed"], "one that was interrupted is none"
    assert found[0] == {"trial": 0, "state": "complete", "score": 1.0, "note": "complete"}


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "postgresql://user:secret@127.0.0.1:9/x", "nonsense"])
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(url: str) -> None:
    with pytest.raises(DeepTaxiError) as caught:
        open_and_close(url, "mine", DEFINITION)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_optuna_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'deeptaxi\[tune\]'"):
        check_installed()
