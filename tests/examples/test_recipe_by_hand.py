"""The example of a Keras model by hand: in this process, as it needs what the tests have imported anyway."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.docs.console import blocks, commands, matches

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow  # `predict` and `fit` take ten CPU seconds
def test_it_reaches_the_optimum_as_its_page_shows(capsys):
    runpy.run_path(str(EXAMPLES / "recipe_by_hand.py"), run_name="__main__")
    page = [command for block in blocks(EXAMPLES / "README.md") for command in commands(block.body)]
    (shown,) = (command for command in page if command.line.endswith("recipe_by_hand.py"))
    assert matches(shown.output, capsys.readouterr().out)


def test_it_takes_twelve_lines_of_keras():
    text = (EXAMPLES / "recipe_by_hand.py").read_text(encoding="utf-8")
    lines = [line for line in text.split("state = keras.Input")[1].splitlines() if line and not line.startswith("#")]
    assert lines[-1].startswith("print(deeptaxi.evaluate(")
    assert len(lines) - 1 == 12
