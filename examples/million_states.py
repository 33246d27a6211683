"""Train an agent of a million states, judge it exactly, and write a report on it.

python examples/million_states.py [--size 1000] [--slip 0.2] [--updates N] [--out out/million_states.html]

A city of `size` × `size` blocks. A fifth of them are built over; one in a thousand is an exit. An episode begins
anywhere, each step costs 1, and an exit ends it. With probability `slip` a move goes aside. The table is made as
arrays, the Q table is trained on it with expected updates, and the verdict is exact: it compares what the policy is
worth with the optimum, in every start state. A million states take some six CPU minutes and 2.6 GB up to the verdict;
docs/scale.md has the rest.

What makes so large a Q table learn: every step is in a random state and takes a random action, as no episode comes by
everywhere; the expected update has no noise to average away, so the step of a sample can be large. One of 0.5, not 1:
where a pair occurs twice in a minibatch both steps add, and what overshoots would be taken for a better action and
spread. The Q values begin at the worst that any policy is worth, −1 / (1 − discount): the policy then takes what is
known to reach an exit, while from 0 it takes what has not been tried often enough to know better.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

import deeptaxi

DISCOUNT = 0.99
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # up, right, down, left
BUILT, BLOCKS_AN_EXIT = 0.2, 1_000


def city(size: int, slip: float, seed: int = 0) -> deeptaxi.TransitionTable:
    """Return the table of a city, made without a loop over its states."""
    rng = np.random.default_rng(seed)
    states = size * size
    built = rng.random(states) < BUILT
    free = np.flatnonzero(~built)
    leaves = np.zeros(states, bool)
    leaves[rng.choice(free, max(1, states // BLOCKS_AN_EXIT), replace=False)] = True
    here = np.arange(states)
    there = np.clip(np.stack(np.divmod(here, size), axis=-1)[:, None] + MOVES, 0, size - 1)  # [S, 4, 2]
    moved = there[..., 0] * size + there[..., 1]
    moved = np.where(built[moved], here[:, None], moved)  # [S, 4], the state that each move leads to
    turns, chances = ((0, 1, 3), (1 - slip, slip / 2, slip / 2)) if slip else ((0,), (1.0,))
    next_state = np.stack([np.roll(moved, -turn, axis=1) for turn in turns], axis=-1)  # [S, 4, K]
    start = np.where(built | leaves, 0.0, 1.0)
    return deeptaxi.TransitionTable(
        probability=np.broadcast_to(chances, next_state.shape),
        next_state=next_state,
        reward=np.broadcast_to(-1.0, next_state.shape),
        terminated=leaves[next_state],
        start=start / start.sum(),
        time_limit=1_000,
        discount=DISCOUNT,
        factors=(size, size),
        action_names=("up", "right", "down", "left"),
    )


def main() -> None:
    """Make the city, train, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=1_000, help="blocks along each side")
    parser.add_argument("--slip", type=float, default=0.2, help="probability that a move goes aside")
    parser.add_argument("--updates", type=int, help="optimizer steps; by default 100 for every thousand states")
    parser.add_argument("--out", type=Path, default=Path("out/million_states.html"), help="the report")
    chosen = parser.parse_args()
    began = due = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    def show(record: Any) -> None:
        nonlocal due
        if record.kind == "progress" and time.monotonic() > due:
            tell(f"update {record.update:,} of {updates:,}, mean |td_error| {record.td_error:.2g}")
            due = time.monotonic() + 5
        if record.kind == "progress" and record.update == updates:
            tell("evaluating the policy …")

    table = city(chosen.size, chosen.slip)
    tell(str(table))
    tell("solving it, and compiling …")
    updates = chosen.updates or max(2_000, 100 * table.states // 1_000)
    run = deeptaxi.train(
        table,
        q_table=True,
        updates=updates,
        eval_every=updates,  # judge once, at the end
        backup="expected",
        optimizer="sgd",
        tabular_step=0.5,
        initial_value=-1 / (1 - DISCOUNT),
        learning_rate_schedule="constant",
        exploring_starts=1.0,
        epsilon_start=1.0,
        epsilon_end=1.0,
        environments=2_048,
        batch_size=max(32, min(4_096, table.states // 4)),  # of a few pairs, many would occur twice in a batch
        polyak=1.0,
        callbacks=[show],
    )
    tell("trained")
    print(run)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    tell(f"report: {run.report(chosen.out, force=True).report}")


if __name__ == "__main__":
    main()
