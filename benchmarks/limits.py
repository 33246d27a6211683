"""Part e: how far an update is from what the core could do at best.

Floating-point operations of one update of the dueling network (a product of [m, k] and [k, n] counts 2·m·k·n; S states,
A actions, hidden size H, minibatch B, N environments, W = A + 1 outputs of the two streams):

    acting                          2·N·H·W + 2·N·H
    online and target forward       2 · (2·B·H·W + 2·B·H)        (bias and ReLU are one operation each)
    backward: head, hidden layer    2 · 2·B·H·W + 2·B·H
    Adam, each weight that moves    12, with a root and a division counted as one operation each
    Polyak, each weight             3

Bytes of float32 that must be read or written, each once:

    rows gathered                   4·H·(N + 2·B)
    rows of the gradient added      2 · 4·H·B                     (read and written)
    Adam                            6·4 for each weight that moves (w, m, v read and written)
    Polyak                          3·4 for each weight           (w read, target read and written; w only if not Adam)

Weights: P = S·H + H + (H + 1)·W. Dense Adam moves all of them; the row-sparse step the rows of the D distinct states
that a uniform minibatch holds on average, D = S·(1 − (1 − 1/S)^B), and the rest of the network. The Q table has H = A
and no head: its forward pass is the gather, and plain SGD moves B entries.

The limit is the larger of operations over the rate of a large float32 product and bytes over the bandwidth at the size
of the state, both measured on that core at that time: arithmetic and memory may overlap at best. With the rate of
products of the very shapes used here in place of that of a large one it is the second, less generous limit. Roots and
divisions are slower than the products that the rates are taken from, so the limits are low; nothing can reach them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

FLOAT = 4


@dataclass(frozen=True)
class Work:
    """What one update needs."""

    operations: float
    bytes: float
    state: float  # bytes of weights, moments and target: where they live decides on the bandwidth


def dueling(states: int, actions: int, hidden: int, batch: int, environments: int, dense: bool) -> Work:
    """Count one update of the dueling network with Adam; the module's docstring has the formula."""
    outputs = actions + 1
    rest = hidden + (hidden + 1) * outputs
    weights = states * hidden + rest
    moved = weights if dense else distinct(states, batch) * hidden + rest
    acting = 2 * environments * hidden * (outputs + 1)
    passes = 2 * 2 * batch * hidden * (outputs + 1) + 2 * batch * hidden * (2 * outputs + 1)
    traffic = FLOAT * hidden * (environments + 4 * batch) + 6 * FLOAT * moved + 2 * FLOAT * weights
    traffic += FLOAT * (weights - moved)  # Polyak reads what Adam did not touch
    return Work(acting + passes + 12 * moved + 3 * weights, traffic, 4 * FLOAT * weights)


def q_table(states: int, actions: int, batch: int, environments: int) -> Work:
    """Count one update of the Q table with plain SGD."""
    entries = states * actions
    operations = actions * (environments + batch) + 6 * batch + 3 * entries
    traffic = FLOAT * (actions * (environments + batch) + 3 * batch + 3 * entries)
    return Work(operations, traffic, 2 * FLOAT * entries)


def distinct(states: int, batch: int) -> float:
    """Return how many different states a uniform minibatch holds on average."""
    return states * (1 - (1 - 1 / states) ** batch)


def best_seconds(call: Callable[[], Any], budget: float = 0.3) -> float:
    """Return the shortest time of one call, CPU seconds, over groups of calls."""
    call()
    start = time.process_time()
    call()
    count = max(1, int(0.01 / max(time.process_time() - start, 1e-6)))
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < budget:
        start = time.process_time()
        for _ in range(count):
            call()
        best = min(best, (time.process_time() - start) / count)
    return best


def product_rate(m: int, k: int, n: int) -> float:
    """Return the floating-point operations a second of a float32 product [m, k] × [k, n]."""
    rng = np.random.default_rng(0)
    x, y = rng.random((m, k), np.float32), rng.random((k, n), np.float32)
    out = np.empty((m, n), np.float32)
    return 2 * m * k * n / best_seconds(lambda: np.matmul(x, y, out=out))


def bandwidth(size: float) -> float:
    """Return bytes a second of reading and writing float32 arrays of `size` bytes in all, in place."""
    array = np.ones(max(1, int(size) // FLOAT), np.float32)
    factor = np.float32(1.0)
    return 2 * array.nbytes / best_seconds(lambda: np.multiply(array, factor, out=array))


def rates(batch: int, hidden: int, actions: int, states: dict[str, float]) -> dict[str, Any]:
    """Measure the core: operations a second of a large product and of the shapes used, bytes a second by size."""
    shapes = [(batch, hidden, actions + 1), (batch, actions + 1, hidden), (actions + 1, batch, hidden)]
    return {
        "large": product_rate(1024, 1024, 1024),
        "shapes": {f"{m}x{k}x{n}": product_rate(m, k, n) for m, k, n in shapes},
        "bandwidth": {name: bandwidth(size) for name, size in states.items()},
    }


def limits(batch: int = 128, hidden: int = 64, environments: int = 16) -> dict[str, Any]:
    """Return the limits of an update on Taxi (500 states, 6 actions), in microseconds, and what they came from."""
    cases = {
        "dueling, dense Adam": dueling(500, 6, hidden, batch, environments, dense=True),
        "dueling, row-sparse Adam": dueling(500, 6, hidden, batch, environments, dense=False),
        "Q table, SGD": q_table(500, 6, batch, environments),
    }
    core = rates(batch, hidden, 6, {name: work.state for name, work in cases.items()})
    slow = sum(core["shapes"].values()) / len(core["shapes"])
    rows = {}
    for name, work in cases.items():
        memory = work.bytes / core["bandwidth"][name]
        rows[name] = {
            "operations": work.operations,
            "bytes": work.bytes,
            "arithmetic_us": 1e6 * work.operations / core["large"],
            "memory_us": 1e6 * memory,
            "limit_us": 1e6 * max(work.operations / core["large"], memory),
            "limit_of_shapes_us": 1e6 * max(work.operations / slow, memory),
        }
    return {"core": core, "limits": rows}


if __name__ == "__main__":
    print(json.dumps(limits()))  # on one line
