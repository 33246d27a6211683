"""Start peers in fresh processes, pinned to one core, taking turns."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
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
        group: jobs of one group run in one process, which must take several specifications; "" for its own.
    """

    name: str
    spec: Spec
    part: str = "a"
    needs: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    settings: str = ""
    group: str = ""


def pinned(core: int) -> Any:
    """Return what pins a new process to `core`, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    return lambda: os.sched_setaffinity(0, {core})


def start(
    words: Sequence[str], core: int, timeout: float, environment: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Run ``python -m …`` on one core; return the JSON documents that it prints, a line each, or what went wrong."""
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
        return [{"failed": f"stopped after {timeout:.0f} s"}]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not found:
        found.append({"failed": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:200]})
    return found


def run_jobs(jobs: Sequence[Job], core: int) -> list[dict[str, Any]]:
    """Measure jobs of one peer in one process; what it did not get to failed as the last one did."""
    limit = GRACE + sum(3 * job.spec.cap if job.spec.task == "optimum" else 30 + 20 * job.spec.seconds for job in jobs)
    specs = [to_json(job.spec) for job in jobs]
    found = start([f"benchmarks.peers.{jobs[0].spec.peer}", *specs], core, limit, jobs[0].environment)
    found += [found[-1]] * (len(jobs) - len(found))
    return [
        {"part": job.part, "name": job.name, "settings": job.settings, **row, "seed": job.spec.seed}
        for job, row in zip(jobs, found, strict=False)
    ]


def in_turn(jobs: Iterable[Job], core: int, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """Measure all jobs once for each seed: all with the first seed, then all with the second.

    What slows the machine down for a while then slows everybody down, and not one peer. Jobs of one `group` that
    follow each other share a process.
    """
    jobs, rows, broken = list(jobs), [], set()
    for seed in seeds:
        left = [dataclasses.replace(job, spec=dataclasses.replace(job.spec, seed=seed)) for job in jobs]
        for _, together in itertools.groupby(enumerate(left), lambda item: item[1].group or item[0]):
            wanted = [job for _, job in together if job.name not in broken]
            for row in run_jobs(wanted, core) if wanted else []:
                rows.append(row)
                if "failed" in row:
                    broken.add(row["name"])
                print(f"  {row['part']} {row['name']}, seed {seed}: {brief(row)}", file=sys.stderr, flush=True)
    return rows


def brief(row: dict[str, Any]) -> str:
    """Return one measurement in a few words."""
    if "failed" in row:
        return str(row["failed"])
    if "updates_per_cpu_second" in row:
        return f"{row['updates_per_cpu_second']:,.0f} updates/s (share of the core {row['cpu_share']:.2f})"
    return f"{row['optimal_starts']} of 300 after {row['updates']:,} updates, {row['cpu_seconds']:.1f} s"
