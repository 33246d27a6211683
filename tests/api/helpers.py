"""What a command answers, to hold a function against it."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.conftest import run


def answer(*words: object) -> Any:
    return json.loads(run(*words, "--json").stdout)


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return json.loads(json.dumps(value))
