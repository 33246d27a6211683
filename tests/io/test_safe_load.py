from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from deeptaxi.io.safe_load import open_plain, parse_json, read_json, read_text, read_toml


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_what_is_sound_is_read(file):
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
def test_settings_that_ask_for_too_much_are_refused_at_once(file, content, reason):
    begun = time.monotonic()
    with pytest.raises(ValueError, match=reason) as caught:
        read_toml(file(content))
    assert time.monotonic() - begun < 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["a" * 2**18, " " * (2**18 - 1) + "a", '"' * 2**17, "a." * 30 + "'" * 2**17, "a b " * 2**16]
)
def test_looking_for_long_keys_takes_no_time(file, content):
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
def test_facts_that_ask_for_too_much_are_refused_at_once(file, content, reason):
    with pytest.raises(ValueError, match=reason):
        read_json(file(content))


def test_a_lone_half_of_a_letter_is_none_in_a_key_either():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        parse_json('{"\\uDfff": 1}')


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=re.escape("it is a pipe or a device, not a file")):
        open_plain(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        open_plain(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "nowhere")


def test_no_more_is_read_than_is_wanted():
    with pytest.raises(ValueError, match="it is larger than the limit of 1 KiB"):
        read_text(Path("/dev/zero"), 1024)
