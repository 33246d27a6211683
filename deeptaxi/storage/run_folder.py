"""The files of a run folder."""

from __future__ import annotations

import os
from pathlib import Path

MODEL_FILE, CONFIG_FILE, CARD_FILE, CARD_JSON = "model.keras", "config.toml", "card.md", "card.json"  # in a run folder
TABLE_FILE = "table.npz"  # in the folder of a run on a transition table that had no file
OBSERVATIONS_FILE = "observations.npz"  # of a run whose observations were numbered as they were first seen
AGENTS_FILE = "agents.sqlite"  # in the folder of a compact group, in place of run folders
CHECKPOINTS = "checkpoints"  # folder in a run folder


def is_compact(folder: Path) -> bool:
    """Return whether a folder is that of a group whose agents are in one file; see `storage.compact_group`.

    So it is if that file cannot be opened, because it is a folder, say, or a link to nowhere.
    """
    return os.path.lexists(folder / AGENTS_FILE)
