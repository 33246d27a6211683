"""Names of earlier versions: a file or a command line that still has one is refused with the name of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS = {"--judge-every": "--eval-every", "--prioritised": "--prioritized"}
SETTINGS = {"replay.prioritised": "replay.prioritized", "judgement": "evaluation"}  # by their paths in a configuration
RECORDS = {"judgement": "evaluation"}  # by the kinds in a log
CARD = {
    "exact.normalised_score": "exact.normalized_score",
    **{f"configuration.{old}": f"configuration.{new}" for old, new in SETTINGS.items()},
}


def renamed_in(values: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    """Return which keys of nested mappings have a name of before, and that of today; None where there is none."""
    return ", ".join(f"'{old}' is now '{new}'" for old, new in names.items() if has(values, old)) or None


def has(values: Any, path: str) -> bool:
    """Whether there is a key at a path such as ``replay.capacity``."""
    for key in path.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True
