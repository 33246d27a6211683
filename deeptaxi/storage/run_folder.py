"""The files of a run folder."""

from __future__ import annotations

MODEL_FILE, CONFIG_FILE, CARD_FILE, CARD_JSON = "model.keras", "config.toml", "card.md", "card.json"  # in a run folder
TABLE_FILE = "table.npz"  # in the folder of a run on a transition table that had no file
OBSERVATIONS_FILE = "observations.npz"  # of a run whose observations were numbered as they were first seen
CHECKPOINTS = "checkpoints"  # folder in a run folder
