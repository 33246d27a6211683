"""Callbacks of a user: what they are called with, and what becomes of a training that they end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import keras
import pytest

import deeptaxi
from deeptaxi.errors import CallbackError, UsageError
from deeptaxi.learning.callbacks import Event
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.metrics import read_history
from tests.api.conftest import CHAIN

LONG: dict[str, Any] = {**CHAIN, "early_stop": False}


class FailAt:
    """Fails at the first event of a kind from an update on, and counts what it is called with."""

    def __init__(self, kind: str, update: int = 0) -> None:
        self.kind = kind
        self.update = update
        self.seen: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        self.seen[event.kind] += 1
        if event.kind == self.kind and getattr(event, "update", 0) >= self.update:
            raise ZeroDivisionError("division\nby zero")


def test_functions_and_objects_are_called_with_every_event_in_order(table: TransitionTable) -> None:
    events: list[Event] = []
    counted = FailAt("never")
    run = deeptaxi.train(table, callbacks=[events.append, counted], **LONG)
    assert run.history is not None
    assert [event for event in events if event.kind != "checkpoint"] == list(run.history.records)
    kinds = [event.kind for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "finished")
    assert counted.seen == Counter(kinds)
    assert (counted.seen["evaluation"], counted.seen["snapshot"]) == (4, 4)
    last = [event for event in events if event.kind == "checkpoint"][-1]
    assert last.update == 400  # type: ignore[union-attr]


def test_stop_training_ends_it_with_its_result_whatever_else_callbacks_return(table: TransitionTable) -> None:
    def stop(event: Event) -> str:
        if event.kind == "evaluation":
            raise deeptaxi.StopTraining
        return "ignored"

    run = deeptaxi.train(table, callbacks=[stop, lambda event: event.kind == "progress"], **LONG)
    assert run.finished is not None
    assert (run.finished.stopped, run.finished.updates, run.failure) == ("interrupted", 100, None)


def test_a_callback_that_raises_ends_the_training_and_what_was_trained_is_kept(
    empty: Path, table: TransitionTable
) -> None:
    broken, other = FailAt("evaluation", 200), FailAt("never")
    with pytest.raises(CallbackError) as caught:
        deeptaxi.train(table, out="a", callbacks=[broken, other], **LONG)
    failure = "callback 'FailAt' failed at event 'evaluation', update 200: ZeroDivisionError: division by zero"
    assert str(caught.value) == f"{failure}; what was trained until then is kept in a"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    run = caught.value.run
    assert run.failure == read_history(Path("logs/a/metrics.jsonl")).failure == failure
    assert run.weights_digest == deeptaxi.load("a").weights_digest
    assert broken.seen["evaluation"] == 2  # it is not called again
    assert other.seen["finished"] == 1  # the others are
    whole = deeptaxi.train(table, **LONG)
    assert deeptaxi.train(resume="a").weights_digest == whole.weights_digest


def test_one_that_raises_before_there_is_anything_to_keep_leaves_the_name_free(
    empty: Path, table: TransitionTable
) -> None:
    with pytest.raises(CallbackError, match="at event 'progress', update 1: ") as caught:
        deeptaxi.train(table, out="a", callbacks=[FailAt("progress")], **LONG)
    assert caught.value.run is None
    assert not Path("a").exists()


def test_one_that_raises_at_the_end_costs_nothing(table: TransitionTable) -> None:
    with pytest.raises(CallbackError, match=r"at event 'finished', update 400: .* is this error's `run`$") as caught:
        deeptaxi.train(table, callbacks=[FailAt("finished")], **LONG)
    assert (caught.value.run.finished.stopped, caught.value.run.failure) == ("updates", None)


async def never(event: Event) -> None:
    raise AssertionError


def lazy(event: Event) -> Any:
    yield event


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([keras.callbacks.EarlyStopping()], "EarlyStopping is one of Keras, for Model.fit; here a callback is called"),
        (keras.callbacks.EarlyStopping(), "EarlyStopping is one of Keras"),
        ([keras.callbacks.Callback], "Callback is one of Keras"),
        ([FailAt], r"FailAt is a class: give an object of it, FailAt\(…\)"),
        (print, r"expected a list, received one of type builtin_function_or_method: callbacks=\[…\]"),
        ([3], "an object of type int cannot be called"),
        ("watch", "an object of type str cannot be called"),
        ([never], "'never' would not run when it is called: no async, no yield"),
        ([lazy], "'lazy' would not run"),
        ([lambda: None], "'<lambda>' does not take one argument"),
    ],
)
def test_what_is_no_callback_is_refused_in_a_line(callbacks: Any, message: str, table: TransitionTable) -> None:
    with pytest.raises(UsageError, match=f"^callbacks: {message}") as caught:
        deeptaxi.train(table, callbacks=callbacks, **LONG)
    assert "\n" not in str(caught.value)


SEEDS = {name: value for name, value in LONG.items() if name != "seed"}


def test_a_callback_may_end_the_training_of_each_seed(table: TransitionTable) -> None:
    def stop(event: Event) -> None:
        if event.kind == "evaluation" and event.update == 200:
            raise deeptaxi.StopTraining

    result = deeptaxi.train(table, seeds=range(2), callbacks=[stop], **SEEDS)
    assert not result.interrupted
    assert [run.finished.updates for run in result if run.finished] == [200, 200]


def test_a_callback_that_fails_ends_all_seeds_and_that_seed_is_trained_again(
    table: TransitionTable, tmp_path: Path
) -> None:
    place: dict[str, Any] = {"out": tmp_path / "seeds", "logs": tmp_path / "logs"}
    with pytest.raises(CallbackError, match=r"update 200: .* is kept in .*seeds.seed-0$") as caught:
        deeptaxi.train(table, seeds=range(2), callbacks=[FailAt("evaluation", 200)], **place, **SEEDS)
    assert caught.value.run is not None
    assert caught.value.run.finished.updates == 200
    again = deeptaxi.train(table, resume=tmp_path / "seeds", logs=place["logs"])
    assert [run.finished.updates for run in again if run.finished] == [400, 400]
    with pytest.raises(CallbackError, match=r"update 0: .*by zero"):
        deeptaxi.train(table, seeds=range(2), callbacks=[FailAt("started")], out=tmp_path / "typo", logs=place["logs"])
    assert not (tmp_path / "typo").exists()
