"""The files of a run folder."""

from __future__ import annotations

MODEL_FILE, CONFIG_FILE, CARD_FILE, CARD_JSON = "model.keras", "config.toml", "card.md", "card.json"  # of a run folder
TABLE_FILE = "table.npz"  # of a run on a transition table that had no file
CHECKPOINTS = "checkpoints"  # folder of a run folder
