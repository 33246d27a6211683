from __future__ import annotations

import math
from typing import Any

import pytest

from deeptaxi.io.safe_load import Line, Seed, check_of, fault_of, is_a

CARD = {"name": Line, "run": {"seed": Seed, "steps?": int}, "ends": tuple[float, float], "files?": [{"file": str}]}
SOUND = {"name": "a", "run": {"seed": 2**60}, "ends": [0, 1.5]}


@pytest.mark.parametrize(
    ("kind", "sound", "unsound"),
    [
        (int, [0, 2**53], [-1, 2**53 + 1, 1.0, True, "1", None]),
        (Seed, [0, 2**60], [-1, 10**301, True]),
        (float, [-1.5, 3, 10**300], [math.nan, math.inf, 1e301, 10**400, True, None]),
        (float | None, [1.5, None], ["1"]),
        (bool, [True], [0, 1, None]),
        (str, ["a\x1b", ""], [b"a", None]),
        (Line, ["a", "é", ""], ["a\x1b", "\u202ea", None]),
        (dict, [{}, {"a": 1}], [[], None]),
        (list[int], [[], [1, 2]], [[1, "a"], {"a": 1}]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "b"}, [1]]),
        (dict[str, Any] | None, [{"a": object()}, None], [1]),
        (tuple[float, float], [[1, 2.5]], [[1], [1, 2, 3], [1, "a"], 1]),
    ],
)
def test_a_value_is_of_a_type_or_not(kind: Any, sound: list[Any], unsound: list[Any]) -> None:
    assert [value for value in sound if not check_of(kind)(value)] == []
    assert [value for value in unsound if check_of(kind)(value)] == []


def test_a_boolean_is_no_number() -> None:
    assert is_a(True, bool)
    assert is_a(1, int)
    assert not is_a(True, int)
    assert not is_a(False, int | float)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"new": 1}, None),
        ({"files": None}, None),
        ({"files": [{"file": "a"}]}, None),
        ({"run": {"seed": 0, "steps": None}}, None),
        ({"name": 1}, "'name'"),
        ({"run": 3}, "'run'"),
        ({"run": {}}, "'run.seed'"),
        ({"run": {"seed": 0, "steps": "a"}}, "'run.steps'"),
        ({"files": {}}, "'files'"),
        ({"files": [{"file": "a"}, {}]}, "'files.1.file'"),
        ({"files": ["a"]}, "'files.0'"),
    ],
)
def test_the_first_fault_is_named_by_its_path(change: dict[str, Any], fault: str | None) -> None:
    assert fault_of({**SOUND, **change}, CARD) == (fault and f"{fault} is missing or of the wrong kind")


def test_a_key_that_is_missing_is_a_fault_even_if_it_may_be_null() -> None:
    assert fault_of({"a": None}, {"a": int | None}) is None
    assert fault_of({}, {"a": int | None}) == "'a' is missing or of the wrong kind"
