"""Which loop can run a configuration: told before the backend is imported."""

from __future__ import annotations

import os
from typing import Any

from deeptaxi.config import TrainConfig
from deeptaxi.mdp.environment import Environment, known_mask

COMPILING = ("tensorflow", "jax")
OPTIMIZER_OPTIONS: dict[str, dict[str, Any]] = {  # that the compiled loop has, with Keras' defaults
    "sgd": {"momentum": 0.0, "nesterov": False},
    "adam": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
}
LARGEST_INDEX = 2**31 - 1
LARGEST_BYTES = 8 * 2**30
BYTES = 25  # of a table's entry: five arrays of 4 bytes, one of 1, and what the largest of them takes in being made


def not_compiled(config: TrainConfig, environment: Environment) -> str | None:
    """Return why the compiled loop cannot run this training; None where it can."""
    running = os.environ.get("KERAS_BACKEND", "tensorflow")
    if environment.table is None:
        return f"it needs a transition table, and {environment.config.id} has none: {environment.table_missing}"
    if running not in COMPILING:
        return f"it runs on {' and '.join(COMPILING)}, not on KERAS_BACKEND={running}"
    known = OPTIMIZER_OPTIONS.get(config.optimizer.name)
    if known is None:
        return f"it has the optimizers {' and '.join(OPTIMIZER_OPTIONS)}, not {config.optimizer.name}"
    unknown = sorted(config.optimizer.options.keys() - known.keys())
    if unknown:
        return f"its {config.optimizer.name} has no option {unknown[0]}"
    if config.exploration.action_mask and known_mask(environment) is None:
        return "it needs the action mask of all states in advance, and this environment shows it on the way"
    return too_large(*environment.table.probability.shape)


def too_large(states: int, actions: int, outcomes: int) -> str | None:
    """Return that a table has too many entries to be compiled; None where it has not."""
    entries = states * actions * outcomes
    if entries <= LARGEST_INDEX and entries * BYTES <= LARGEST_BYTES:
        return None
    return (
        f"the table has {states:,} states × {actions:,} actions × {outcomes:,} outcomes, "
        f"{entries * BYTES / 2**30:,.1f} GiB when laid out, more than {LARGEST_BYTES / 2**30:,.0f} GiB"
    )
