"""Random transition tables of any size, for measuring cost against size."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write(path: Path, states: int, actions: int, outcomes: int, seed: int = 0) -> Path:
    """Write a table of S states, A actions and K equally likely outcomes, as deeptaxi's `.npz`, uncompressed."""
    rng = np.random.default_rng(seed)
    shape = (states, actions, outcomes)
    np.savez(
        path,
        probability=np.full(shape, 1.0 / outcomes),
        next_state=rng.integers(0, states, shape),
        reward=rng.random(shape),
        terminated=rng.random(shape) < 0.05,
        start=np.full(states, 1.0 / states),
        time_limit=200,
    )
    return path
