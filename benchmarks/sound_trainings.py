"""Random trainings that nothing is wrong with: `python -m benchmarks.diagnosis` counts what `diagnose` says of them.

Problems are random small tables of the families of `benchmarks.tables`; each setting is drawn from a range in which
people set it. A training counts as healthy if its agent ends optimal, whatever its settings were: then a severe finding
is a false alarm, and so is a warning that `train` gives before its first update.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import tables
from deeptaxi.mdp.table import TransitionTable

FIRST = 50_000  # seeds of the tables: far from those that presets were tuned and measured on
MOST_STATES = 100
MOST_TRIES = 3  # trainings for each healthy one that is asked for

FAMILIES: dict[str, Callable[[int], TransitionTable]] = {
    "garnet": lambda seed: tables.garnet(seed, int(np.random.default_rng(seed).choice([10, 30, 60]))),
    **{name: tables.FAMILIES[name] for name in (
        "scaled garnet", "river swim", "lock", "grid", "inventory", "gambler", "machine", "chain", "forest", "stock",
    )},
}  # fmt: skip


def draw_table(rng: np.random.Generator) -> tuple[str, TransitionTable]:
    """Return a random small table and the name of its family."""
    while True:
        name = str(rng.choice(list(FAMILIES)))
        table = FAMILIES[name](FIRST + int(rng.integers(10_000)))
        if table.states <= MOST_STATES:
            return name, table


def draw_settings(rng: np.random.Generator, table: TransitionTable) -> dict[str, Any]:
    """Return random sound settings, as `deeptaxi.train` takes them."""
    objective = table.discount or 0.99
    settings: dict[str, Any] = {
        "seed": int(rng.integers(1_000)),
        "updates": int(rng.choice([6_000, 10_000, 20_000])),
        "discount": float(rng.choice([objective, objective, 0.97, 0.99])),
        "batch_size": int(rng.choice([64, 128, 256])),
        "environments": int(rng.choice([8, 16, 32, 64])),
        "double": bool(rng.integers(2)),
        "prioritized": bool(rng.random() < 0.3),
        "n_step": int(rng.choice([1, 1, 1, 2, 3])),
        "epsilon_end": float(rng.choice([0.2, 0.3, 0.5])),
        "exploring_starts": float(rng.choice([0.1, 0.3])),
        "early_stop": bool(rng.integers(2)),
    }
    settings |= {"backup": "expected"} if settings["n_step"] == 1 and rng.random() < 0.9 else {}
    settings |= {"polyak": 1.0, "target_period": int(rng.choice([50, 100]))} if rng.random() < 0.3 else {}
    if rng.integers(2):
        together = max(1.0, settings["batch_size"] / (table.states * table.actions))  # samples of a pair add up
        plain = {"optimizer": "sgd", "tabular_step": float(rng.choice([0.1, 0.2, 0.5])) / together}
        adam = {"learning_rate": float(rng.choice([0.01, 0.05, 0.1]))}
        return settings | {"q_table": True} | (plain if rng.integers(2) else adam)
    hidden = [(32,), (64,), (128,), (64, 64)][rng.integers(4)]
    rate = float(rng.choice([0.001, 0.003, 0.005]))
    return settings | {"hidden": hidden, "dueling": bool(rng.integers(2)), "learning_rate": rate}


@dataclasses.dataclass
class SoundTraining:
    """What was said of one training."""

    number: int
    family: str
    settings: dict[str, Any]
    optimal: bool = False
    warned_before: tuple[str, ...] = ()  # by `train`, before its first update
    warned_later: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()  # name:severity
    refused: str = ""


def train_and_diagnose(number: int) -> SoundTraining:
    """Train once with random settings; return what `train` and `diagnose` say of it."""
    import deeptaxi
    from deeptaxi.errors import DeepTaxiError

    rng = np.random.default_rng(number)
    family, table = draw_table(rng)
    row = SoundTraining(number, family, draw_settings(rng, table))
    try:
        run = deeptaxi.train(table, **row.settings)
    except DeepTaxiError as error:
        row.refused = str(error)
        return row
    row.optimal = bool(run.exact["optimal"])
    warnings = [record for record in run.history.records if record.kind == "warning"]
    row.warned_before = tuple(record.finding for record in warnings if record.update == 0)
    row.warned_later = tuple(record.finding for record in warnings if record.update > 0)
    row.findings = tuple(f"{finding.name}:{finding.severity}" for finding in deeptaxi.diagnose(run).findings)
    return row


def count_alarms(found: list[SoundTraining]) -> dict[str, Any]:
    """Count what was said of the trainings whose agents end optimal, by name."""
    healthy = [row for row in found if row.optimal]
    return {
        "trained": len(found),
        "healthy": len(healthy),
        "severe": sum(any(name.endswith(":severe") for name in row.findings) for row in healthy),
        "other": dict(Counter(name for row in healthy for name in row.findings if not name.endswith(":severe"))),
        "warned_before_update_1": dict(Counter(name for row in healthy for name in row.warned_before)),
        "warned_while_training": dict(Counter(name for row in healthy for name in row.warned_later)),
    }
