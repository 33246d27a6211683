"""``python -m benchmarks``: deeptaxi and its peers side by side, each in a fresh process on one core."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import goals, plan, presets, startup, table
from benchmarks.run import in_turn, start

PACKAGES = (
    "deeptaxi", "keras", "tensorflow", "jax", "jaxlib", "torch", "stable-baselines3",
    "rejax", "flax", "gymnax", "optax", "gymnasium", "numpy",
)  # fmt: skip
PART_OF = {"p": "b", "u": "c"}  # rows that stand in tables of their own


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="a,b,c,d,e", help="parts, e.g. a,e  [default: a,b,c,d,e]")
    whole = {"seeds": (10, "of part b"), "repeats": (3, "of part a"), "pairs": (5, "whole processes of part b")}
    whole |= {"preset-seeds": (2, "seeds of part c"), "unseen-seeds": (1, "tables of each family of part c")}
    for name, (usual, words) in whole.items():
        parser.add_argument(f"--{name}", type=int, default=usual, metavar="N", help=f"{words}  [default: {usual}]")
    parser.add_argument("--core", type=int, default=0, help="the core that everything is pinned to  [default: 0]")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder  [default: benchmarks/]")
    parser.add_argument("--loop", default="compiled", help="deeptaxi's loop  [default: compiled]")
    parser.add_argument("--note", default="", help="a sentence for the top of RESULTS.md")
    parser.add_argument("--keep", action="store_true", help="keep what the folder has of the parts not measured now")
    parser.add_argument("--quick", action="store_true", help="parts a and e, once, short measurements")
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
    """Part e: the limits, and beside them what part a measured of the same update."""
    found = start(["benchmarks.limits"], core, 120)[0]
    if "failed" in found:
        return [{"part": "e", "name": "limits", "failed": found["failed"]}]
    result = []
    rates: dict[str, list[float]] = {}
    for row in rows:
        if row["part"] == "a" and "updates_per_cpu_second" in row:
            rates.setdefault(row["name"], []).append(row["updates_per_cpu_second"])
    for name, limit in found["limits"].items():
        for owner in [each for each in rates if each.endswith(name)] or [None]:
            measured = {"measured_us": 1e6 / statistics.median(rates[owner]), "by": owner} if owner else {}
            result.append({"part": "e", "name": name, **limit, **measured, "core": found["core"]})
    return result


def preset_rows(seeds: int, unseen: int) -> list[dict[str, Any]]:
    """Part c: a row a preset, and a row a family of unseen tables and kind of network."""
    rows = []
    for part, function, names, count in (
        ("c", presets.run, presets.known(), seeds),
        ("u", presets.unseen, presets.FAMILIES, unseen),
    ):
        for name in names if count else ():
            try:
                found = function(count, [name])
            except (subprocess.CalledProcessError, OSError, ValueError, KeyError) as error:
                found = [{"name": name, "failed": str(error)[-200:]}]
            print(f"  {part} {name}: {found[0].get('good', 'failed')} of {count}", file=sys.stderr, flush=True)
            rows += [{"part": part, **row} for row in found]
    return rows


def measure_part(part: str, asked: argparse.Namespace, rows: list[dict[str, Any]]) -> tuple[list[Any], list[str]]:
    """Measure one part; return its rows, and the peers that are not installed."""
    if part == "c":
        return preset_rows(asked.preset_seeds, asked.unseen_seeds), []
    if part == "e":
        return limit_rows(asked.core, rows), []
    jobs, count = {
        "a": (plan.rates, 1 if asked.quick else asked.repeats),
        "b": (plan.optima, 1 if asked.quick else asked.seeds),
        "d": (plan.sizes, 1),
    }[part]
    there, missing = plan.available(jobs(asked.loop))
    found = in_turn(plan.quick(there) if asked.quick else there, asked.core, range(count))
    if part == "b" and not asked.quick:
        found += startup.measure(asked.core, asked.pairs)
    return found, missing


def kept(asked: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return the rows and minutes of an earlier run that are not measured again."""
    before = asked.out / "results.json"
    if not asked.keep or not before.exists():
        return [], {}
    again = asked.only.split(",")
    found = json.loads(before.read_text(encoding="utf-8"))
    rows = [row for row in found["rows"] if PART_OF.get(row["part"], row["part"]) not in again]
    return rows, {part: value for part, value in found["minutes"].items() if part not in again}


def measure(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure what is asked for; yield all there is after each part."""
    rows, minutes = kept(asked)
    skipped: set[str] = set()
    for part in "ae" if asked.quick else sorted(asked.only.split(",")):
        begin = time.perf_counter()
        found, missing = measure_part(part, asked, rows)
        rows += found
        skipped |= set(missing)
        minutes[part] = (time.perf_counter() - begin) / 60
        yield {"minutes": minutes, "skipped": sorted(skipped), "goals": goals.ratios(rows), "rows": rows}


def main() -> None:
    """Measure everything and write it down."""
    asked = options()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {asked.core})  # what this process starts inherits it
    date = datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d")
    about = {"date": date, "machine": machine(asked.core), "packages": versions(), "note": asked.note}
    for found in measure(asked):
        table.write({**about, **found}, asked.out)  # after each part: one that is stopped leaves what it has
    print((asked.out / "RESULTS.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
