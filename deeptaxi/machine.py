"""This machine: its processor, its memory, and whether something fits into it."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import sys
from functools import cache
from pathlib import Path

MEMORY_SHARE = 0.8  # of the memory, that one training or table may take
SCIPY_BYTES = 2**28  # of address space: its libraries, and the buffers of each of its threads
TRAITS = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features", "isa")  # what code is made for


@cache
def cpu_facts() -> dict[str, str]:
    """Return what Linux reports about the first processor; an empty dictionary on other systems."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            lines = [line.partition(":") for line in iter(file.readline, "\n") if line]  # up to the first empty line
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in lines}


def processor() -> str:
    """Identify the CPU as far as the system reports it: name, model, and a digest of its instruction sets.

    The name alone does not distinguish generations that add in different orders.
    """
    facts = cpu_facts()
    if not facts:
        return platform.processor()
    numbers = [f"{key} {facts[key]}" for key in ("cpu family", "model", "stepping") if key in facts]
    sets = facts.get("flags") or facts.get("Features") or ""
    digest = [f"instruction sets {hashlib.sha256(sets.encode()).hexdigest()[:8]}"] if sets else []
    return ", ".join([facts.get("model name") or platform.processor() or "unknown", *numbers, *digest])


def compiler_target() -> list[str]:
    """Return what compiled code depends on: the processor and the number of processors."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    traits = [f"{key}: {value}" for key, value in cpu_facts().items() if key.startswith(TRAITS) or key == "cpu"]
    return [platform.system(), platform.machine(), str(cores), *(traits or (platform.processor(), platform.node()))]


def physical_memory() -> float:
    """Return this machine's memory in bytes, or infinity if unknown."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # Windows
        return math.inf


def memory_exceeded(size: float) -> str | None:
    """Return how much memory the machine has if `size` bytes are more than it can spare; else None."""
    memory = physical_memory()
    return f"this machine has {memory / 2**30:,.1f} GiB" if size > MEMORY_SHARE * memory else None


def check_address_space() -> None:
    """Raise MemoryError if `ulimit -v` leaves SciPy no room: its linear algebra waits forever for a buffer."""
    if "scipy.linalg" in sys.modules:
        return
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):  # other systems
        return
    if limit != resource.RLIM_INFINITY and limit - taken < SCIPY_BYTES:
        raise MemoryError
