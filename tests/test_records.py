from __future__ import annotations

import json
import math
import re

import pytest

from deeptaxi.errors import DeepTaxiError
from deeptaxi.records import Finished, Judgement, Progress, Started, read_records, to_json, to_line

STARTED = Started("Tâxi-v4", 500, 6, "dueling", "fit", 0, 100, 0.1, None, 1.5)
PROGRESS = Progress(10, 320, 0.5, 0.25, 0.1, 0.9, 0.003, 0, None)
JUDGEMENT = Judgement(10, False, -1.5, 2.5, 3.5, 300, 200, 0.75)
FINISHED = Finished("updates", 100, 90, 3200, 2.5, 1.5, "ab12", {"return": 7.93, "q_error": None}, None)


@pytest.fixture
def log(tmp_path):
    """Write lines to a log and return its path."""

    def write(*lines):
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
        return path

    return write


def test_records_are_read_back_as_they_were_written(log):
    records = [STARTED, PROGRESS, JUDGEMENT, FINISHED]
    assert list(read_records(log(*map(to_line, records)))) == records


def test_a_line_is_one_json_object_with_its_kind_first():
    line = to_line(JUDGEMENT)
    assert "\n" not in line
    assert next(iter(json.loads(line).items())) == ("kind", "judgement")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_become_null(value):
    # Everywhere: by itself, in a list, in a tuple, in a mapping.
    assert to_json({"a": value, "b": [value, (1.0, value)]}) == '{"a": null, "b": [null, [1.0, null]]}'


def test_a_loss_of_nan_is_read_back_as_none(log):
    diverged = Progress(10, 320, 0.5, math.nan, math.nan, 0.9, 0.003, 0, None)
    (read,) = read_records(log(to_line(diverged)))
    assert read.loss is None


def test_unknown_kinds_and_keys_of_newer_versions_are_passed_over(log):
    newer = json.dumps({**json.loads(to_line(STARTED)), "mood": "good"})
    assert list(read_records(log('{"kind": "weather", "degrees": 3}', newer))) == [STARTED]


WHOLE = to_line(STARTED)


@pytest.mark.parametrize(
    "broken",
    [
        WHOLE[: len(WHOLE) // 2],
        WHOLE.encode()[: WHOLE.encode().index("â".encode()) + 1],  # cut inside of a letter of two bytes
        WHOLE.replace('"seed"', '"sede"'),
        '{"seed": 3}',
        "[1]",
        "3",
        "",
    ],
)
def test_a_broken_line_is_named_after_the_whole_lines_before_it(log, broken):
    path = log(to_line(PROGRESS), broken, b"")
    records = read_records(path)
    assert next(records) == PROGRESS
    with pytest.raises(DeepTaxiError, match=re.escape(f"{path}, line 2: not a record of deeptaxi")):
        next(records)
