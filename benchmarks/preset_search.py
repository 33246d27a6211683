"""Search a preset's settings again, and compare what is found with them: ``python -m benchmarks.presets --tune NAME``.

The search is that of `deeptaxi tune --preset NAME`: it begins with the preset, on its own problem, and varies what
`tune` varies. Then both settings are trained from seeds that neither was tuned on, in turn and in one process. The
preset stands unless what was found solves more of these seeds, by Boschloo's test, or as many in fewer updates, by the
log-rank test. Its file is not touched.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

import deeptaxi
from deeptaxi.api.job_runner import JobRunner
from deeptaxi.api.settings import values_of
from deeptaxi.api.tune import TuneResult
from deeptaxi.display.console import err
from deeptaxi.display.tune_table import TuneProgress, rounded
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.experiments.grid import Job, format_seeds
from deeptaxi.io.atomic import write_text
from deeptaxi.presets import packaged_preset
from deeptaxi.statistics.differences import LEVEL, boschloo, mann_whitney
from deeptaxi.statistics.survival import kaplan_meier, log_rank
from deeptaxi.storage.run_results import time_to_optimum

OBJECTIVE = "seeds solved, then updates to the optimum, then CPU seconds"
OUTCOMES = STANDS, BETTER, TRADED = "stands", "beaten", "beaten in updates, not in CPU seconds"


@dataclass(frozen=True)
class Measured:
    """Trainings with the same settings, one a seed.

    Attributes:
        optimal: whether each is proven optimal, `[seeds]`.
        updates: to the optimum, or all that were made, `[seeds]`.
        cpu_seconds: of each, without compilation, `[seeds]`.
    """

    optimal: np.ndarray
    updates: np.ndarray
    cpu_seconds: np.ndarray

    @property
    def solved(self) -> int:
        """How many are optimal."""
        return int(self.optimal.sum())

    @property
    def median_updates(self) -> float:
        """The median number of updates to the optimum, by Kaplan and Meier; ∞ if half of the seeds do not reach it."""
        median = kaplan_meier(self.updates, self.optimal).median.estimate
        return np.inf if median is None else median

    @property
    def median_seconds(self) -> float:
        """The median of the CPU seconds."""
        return float(np.median(self.cpu_seconds))


def search(name: str, trials: int, seeds: int, storage: str | None) -> TuneResult:
    """Search the settings of a preset, from the seeds 0 to `seeds` − 1; continue the study of its name in `storage`.

    Raises:
        DeepTaxiError: its problem has no transition table, or the storage cannot be used.
    """
    with tempfile.TemporaryDirectory() as folder, TuneProgress(err()) as progress:
        url = storage or f"sqlite:///{Path(folder) / 'study.db'}"
        return deeptaxi.tune(
            preset=name, trials=trials, seeds=range(seeds), storage=url, study=name, trust_env=True, watch=progress
        )


def measure(settings: Sequence[tuple[Mapping[str, Any], str]], seeds: Iterable[int]) -> list[Measured]:
    """Train each of several settings, with its preset, from each of the seeds; the settings take turns.

    Raises:
        DeepTaxiError: a training failed.
    """
    runners = [JobRunner(None, Path()) for _ in settings]
    rows: list[list[tuple[bool, float, float]]] = [[] for _ in settings]
    for seed in seeds:
        for number, (values, preset) in enumerate(settings):
            job = Job(f"{number}/{seed}", str(number), seed, {**values, "seed": seed}, {}, preset)
            rows[number].append(train_job(runners[number], job))
    return [Measured(*map(np.array, zip(*part, strict=True))) for part in rows]


def train_job(runner: JobRunner, job: Job) -> tuple[bool, float, float]:
    """Train a job; return whether it is optimal, its updates to the optimum, and its CPU seconds.

    Raises:
        DeepTaxiError: it failed.
    """
    line = runner(job)
    time = None if runner.run is None or runner.run.history is None else time_to_optimum(runner.run.history)
    if time is None:
        raise DeepTaxiError(f"seed {job.seed}: {line.get('reason') or line.get('failure') or 'no evaluation'}")
    return time.reached, time.updates, max(0.0, line["cpu_seconds"] - line["compile_seconds"])


def outcome(shipped: Measured, found: Measured) -> str:
    """Return `STANDS`; `BETTER` if what was found is, by the objective; `TRADED` if it needs more CPU time for it."""
    share_p = boschloo(found.solved, len(found.optimal), shipped.solved, len(shipped.optimal))
    if share_p < LEVEL:
        return BETTER if found.solved > shipped.solved else STANDS
    updates_p = log_rank((found.updates, shipped.updates), (found.optimal, shipped.optimal))
    if updates_p is None or updates_p >= LEVEL or found.median_updates >= shipped.median_updates:
        return STANDS
    slower = found.median_seconds > shipped.median_seconds
    return TRADED if slower and mann_whitney(found.cpu_seconds, shipped.cpu_seconds) < LEVEL else BETTER


def show(name: str, rows: Mapping[str, Measured]) -> None:
    """Print a table as Markdown."""
    print(f"| {name} | unseen seeds optimal | updates to the optimum, median | CPU seconds a seed, median |")
    print("|---|---|---|---|")
    for label, one in rows.items():
        updates = "not reached" if np.isinf(one.median_updates) else f"{one.median_updates:,.0f}"
        print(f"| {label} | {one.solved} of {len(one.optimal)} | {updates} | {one.median_seconds:.3g} |")


def figures(one: Measured) -> dict[str, Any]:
    """Return the figures of a table as TOML has them."""
    reached = {} if np.isinf(one.median_updates) else {"updates": round(one.median_updates)}
    return {
        "seeds": len(one.optimal),
        "optimal": one.solved,
        **reached,
        "cpu_seconds": float(f"{one.median_seconds:.3g}"),
    }


def check(name: str, seeds: int, unseen: Sequence[int], out: Path | None) -> None:
    """Check the arguments before anything is trained.

    Raises:
        UsageError: there is no such preset, no unseen seed or one that is searched, or the file exists.
    """
    packaged_preset(name)
    if not unseen:
        raise UsageError("--seeds: expected 1 or more")
    if seeds > unseen[0]:
        raise UsageError(f"--tune-seeds {seeds}: expected at most {unseen[0]:,}: the preset is compared on others")
    if out is not None and out.exists():
        raise UsageError(f"{out} exists: choose another -o")


def tune_preset(
    name: str, trials: int, seeds: int, unseen: Sequence[int], storage: str | None, out: Path | None
) -> dict[str, Any]:
    """Search a preset again, compare what is found with it on the `unseen` seeds, and print the outcome.

    Args:
        name: of the preset.
        trials: of the study.
        seeds: how many each trial trains, from 0.
        unseen: those on which the preset and what was found are compared.
        storage: URL of the database of the study; None for one that is not kept.
        out: the file to write the best settings to, if any.

    Returns:
        What the file of the preset may say of the search: its table ``[preset.study]``.

    Raises:
        DeepTaxiError: see `check`, `search` and `measure`; or no trial is complete.
    """
    check(name, seeds, unseen, out)
    result = search(name, trials, seeds, storage)
    best = result.best
    if best is None or result.best_toml is None:
        raise DeepTaxiError(f"no trial of {len(result.trials)} is complete: raise --trials")
    print(result)
    if out is not None:
        write_text(out, result.best_toml, force=False)
        print(f"The best settings: {out}")
    settings: dict[str, tuple[Mapping[str, Any], str]] = {"shipped": ({}, name)}
    if best["trial"] > 0:  # the first has the settings of the preset
        settings[f"found, trial {best['trial']}"] = values_of(tomllib.loads(result.best_toml)), "none"
    shipped, *others = measured = measure(list(settings.values()), unseen)
    verdict = outcome(shipped, *others) if others else STANDS
    print()
    show(name, dict(zip(settings, measured, strict=True)))
    print(f"\nThe preset {verdict if verdict == STANDS else 'is ' + verdict}.")
    study: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "version": deeptaxi.__version__,
        "trials": len(result.trials),
        "seeds": format_seeds(range(seeds)),
        "unseen_seeds": format_seeds(unseen),
        "objective": OBJECTIVE,
        "outcome": verdict,
        "shipped": figures(shipped),
    }
    for found in others:
        study["best"] = {**figures(found), "settings": {key: rounded(value) for key, value in best["settings"].items()}}
    print(f"\n{tomli_w.dumps({'preset': {'study': study}})}", end="")
    return study
