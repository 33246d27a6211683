"""Start peers in fresh processes, pinned to one core, taking turns."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.common import Spec, to_json

ROOT = Path(__file__).resolve().parent.parent
GRACE = 90  # seconds beyond what a measurement may take: imports and compilation, on a shared core


@dataclass(frozen=True)
class Job:
    """A measurement of one peer.

    Attributes:
        name: what the table calls it.
        spec: what the peer is asked for.
        needs: the packages without which it is skipped.
        environment: variables of its process.
        settings: how it was tuned, in words for the table.
        part: the part of the benchmark, ``"a"`` to ``"e"``.
    """

    name: str
    spec: Spec
    part: str = "a"
    needs: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    settings: str = ""


def pinned(core: int) -> Any:
    """Return what pins a new process to `core`, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    return lambda: os.sched_setaffinity(0, {core})


def start(words: Sequence[str], core: int, timeout: float, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run ``python -m …`` on one core; return the JSON that it prints, or what went wrong."""
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            timeout=timeout,
            env={**os.environ, **(environment or {})},
            preexec_fn=pinned(core),
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"stopped after {timeout:.0f} s"}
    if done.returncode or "{" not in done.stdout:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:200]}
    document = json.loads(done.stdout[done.stdout.index("{") :])
    return {**document, "started_to_ended_seconds": time.perf_counter() - begin}


def run_job(job: Job, core: int, seed: int) -> dict[str, Any]:
    """Measure one peer once."""
    spec = dataclasses.replace(job.spec, seed=seed)
    limit = (3 * spec.cap if spec.task == "optimum" else 20 * spec.seconds) + GRACE
    found = start([f"benchmarks.peers.{spec.peer}", to_json(spec)], core, limit, job.environment)
    return {"part": job.part, "name": job.name, "settings": job.settings, **found, "seed": seed}


def in_turn(jobs: Iterable[Job], core: int, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """Measure all jobs once for each seed: all with the first seed, then all with the second.

    What slows the machine down for a while then slows everybody down, and not one peer.
    """
    jobs, rows, broken = list(jobs), [], set()
    for seed in seeds:
        for job in jobs:
            if job.name in broken:
                continue
            row = run_job(job, core, seed)
            rows.append(row)
            if "failed" in row:
                broken.add(job.name)
            print(f"  {job.part} {job.name}, seed {seed}: {brief(row)}", file=sys.stderr, flush=True)
    return rows


def brief(row: dict[str, Any]) -> str:
    """Return one measurement in a few words."""
    if "failed" in row:
        return str(row["failed"])
    if "updates_per_cpu_second" in row:
        return f"{row['updates_per_cpu_second']:,.0f} updates/s (share of the core {row['cpu_share']:.2f})"
    return f"{row['optimal_starts']} of 300 after {row['updates']:,} updates, {row['cpu_seconds']:.1f} s"


def brief_seconds(row: dict[str, Any]) -> str:
    """Return one training of a preset in a few words."""
    if "failed" in row:
        return str(row["failed"])
    return f"{'optimal' if row['optimal'] else 'not optimal'}, {row['train_seconds']:.1f} s"
