"""Terminals that cannot print our signs, and names of files that are no text. Found by generated command lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.cli.conftest import refused

ODD = "x\udcffy"  # how Python reads the byte 0xff in a name


@pytest.mark.slow
def test_a_terminal_without_unicode_gets_escapes() -> None:
    command = [sys.executable, "-m", "deeptaxi", "solve", "FrozenLake-v1"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    plain = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert plain.returncode == 0, plain.stderr
    plain.stdout.decode("ascii")
    document = subprocess.run([*command, "--json"], env=environment, capture_output=True, check=True).stdout
    assert json.loads(document)["optimal_return"] == pytest.approx(0.7442, abs=1e-4)


def test_a_name_that_is_no_text_is_escaped_in_json(type_in, tmp_path) -> None:
    result = type_in("explain", "gradients", "--vectors", f"{ODD}.json", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["vectors"] == f"{ODD}.json"
    assert (tmp_path / f"{ODD}.json").is_file()


@pytest.mark.parametrize("words", [["--out", ODD], ["--out", "run", "--logs", ODD]])
def test_a_name_that_files_cannot_hold_is_refused_before_the_training(type_in, tmp_path, words) -> None:
    refused(type_in("train", "FrozenLake-v1", "--updates", "5", *words), 2, "not valid Unicode")
    assert not list(tmp_path.iterdir())
