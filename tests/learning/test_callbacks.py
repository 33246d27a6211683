from __future__ import annotations

import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.learning.callbacks import StopTraining, each_record, stop_when, warn_first
from deeptaxi.learning.state import CheckpointEvent, TrainingState
from deeptaxi.learning.trainer import train
from deeptaxi.metrics import Progress, Resumed, Started, Warned
from tests.learning.helpers import opened_problem
from tests.problems import chain

STARTED = Started("chain", 3, 2, "q-table", "compiled", 0, 20, 0.1, None, 0.0)
WARNING = Warned(7, "odd", "odd: it is odd")


def checkpoint(update, last=False):
    return CheckpointEvent(update, last, lambda: TrainingState({}, {}))


def test_a_condition_stops_between_two_updates_but_not_at_the_end():
    check = stop_when(lambda: True)
    assert check(STARTED) is None
    assert check(checkpoint(3, last=True)) is None
    with pytest.raises(StopTraining):
        check(checkpoint(3))
    assert stop_when(lambda: False)(checkpoint(3)) is None


def test_a_function_of_records_is_not_called_with_checkpoints():
    seen = []
    callback = each_record(seen.append)
    for event in (STARTED, checkpoint(1), WARNING):
        callback(event)
    assert seen == [STARTED, WARNING]


def test_first_warnings_follow_the_first_record_after_the_start_once():
    callback = warn_first([WARNING])
    assert callback(STARTED) == []
    assert callback(Resumed(7)) == [WARNING]
    assert callback(Resumed(7)) == []


@pytest.fixture
def problem(tmp_path):
    return opened_problem(chain(time_limit=9), tmp_path, loop="gymnasium", updates=20, replay={"start": 0})


def test_what_a_callback_returns_reaches_all_callbacks_in_order(problem):
    seen = []

    def warn(event):
        return [WARNING] if isinstance(event, Progress) and event.update == 1 else None

    records = list(train(*problem, [each_record(seen.append), warn]))
    assert seen == records
    assert records.index(WARNING) == 1 + next(i for i, record in enumerate(records) if isinstance(record, Progress))


def test_any_callback_may_end_the_training_and_its_result_is_kept(problem):
    def stop(event):
        if isinstance(event, Progress) and event.update == 8:
            raise StopTraining

    *_, last = train(*problem, [stop])
    assert (last.stopped, last.updates) == ("interrupted", 8)


def test_an_error_of_a_callback_is_no_failure_of_the_environment(problem):
    def fail(event):
        if isinstance(event, Progress) and event.update == 8:
            raise DeepTaxiError("the disk is on fire")

    with pytest.raises(DeepTaxiError, match=r"^the disk is on fire$"):
        list(train(*problem, [fail]))
