from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from types import MappingProxyType

import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.metrics import (
    Evaluated,
    Finished,
    History,
    Progress,
    Snapshot,
    Started,
    Tracked,
    Warned,
    from_line,
    read_history,
    to_json,
    to_line,
)

STARTED = Started("Tâxi-v4", 500, 6, "dueling", "fit", 0, 100, 0.1, None, 1.5)
PROGRESS = Progress(10, 320, 0.5, 0.25, 0.1, 0.9, 0.003, 0, None)
EVALUATED = Evaluated(10, False, -1.5, 2.5, 3.5, 300, 200, 0.75)
SNAPSHOT = Snapshot(10, -3.5, 20.0, 1.5, None, None, 2, 0.25, 400, 2300)
WARNED = Warned(10, "one-action-collapse", "one action in 99 % of the states")
FINISHED = Finished("updates", 100, 90, 3200, 2.5, 1.5, "ab12", {"return": 7.93, "q_error": None}, None)
TRACKED = Tracked(0, "mlflow", "ab12", "sqlite:///mlflow.db", False)
ALL = (STARTED, TRACKED, PROGRESS, EVALUATED, SNAPSHOT, WARNED, FINISHED)


@pytest.fixture
def log(tmp_path):
    """Write lines to a log and return its path."""

    def write(*lines):
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
        return path

    return write


def test_records_are_read_back_as_they_were_written(log):
    path = log(*map(to_line, ALL))
    assert read_history(path) == History(path, ALL)


def test_a_seed_may_be_larger_than_any_count() -> None:
    record = dataclasses.replace(STARTED, seed=2**60)
    assert from_line(to_line(record).encode()) == record
    with pytest.raises(ValueError, match="invalid value for 'states'"):
        from_line(to_line(dataclasses.replace(STARTED, states=2**60)).encode())


def test_a_line_is_one_json_object_with_its_kind_first():
    line = to_line(EVALUATED)
    assert "\n" not in line
    assert next(iter(json.loads(line).items())) == ("kind", "evaluation")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_become_null(value):
    # Everywhere: by itself, in a list, in a tuple, in a mapping.
    assert to_json({"a": value, "b": [value, (1.0, value)]}) == '{"a": null, "b": [null, [1.0, null]]}'


def test_mappings_are_objects_and_tuples_lists():
    whole = {"a": (1, 2.5), "b": MappingProxyType({"c": None, "d": True})}
    assert to_json(whole) == '{"a": [1, 2.5], "b": {"c": null, "d": true}}'


def test_a_loss_of_nan_is_read_back_as_none(log):
    diverged = Progress(10, 320, 0.5, math.nan, math.nan, 0.9, 0.003, 0, None)
    (read,) = read_history(log(to_line(diverged))).records
    assert read.loss is None


def test_unknown_kinds_and_keys_of_newer_versions_are_skipped(log):
    newer = json.dumps({**json.loads(to_line(STARTED)), "mood": "good"})
    history = read_history(log('{"kind": "weather", "degrees": 3}', newer))
    assert (history.records, history.skipped) == ((STARTED,), ())


WHOLE = to_line(STARTED)


BROKEN = [
    WHOLE[: len(WHOLE) // 2],
    WHOLE.encode()[: WHOLE.encode().index("â".encode()) + 1],  # cut inside of a letter of two bytes
    WHOLE.replace('"seed"', '"sede"'),
    '{"seed": 3}',
    "[1]",
    "3",
    "",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_is_skipped_and_counted_among_the_whole_ones(log, broken):
    history = read_history(log(to_line(STARTED), broken, to_line(PROGRESS)))
    assert history.records == (STARTED, PROGRESS)
    assert history.skipped == (2,)


def test_a_log_without_any_record_is_a_failure(log):
    with pytest.raises(DeepTaxiError, match="contains no deeptaxi records"):
        read_history(log(*BROKEN))


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(UsageError, match=re.escape(f"cannot read the log {tmp_path / 'no.jsonl'}: No such file")):
        read_history(tmp_path / "no.jsonl")


def test_a_history_has_its_records_by_kind(log):
    history = read_history(log(*map(to_line, ALL)))
    assert (history.started, history.finished) == (STARTED, FINISHED)
    assert (history.progress, history.evaluations) == ((PROGRESS,), (EVALUATED,))
    assert (history.snapshots, history.warnings) == ((SNAPSHOT,), (WARNED,))


def test_an_interrupted_training_has_no_final_record(log):
    history = read_history(log(to_line(PROGRESS)))
    assert (history.started, history.finished) == (None, None)


@pytest.mark.parametrize(
    "broken",
    [
        WHOLE.replace('"states": 500', '"states": "500"'),
        WHOLE.replace('"states": 500', '"states": -1'),
        WHOLE.replace('"states": 500', '"states": 1e3'),
        WHOLE.replace('"states": 500', '"states": true'),
        WHOLE.replace('"states": 500', f'"states": {"9" * 30}'),
        WHOLE.replace('"learning_rate": 0.1', '"learning_rate": null'),
        WHOLE.replace('"learning_rate": 0.1', '"learning_rate": 1e400'),
        WHOLE.replace('"loop": "fit"', '"loop": ["fit"]'),
        WHOLE.replace('"loop": "fit"', '"loop": "\\ud800"'),
        to_line(FINISHED).replace('"exact": {', '"exact": [{').replace("null}", "null}]"),
        "[" * 60_000,
        '{"kind": []}',
        WHOLE[:-1] + " " * 2**16 + "}",
    ],
)
def test_a_line_with_values_of_the_wrong_type_is_skipped(log, broken):
    assert broken != WHOLE
    history = read_history(log(to_line(STARTED), broken, to_line(PROGRESS)))
    assert (history.records, history.skipped) == ((STARTED, PROGRESS), (2,))


def test_a_log_that_is_too_large_is_not_read(log, tmp_path):
    path = log(WHOLE)
    with path.open("r+b") as file:
        file.truncate(2**27 + 1)
    with pytest.raises(DeepTaxiError, match=r"metrics\.jsonl is larger than the 128 MiB of a log that are read"):
        read_history(path)


def test_a_whole_number_is_read_as_a_float_where_one_is_expected():
    said = {"update": 5, "optimal": False, "value": 10**30, "value_gap": 1, "gap": 0, "start_states": 1}
    said |= {"kind": "evaluation", "optimal_start_states": 0, "q_error_max": None}
    record = from_line(json.dumps(said).encode())
    assert (type(record.value), record.value, type(record.update)) == (float, 1e30, int)


@pytest.mark.parametrize(
    "values",
    [
        [0.1, 2, float("nan"), 1e300] * 300,
        [0, 1, 2] * 400,
        [[0, 1], [], [3]] * 400,
        [[0, 0.5], [True]] * 600,
        ["a", 1] * 600,
        [True, False] * 600,
    ],
)
def test_long_lists_have_the_format_of_short_ones(monkeypatch, values):
    document = {"before": "x", "values": values, "after": {"values": values}}
    found = to_json(document, indent=2)
    monkeypatch.setattr("deeptaxi.metrics.LONG", 10**9)
    assert found == to_json(document, indent=2)


def test_where_trackers_follow_is_the_latest_run_of_each() -> None:
    other, later = dataclasses.replace(TRACKED, tracker="wandb"), dataclasses.replace(TRACKED, run="cd34")
    assert History(None, (STARTED, TRACKED, other, later)).tracked == (later, other)


def test_the_curves_are_a_frame_with_a_row_for_each_update() -> None:
    later = dataclasses.replace(PROGRESS, update=20, mean_return=-8.0)
    frame = History(None, (STARTED, later, PROGRESS, EVALUATED, SNAPSHOT, WARNED, FINISHED)).to_pandas()
    assert (frame.index.name, list(frame.index)) == ("update", [10, 20])
    first = frame.loc[10]
    assert (first["loss"], first["value"], first["q_max"], first["optimal"]) == (0.25, -1.5, 20.0, False)
    assert math.isnan(first["mean_return"])
    assert frame["value"].isna().tolist() == [False, True]
    kinds = {str(kind) for name, kind in frame.dtypes.items() if name != "optimal"}
    assert (kinds, str(frame["optimal"].dtype)) == ({"float64"}, "boolean")
    assert list(History(None, (STARTED,)).to_pandas().columns) == list(frame.columns)


def test_a_frame_takes_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"needs the package pandas: pip install 'deeptaxi\[pandas\]'$"):
        History(None, ALL).to_pandas()
