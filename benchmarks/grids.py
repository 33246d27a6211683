"""Random grids of any size, to plan and to learn on: `python -m benchmarks.grids 316 grid316.npz --slip 0.2`.

A fifth of the cells are walls; every free cell is a start; each step costs 1, and reaching the far corner ends the
episode. Moves slip aside with the given probability, half to each side. 316 × 316 has 10⁵ states, 1000 × 1000 a
million.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from deeptaxi.mdp.table import TransitionTable, from_arrays

MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
WALLS = 0.2  # share of the cells


def random_grid(size: int, slip: float = 0.2, seed: int = 0, walls: float = WALLS) -> TransitionTable:
    """Return a grid of `size` × `size` states with 4 actions, and 3 outcomes a pair if moves slip, else 1.

    A move into a wall or over the edge stays. The time limit is 20 · `size`, the discount 0.99.
    """
    rng = np.random.default_rng(seed)
    wall = rng.random((size, size)) < walls
    wall[0, 0] = wall[-1, -1] = False
    here = np.stack(np.divmod(np.arange(size * size), size), axis=-1)
    spots = np.clip(here[:, None] + MOVES, 0, size - 1)  # [S, 4, 2]
    moved = spots[..., 0] * size + spots[..., 1]
    moved = np.where(wall.ravel()[moved], np.arange(size * size)[:, None], moved)
    turns, chances = ((0, 1, 3), (1 - slip, slip / 2, slip / 2)) if slip else ((0,), (1.0,))
    next_state = np.stack([np.roll(moved, -turn, axis=1) for turn in turns], axis=-1)
    start = np.where(wall.ravel(), 0.0, 1.0)
    start[-1] = 0
    return from_arrays(
        np.broadcast_to(chances, next_state.shape),
        next_state,
        np.full(next_state.shape, -1.0),
        next_state == size * size - 1,
        start / start.sum(),
        time_limit=20 * size,
        discount=0.99,
    )


def main() -> None:
    """Write a grid as a table."""
    parser = argparse.ArgumentParser(description="Write a random grid as a transition table.")
    parser.add_argument("size", type=int)
    parser.add_argument("path", type=Path)
    parser.add_argument("--slip", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    random_grid(chosen.size, chosen.slip, chosen.seed).save(chosen.path, force=True)


if __name__ == "__main__":
    main()
