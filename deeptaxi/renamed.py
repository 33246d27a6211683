"""Renamed settings, records and modules.

A file or command line that uses the old name of a setting or record is refused with the new one; a model whose layers
name the module they came from still opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS = {"--judge-every": "--eval-every", "--prioritised": "--prioritized"}
SETTINGS = {"replay.prioritised": "replay.prioritized", "judgement": "evaluation"}  # by path in a configuration
ARGUMENTS = {"on_record": "callbacks"}  # of functions; a list now
MODULES = {"deeptaxi.network.layers": "deeptaxi.layers"}  # of registered layers in `.keras` files
RECORDS = {"judgement": "evaluation"}  # by kind in a log
CARD = {
    "exact.normalised_score": "exact.normalized_score",
    **{f"configuration.{old}": f"configuration.{new}" for old, new in SETTINGS.items()},
}


def renamed_in(values: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    """Name the outdated keys in nested mappings and their replacements; None if there are none."""
    return ", ".join(f"'{old}' is now '{new}'" for old, new in names.items() if has(values, old)) or None


def has(values: Any, path: str) -> bool:
    """Whether a key exists at a path such as ``replay.capacity``."""
    for key in path.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True
