"""``python -m benchmarks``: deeptaxi and its peers side by side, each in a fresh process on one core."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks import plan, table, users
from benchmarks.run import in_turn, start

PACKAGES = (
    "deeptaxi", "keras", "tensorflow", "jax", "jaxlib", "torch", "stable-baselines3",
    "rejax", "flax", "gymnax", "optax", "gymnasium", "numpy",
)  # fmt: skip
REPEATS = 3


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="a,b,c,d,e", help="parts, e.g. a,e  [default: a,b,c,d,e]")
    parser.add_argument("--seeds", type=int, default=None, help="seeds of parts b and c  [default: 10; 1 if --quick]")
    parser.add_argument("--core", type=int, default=0, help="the core that everything is pinned to  [default: 0]")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder  [default: benchmarks/]")
    parser.add_argument("--loop", default="compiled", help="deeptaxi's loop  [default: compiled]")
    parser.add_argument("--quick", action="store_true", help="short measurements, parts a, b and e")
    return parser.parse_args()


def machine(core: int) -> dict[str, Any]:
    """Say what was measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    return {
        "CPU": cpu,
        "cores": f"{os.cpu_count()}, measured on core {core}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def limit_rows(core: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Part e: the limits, and beside them the fastest that part a measured of the same update."""
    found = start(["benchmarks.limits"], core, 120)
    if "failed" in found:
        return [{"part": "e", "name": "limits", "failed": found["failed"]}]
    result = []
    for name, limit in found["limits"].items():
        same = [row for row in rows if row["part"] == "a" and name in row["name"] and "updates_per_cpu_second" in row]
        for owner in ("deeptaxi", "plain JAX"):
            mine = [row for row in same if row["name"].startswith(owner)]
            best = max(mine, key=lambda row: row["updates_per_cpu_second"], default=None)
            measured = {"measured_us": 1e6 / best["updates_per_cpu_second"], "by": best["name"]} if best else {}
            if best or owner == "deeptaxi":
                result.append({"part": "e", "name": name, **limit, **measured, "core": found["core"]})
    return result


def measure(asked: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure what is asked for; return the rows, and the peers that are not installed."""
    parts = set("abe" if asked.quick and asked.only == "a,b,c,d,e" else asked.only.split(","))
    seeds = asked.seeds or (1 if asked.quick else 10)
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    counts = {"a": 1 if asked.quick else REPEATS, "b": seeds, "d": 1}
    for part, jobs in (("a", plan.rates), ("b", plan.optima), ("d", plan.sizes)):
        if part in parts:
            there, missing = plan.available(jobs(asked.loop))
            rows += in_turn(plan.quick(there) if asked.quick else there, asked.core, range(counts[part]))
            skipped += missing
    if "c" in parts:
        rows += users.measure(asked.core, seeds)
    if "e" in parts:
        rows += limit_rows(asked.core, rows)
    return rows, sorted(set(skipped))


def main() -> None:
    """Measure everything and write it down."""
    asked = options()
    rows, skipped = measure(asked)
    date = datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d")
    result = {"date": date, "machine": machine(asked.core), "packages": versions(), "skipped": skipped, "rows": rows}
    table.write(result, asked.out)
    print(table.document(result))


if __name__ == "__main__":
    main()
