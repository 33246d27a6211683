"""Part c: the share of seeds that every preset makes exactly optimal, through the command line as a user would."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.presets import WITHOUT_TABLE
from benchmarks.run import brief_seconds, start
from deeptaxi.catalogue import listed

LIMIT = 300.0  # seconds a training may take


def presets() -> list[list[str]]:
    """Return the words after ``deeptaxi train`` of every preset that can be judged exactly."""
    return [["--preset", preset.name] for preset in listed() if preset.name.split(".")[0] not in WITHOUT_TABLE]


def train(words: list[str], core: int, seed: int) -> dict[str, Any]:
    """Train one preset with one seed; return a row."""
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", str(Path(folder) / "run"), "--logs", str(Path(folder) / "logs")]
        found = start(["deeptaxi", "train", *words, "--seed", str(seed), *out, "--json"], core, LIMIT)
    row = {"part": "c", "name": " ".join(words), "seed": seed}
    if "failed" in found:
        return {**row, "failed": found["failed"]}
    exact = found["exact"] or {}
    return {
        **row,
        "optimal": bool(exact.get("optimal")),
        "optimal_starts": exact.get("optimal_start_states"),
        "start_states": exact.get("start_states"),
        "updates": found["updates"],
        "train_seconds": found["train_seconds"],
        "process_seconds": found["started_to_ended_seconds"],
    }


def measure(core: int, seeds: int) -> list[dict[str, Any]]:
    """Train every preset with every seed, in turn."""
    rows: list[dict[str, Any]] = []
    every = presets()
    for seed in range(seeds):
        for words in every:
            rows.append(train(words, core, seed))
            print(f"  c {rows[-1]['name']}, seed {seed}: {brief_seconds(rows[-1])}", file=sys.stderr, flush=True)
    return rows
