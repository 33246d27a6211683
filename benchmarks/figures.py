"""Measure the figures that docs/performance.md quotes: ``python -m benchmarks.figures [--seeds N]``.

Trains Taxi-v4 with the dueling and the Q-table network for each seed, each in a process of its own, as a user would;
times the answers that must not wait for TensorFlow; checks the gradients of the dueling head; computes the known
optima. Pin it to one core for figures that compare: ``taskset -c 0 python -m benchmarks.figures``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OPTIMA = {
    ("Taxi-v4",): 7.9300,
    ("Taxi-v4", "--env-arg", "is_rainy=true"): 3.9546,
    ("FrozenLake-v1",): 0.7442,
    ("FrozenLake8x8-v1",): 0.9132,
    ("CliffWalking-v1",): -13.0,
    ("CliffWalkingSlippery-v1",): -64.7092,
}
ANSWERS = (["--help"], ["evaluate", "--help"], ["train", "Taxi-v4", "--sed", "1"])


def deeptaxi(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a fresh process."""
    return subprocess.run(
        [sys.executable, "-m", "deeptaxi", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def trainings(seeds: int, folder: Path) -> list[dict[str, Any]]:
    """Train both networks on Taxi-v4 for each seed."""
    rows = []
    for name, words in (("dueling", []), ("q-table", ["--q-table"])):
        for seed in range(seeds):
            out = folder / f"{name}-{seed}"
            start = time.perf_counter()
            done = deeptaxi(
                "train",
                "Taxi-v4",
                *words,
                "--seed",
                str(seed),
                "--out",
                str(out),
                "--logs",
                str(folder / "logs"),
                "--json",
            )
            summary = json.loads(done.stdout)
            rows.append({**summary, "network": name, "process_seconds": time.perf_counter() - start})
    return rows


def print_trainings(rows: list[dict[str, Any]]) -> None:
    """Print a row a training, and a row a network."""
    print("| network | seed | gap | optimal starts | updates | training, s | compilation, s | process, s | digest |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        exact = row["exact"]
        starts = f"{exact['optimal_start_states']}/{exact['start_states']}"
        seconds = " | ".join(f"{row[key]:.1f}" for key in ("train_seconds", "compile_seconds", "process_seconds"))
        print(
            f"| {row['network']} | {row['seed']} | {exact['gap']:g} | {starts} | {row['updates']} | {seconds} "
            f"| {row['weights_digest'][:8]} |"
        )
    for name in ("dueling", "q-table"):
        mine = [row for row in rows if row["network"] == name]
        solved = sum(row["exact"]["gap"] == 0 and row["exact"]["optimal"] for row in mine)
        times = [row["train_seconds"] for row in mine]
        print(
            f"\n{name}: {solved} of {len(mine)} seeds exactly optimal; training {statistics.median(times):.1f} s "
            f"(median; {min(times):.1f} to {max(times):.1f})"
        )


def print_answers(repeats: int = 5) -> None:
    """Time what must answer at once."""
    print("\n| command | seconds (median of five) |\n|---|---|")
    for words in ANSWERS:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            deeptaxi(*words)
            times.append(time.perf_counter() - start)
        print(f"| deeptaxi {' '.join(words)} | {statistics.median(times):.2f} |")


def print_gradients() -> None:
    """Check the dueling head's gradients for one to 64 actions."""
    from deeptaxi.backend import keras_backend

    keras_backend.start()
    from deeptaxi.network.gradients import check_gradients

    checks = [check_gradients(actions) for actions in range(1, 65)]
    print("\nDueling gradients, N = 1 … 64, float64, largest discrepancy from the closed form:")
    print(f"shared sum {max(check.shared_sum or 0.0 for check in checks):.1e}, ", end="")
    print(f"autodiff {max(check.autodiff for check in checks):.1e}, ", end="")
    print(f"central differences {max(check.finite_differences for check in checks):.1e}")


def print_optima() -> None:
    """Compute the known optima."""
    print("\n| environment | optimal return | known | difference |\n|---|---|---|---|")
    for words, known in OPTIMA.items():
        found = json.loads(deeptaxi("solve", *words, "--json").stdout)["optimal_return"]
        print(f"| {' '.join(words)} | {found:.4f} | {known:.4f} | {abs(found - known):.1e} |")


def main() -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory() as folder:
        print_trainings(trainings(seeds, Path(folder)))
    print_answers()
    print_gradients()
    print_optima()


if __name__ == "__main__":
    main()
