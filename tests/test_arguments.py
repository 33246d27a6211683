from __future__ import annotations

import datetime
import json
import math
import tomllib

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi import arguments
from deeptaxi.config import TrainConfig, dump_toml, resolve
from deeptaxi.errors import UsageError

numbers = st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.none()
values = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        (" True ", True),
        ("None", None),
        ("8", 8),
        ("-0.3", -0.3),
        (".8", 0.8),
        ("1/3", 1 / 3),
        ("-1/4", -0.25),
        ("1e-3", 0.001),
        ("0x1F", 31),
        ("inf", math.inf),
        ("(1,0,0)", (1, 0, 0)),
        ("1, 0", (1, 0)),
        ("1,", (1,)),
        ("[1, -0.2]", [1, -0.2]),
        ("[1/3, None, (True,)]", [1 / 3, None, (True,)]),
        ('["SF", "HG"]', ["SF", "HG"]),
        ("['SF', 'HG']", ["SF", "HG"]),
        ('{"a": 1}', {"a": 1}),
        ('{"a": true, "b": [null_free]}'.replace("[null_free]", "[false, inf]"), {"a": True, "b": [False, math.inf]}),
        ("{a = 1}", {"a": 1}),
        ("2026-01-02", datetime.date(2026, 1, 2)),
        ('"8"', "8"),
        ('"[SF"', "[SF"),
        ("8x8", "8x8"),
        ("4x4", "4x4"),
        ("SFFF,FHFH", "SFFF,FHFH"),
        ("no", "no"),
        ("human", "human"),
        ("-v", "-v"),
        ("it's", "it's"),
        ("1 # one", "1 # one"),
        ("1\nb = 2", "1\nb = 2"),
        ("", ""),
    ],
)
def test_a_value_is_toml_else_python_else_plain_text(text, value):
    found = arguments.parse(text)
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    "text",
    ["[SFFF", "SF]", "(1, 0", '"SF', "{a: 1}", "1/0", "1-2", "2**9", "007", "1.2.3", "b'x'", "{1, 2}", "f(1)",
     "[1, x]", "1e400", "[1, -1e999]", "TRUE", "fALSE", "[" * 40 + "]" * 40, "(" * 9_000 + ")" * 9_000, "9" * 5_000,
     "a" * (arguments.LONGEST + 1)],
)  # fmt: skip
def test_malformed_literals_are_refused(text):
    with pytest.raises(ValueError, match=r"neither TOML nor Python|too (large|long|deeply)|true or false|longer than"):
        arguments.parse(text)


def test_a_refusal_mentions_the_quoting_that_the_shell_removed():
    with pytest.raises(ValueError, match="the shell removes quotes"):
        arguments.parse("[SFFF,HFFG]")


@given(values)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_displayed_value_parses_to_the_same_value(value):
    assert repr(arguments.parse(arguments.show(value))) == repr(value)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), values, max_size=3))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_values_survive_a_file_exactly(kwargs):
    sayable, literals = arguments.to_toml(kwargs)
    read = tomllib.loads(tomli_w.dumps({"kwargs": sayable, "literals": literals}))
    found = arguments.from_toml(read["kwargs"], read["literals"])
    assert {key: repr(value) for key, value in found.items()} == {key: repr(value) for key, value in kwargs.items()}


def test_values_that_toml_can_hold_are_written_unchanged():
    config = resolve({"environment": {"id": "Unheard-v0", "kwargs": {"is_rainy": True, "goal": (1, None)}}})
    text = dump_toml(config, {})
    assert '[environment.kwargs]\nis_rainy = true\n\n[environment.literals]\ngoal = "(1, None)"\n' in text
    assert "literals" not in dump_toml(TrainConfig(), {})


@pytest.mark.parametrize("value", [print, np.zeros(2), {1, 2}, [object()]])
def test_values_that_no_file_can_hold_are_refused_by_name(value):
    config = resolve({"environment": {"id": "Unheard-v0", "kwargs": {"odd": value}}})
    with pytest.raises(UsageError, match=r"the environment's argument odd is .*which config.toml cannot hold"):
        dump_toml(config, {})


def test_numpy_scalars_become_python_numbers():
    kwargs = {"a": np.bool_(False), "b": (np.float64(0.5), [np.int8(3)]), "c": {"d": np.str_("x")}}
    found = resolve({"environment": {"id": "Unheard-v0", "kwargs": kwargs}}).environment.kwargs
    assert repr(found) == "{'a': False, 'b': (0.5, [3]), 'c': {'d': 'x'}}"


def test_a_title_leaves_out_the_middle_of_a_long_value():
    text = arguments.title({"id": "Lake-v0", "kwargs": {"desc": ["F" * 500], "goal": (1, 2), "name": "8x8"}})
    assert text.startswith('Lake-v0 desc=["FFF')
    assert text.endswith("(504 characters) goal=(1, 2) name=8x8")
    assert len(text) < 200
    assert json.dumps(text)
