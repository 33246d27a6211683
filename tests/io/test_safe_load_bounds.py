"""How long a number may be, wherever one is read."""

from __future__ import annotations

import pytest

from deeptaxi import arguments
from deeptaxi.config import EnvironmentConfig, TrainConfig, from_mapping
from deeptaxi.errors import UsageError
from deeptaxi.io import safe_load
from deeptaxi.io.safe_load import LONGEST, TOO_LONG, all_finite, check_lengths
from tests.cli.conftest import refused, run

DECIMAL, HEX = "9" * 5_000, "0x" + "f" * 5_000
LARGEST = 2**LONGEST - 1


def test_a_number_that_a_float_can_hold_is_not_too_long():
    float(LARGEST)
    check_lengths([LARGEST, {"a": -LARGEST}])


@pytest.mark.parametrize("value", [LARGEST + 1, [0, (-LARGEST - 1,)], {LARGEST + 1: 0}, {"a": [LARGEST + 1]}])
def test_one_that_is_longer_is_found_wherever_it_stands(value):
    with pytest.raises(ValueError, match=TOO_LONG):
        check_lengths(value)


def test_a_number_that_is_none_is_found_wherever_it_stands():
    assert all_finite({"a": [1, 2.5, "nan", None]})
    assert not all_finite([1.0, (0.0, float("nan"))])
    assert not all_finite({"a": {"b": float("-inf")}})


@pytest.mark.parametrize("number", [DECIMAL, HEX])
def test_texts_hold_no_number_that_is_too_long(number):
    for text in (f"a = {number}", f"a = [1, {number}]", f"[b]\na = {{c = {number}}}"):
        with pytest.raises(ValueError, match=TOO_LONG):
            safe_load.parse_toml(text)


def test_json_holds_no_number_that_python_cannot_read():
    with pytest.raises(ValueError, match=TOO_LONG):
        safe_load.parse_json(f'{{"a": {DECIMAL}}}')


@pytest.mark.parametrize("number", [DECIMAL, HEX, f"-{HEX}"])
@pytest.mark.parametrize("text", ["{}", "[1, {}]", "({}, 0)", "1/{}", '{{"a": {}}}'])
def test_an_argument_of_an_environment_is_no_number_that_is_too_long(number, text):
    with pytest.raises(ValueError, match=TOO_LONG):
        arguments.parse(text.format(number))


def test_a_text_of_many_digits_is_a_text():
    assert arguments.parse(f'"{DECIMAL}"') == DECIMAL
    assert arguments.parse(f"x{DECIMAL}") == f"x{DECIMAL}"


@pytest.mark.parametrize("key", ["updates", "discount"])
def test_a_script_gives_no_number_that_is_too_long(key):
    with pytest.raises(UsageError, match=f"'{key}': {TOO_LONG}"):
        from_mapping(TrainConfig, {key: 16**5_000})
    with pytest.raises(UsageError, match=TOO_LONG):
        EnvironmentConfig("FrozenLake-v1", {"success_rate": [16**5_000]})


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (
            ["train", "FrozenLake-v1", "--seed", DECIMAL],
            "'--seed': '99999999999999999999…9999999999 (5,000 digits)' is ",
        ),
        (["train", "FrozenLake-v1", "--hidden", DECIMAL], "…9999999999 (5,000 digits)"),
        (["evaluate", "x", "--episodes", DECIMAL], "is too long a number"),
        (["solve", "FrozenLake-v1", "--env-arg", f"is_slippery={HEX}"], TOO_LONG),
        (["explain", "gradients", "--gradient", f"0,{DECIMAL}"], "(5,000 digits)"),
    ],
)
def test_a_command_line_says_what_is_wrong_with_an_endless_number(words, part):
    line = refused(run(*words), 2, part)
    assert len(line) < 400
