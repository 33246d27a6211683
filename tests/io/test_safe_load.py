from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from deeptaxi import arguments
from deeptaxi.config import EnvironmentConfig, TrainConfig
from deeptaxi.errors import UsageError
from deeptaxi.io import safe_load
from deeptaxi.io.safe_load import (
    LONGEST,
    TOO_LONG,
    all_finite,
    check_lengths,
    open_plain,
    parse_json,
    read_json,
    read_text,
    read_toml,
)
from deeptaxi.schema import from_mapping
from tests.cli.conftest import refused, run


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_valid_files_are_read(file):
    deep = ".".join("abcdefgh") + " = '..............................'\n'' . \"b.c\" = 1"
    assert read_toml(file(deep))[""] == {"b.c": 1}
    assert read_json(file('{"a": ["\\ud83d\\ude95", 1e3]}')) == {"a": ["🚕", 1000.0]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "{b=" * 50_000, "nested too deeply"),
        (".".join(["a"] * 50_000) + " = 1", "it has a key of more than 32 parts"),
        (" . ".join(["'a b'", '"c.d"'] * 20) + " = 1", "it has a key of more than 32 parts"),
        ("[" + ".".join(["a-b"] * 40) + "]", "it has a key of more than 32 parts"),
        ("a" * 2**18 + " = 1", "it is larger than the limit of 256 KiB"),
        ("a = " + "9" * 5_000, "too long"),
        (b"a = '\xff'", "codec can't decode"),
        ("a = 1\na = 2", "overwrite"),
    ],
)
def test_settings_beyond_the_limits_are_refused_at_once(file, content, reason):
    begun = time.monotonic()
    with pytest.raises(ValueError, match=reason) as caught:
        read_toml(file(content))
    assert time.monotonic() - begun < 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["a" * 2**18, " " * (2**18 - 1) + "a", '"' * 2**17, "a." * 30 + "'" * 2**17, "a b " * 2**16]
)
def test_checking_for_long_keys_is_fast(file, content):
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"at line 1|at end of document"):
        read_toml(file(content[: 2**18]))
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("9" * 5_000, "too long"),
        (" " * (2**20 + 1), "it is larger than the limit of 1,024 KiB"),
    ],
)
def test_json_beyond_the_limits_is_refused_at_once(file, content, reason):
    with pytest.raises(ValueError, match=reason):
        read_json(file(content))


def test_a_lone_surrogate_in_a_key_is_refused():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        parse_json('{"\\uDfff": 1}')


def test_a_pipe_is_not_opened_as_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=re.escape("it is a pipe or a device, not a file")):
        open_plain(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        open_plain(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "nowhere")


def test_no_more_is_read_than_the_limit():
    with pytest.raises(ValueError, match="it is larger than the limit of 1 KiB"):
        read_text(Path("/dev/zero"), 1024)


# How long a number may be, wherever one is read.
DECIMAL, HEX = "9" * 5_000, "0x" + "f" * 5_000
LARGEST = 2**LONGEST - 1


def test_a_number_that_fits_a_float_is_not_too_long():
    float(LARGEST)
    check_lengths([LARGEST, {"a": -LARGEST}])


@pytest.mark.parametrize("value", [LARGEST + 1, [0, (-LARGEST - 1,)], {LARGEST + 1: 0}, {"a": [LARGEST + 1]}])
def test_a_longer_number_is_found_at_any_depth(value):
    with pytest.raises(ValueError, match=TOO_LONG):
        check_lengths(value)


def test_a_non_finite_number_is_found_at_any_depth():
    assert all_finite({"a": [1, 2.5, "nan", None]})
    assert not all_finite([1.0, (0.0, float("nan"))])
    assert not all_finite({"a": {"b": float("-inf")}})


@pytest.mark.parametrize("number", [DECIMAL, HEX])
def test_numbers_too_long_are_refused_in_toml(number):
    for text in (f"a = {number}", f"a = [1, {number}]", f"[b]\na = {{c = {number}}}"):
        with pytest.raises(ValueError, match=TOO_LONG):
            safe_load.parse_toml(text)


def test_numbers_too_long_for_python_are_refused_in_json():
    with pytest.raises(ValueError, match=TOO_LONG):
        safe_load.parse_json(f'{{"a": {DECIMAL}}}')


@pytest.mark.parametrize("number", [DECIMAL, HEX, f"-{HEX}"])
@pytest.mark.parametrize("text", ["{}", "[1, {}]", "({}, 0)", "1/{}", '{{"a": {}}}'])
def test_numbers_too_long_are_refused_as_environment_arguments(number, text):
    with pytest.raises(ValueError, match=TOO_LONG):
        arguments.parse(text.format(number))


def test_a_string_of_many_digits_is_a_string():
    assert arguments.parse(f'"{DECIMAL}"') == DECIMAL
    assert arguments.parse(f"x{DECIMAL}") == f"x{DECIMAL}"


@pytest.mark.parametrize("key", ["updates", "discount"])
def test_numbers_too_long_are_refused_from_scripts(key):
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
def test_the_command_line_explains_a_number_that_is_too_long(words, part):
    line = refused(run(*words), 2, part)
    assert len(line) < 400
