"""Whether this machine can hold a transition table."""

from __future__ import annotations

import math
import os

from deeptaxi.mdp.table import TableError

BYTES_PER_ENTRY = 100  # of S·A·K; the arrays take 25, planning and the compiled loop at their peak the rest
MEMORY_SHARE = 0.8


def check_memory(shape: tuple[int, ...]) -> None:
    """Refuse, before anything is allocated, a table that this machine cannot hold.

    Raises:
        TableError: arrays of `shape` `[S, A, K]` would take more than most of the memory.
    """
    size, memory = math.prod(shape) * BYTES_PER_ENTRY, physical_memory()
    if size > MEMORY_SHARE * memory:
        told = " × ".join(f"{count:,}" for count in shape)
        raise TableError(
            f"a table of {told} outcomes takes {size / 2**30:,.1f} GiB, and this machine has {memory / 2**30:,.1f} GiB"
        )


def physical_memory() -> float:
    """Return the bytes of memory of this machine; infinity where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # Windows
        return math.inf
