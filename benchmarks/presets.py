"""How well the presets and the default for tables do: ``python -m benchmarks.presets [--seeds 20] [--unseen]``.

Every preset of a problem with a transition table is trained over seeds, in one process a preset, so that TensorFlow
starts once; with ``--unseen`` also every family of `benchmarks.tables`, for both networks. *Within 0.002* counts the
trainings whose value falls short of the optimum by at most 0.002 · (1 + |optimum|).

``--tune NAME`` searches the settings of a preset again instead, and compares what it finds with the preset on unseen
seeds; see `benchmarks.preset_search`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables import FAMILIES, HELD_OUT
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.presets import listed_presets

NEAR = 0.002
GOOD = 0.99
WITHOUT_TABLE = ("blackjack", "cartpole", "taxi-fickle")
FIRST_UNSEEN = 1_000  # seeds below it were tuned on
Row = dict[str, Any]


def trained(values: Mapping[str, Any], preset: str | None = None) -> Row:
    """Train what `values` and `preset` ask for, in this process; return its figures."""
    from deeptaxi.backend import keras_backend

    keras_backend.start()
    from deeptaxi.config import EnvironmentConfig
    from deeptaxi.learning.resolve import choose, configure, with_environment
    from deeptaxi.learning.trainer import train
    from deeptaxi.mdp.environment import open_environment
    from deeptaxi.schema import from_mapping

    named = choose(values, preset)
    values = with_environment(values, named)
    environment = open_environment(from_mapping(EnvironmentConfig, values["environment"]))
    *_, last = train(configure(environment, values, named).config, environment)
    exact = last.exact
    return {
        "optimal": exact["optimal"],
        "shortfall": exact["value_gap"] / (1 + abs(exact["optimal_value"])),
        "score": 1.0 if exact["normalized_score"] is None else exact["normalized_score"],
        "updates": last.updates,
        "seconds": last.train_seconds,
    }


def of_preset(name: str, seeds: Iterable[int]) -> list[Row]:
    """Train a preset for each seed, in this process."""
    return [trained({"seed": seed}, name) for seed in seeds]


def of_family(name: str, network: str, seeds: Iterable[int]) -> list[Row]:
    """Train the tables of a family for each seed, in this process."""
    from deeptaxi.mdp.table import save_table

    kind = {"hidden": [], "dueling": False} if network == "q-table" else {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            path = Path(folder) / f"{seed}.npz"
            save_table(FAMILIES[name](seed), path)
            rows.append(trained({"seed": seed, "environment": {"id": str(path)}, "network": kind}))
    return rows


def apart(*words: str) -> list[Row]:
    """Run one part of the work in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.presets", "--part", *words], stdout=subprocess.PIPE, text=True, check=True
    )
    rows: list[Row] = json.loads(done.stdout.strip().splitlines()[-1])
    return rows


def summary(name: str, rows: list[Row]) -> Row:
    """Return one row of the table."""
    return {
        "name": name,
        "seeds": len(rows),
        "optimal": sum(row["optimal"] for row in rows),
        "near": sum(row["shortfall"] <= NEAR for row in rows),
        "good": sum(row["score"] >= GOOD for row in rows),
        "updates": statistics.median(row["updates"] for row in rows),
        "seconds": statistics.median(row["seconds"] for row in rows),
    }


def known() -> list[str]:
    """Return the presets of problems that have a table."""
    return [preset.name for preset in listed_presets() if preset.name.split(".")[0] not in WITHOUT_TABLE]


def run(seeds: int, names: Iterable[str] | None = None) -> list[Row]:
    """Train the presets `names`, or all that have a table, over `seeds` seeds; return a row a preset."""
    return [summary(name, apart("preset", name, "-", str(seeds))) for name in names or known()]


def unseen(seeds: int, names: Iterable[str] | None = None) -> list[Row]:
    """Train the families `names`, or all, with both networks on tables of `seeds` unseen seeds; return their rows."""
    return [
        summary(f"{name}, {network}", apart("family", name, network, str(seeds)))
        for name in names or FAMILIES
        for network in ("dueling", "q-table")
    ]


def show(rows: list[Row]) -> None:
    """Print rows as Markdown."""
    print(
        "| preset or family | seeds | optimal | within 0.002 | score ≥ 0.99 | updates, median | training, s, median |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        counts = " | ".join(str(row[key]) for key in ("name", "seeds", "optimal", "near", "good"))
        print(f"| {counts} | {row['updates']:,.0f} | {row['seconds']:.2f} |")


def share(rows: list[Row]) -> float:
    """Return the share of the trainings that reached the score."""
    return sum(row["good"] for row in rows) / sum(row["seeds"] for row in rows)


def part(kind: str, name: str, network: str, seeds: str) -> None:
    """Do one part of the work and print its rows as JSON."""
    if kind == "preset":
        rows = of_preset(name, range(int(seeds)))
    else:
        rows = of_family(name, network, range(FIRST_UNSEEN, FIRST_UNSEEN + int(seeds)))
    print(json.dumps(rows))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="seeds that are measured; with --tune, unseen ones")
    parser.add_argument("--unseen", action="store_true", help="the families of benchmarks.tables instead")
    parser.add_argument("--only", nargs="*", help="these presets or families")
    parser.add_argument("--tune", metavar="NAME", help="search this preset again, and compare what is found with it")
    parser.add_argument("--trials", type=int, default=40, help="of the search")
    parser.add_argument("--tune-seeds", type=int, default=10, metavar="N", help="a trial trains the seeds 0 to N - 1")
    parser.add_argument("--study-storage", metavar="URL", help="database that keeps the study, to continue it")
    parser.add_argument("-o", type=Path, dest="out", metavar="FILE", help="write the best settings of the search here")
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        part(*asked.part)
        return
    if asked.tune:
        from benchmarks.preset_search import tune_preset

        unseen_seeds = range(FIRST_UNSEEN, FIRST_UNSEEN + asked.seeds)
        try:
            tune_preset(asked.tune, asked.trials, asked.tune_seeds, unseen_seeds, asked.study_storage, asked.out)
        except DeepTaxiError as error:
            parser.exit(1 + isinstance(error, UsageError), f"{parser.prog}: {error}\n")
        return
    rows = unseen(asked.seeds, asked.only) if asked.unseen else run(asked.seeds, asked.only)
    show(rows)
    if asked.unseen:
        held_out = [row for row in rows if row["name"].split(",")[0] in HELD_OUT]
        print(f"\nscore ≥ {GOOD}: {share(rows):.1%}")
        if held_out:
            print(f"of the families not tuned on: {share(held_out):.1%}")


if __name__ == "__main__":
    main()
