"""Which loop can run a configuration: told before the backend is imported."""

from __future__ import annotations

import os
from typing import Any

from deeptaxi.config import TrainConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.masks import known_mask

COMPILING = ("tensorflow", "jax")
OPTIMIZER_OPTIONS: dict[str, dict[str, Any]] = {  # that the compiled loop has, with Keras' defaults
    "sgd": {"momentum": 0.0, "nesterov": False},
    "adam": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
}
LARGEST_INDEX = 2**31 - 1
LARGEST_BYTES = 8 * 2**30  # of a table that is laid out
LOOP_BYTES = 8 * 2**30  # of replay memory and random numbers
BYTES = 25  # of a table's entry: five arrays of 4 bytes, one of 1, and what the largest of them takes in being made


def not_compiled(config: TrainConfig, environment: Environment) -> str | None:
    """Return why the compiled loop cannot run this training; None where it can."""
    running = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if environment.table is None:
        return f"it needs a transition table, and {environment.config.id} has none: {environment.table_missing}"
    if running not in COMPILING:
        return f"it runs on {' and '.join(COMPILING)}, not on KERAS_BACKEND={running}"
    known = OPTIMIZER_OPTIONS.get(config.optimizer.name)
    if known is None:
        return f"it has the optimizers {' and '.join(OPTIMIZER_OPTIONS)}, not {config.optimizer.name}"
    for option, value in config.optimizer.options.items():
        if option not in known:
            return f"its {config.optimizer.name} has no option {option}"
        check_option(option, value)
    if config.exploration.action_mask and known_mask(environment) is None:
        return "it needs the action mask of all states in advance, and this environment shows it on the way"
    return too_large(*environment.table.probability.shape) or too_many(config, environment.actions)


def check_option(name: str, value: Any) -> None:
    """Refuse an option of the optimizer that cannot be meant.

    Raises:
        UsageError: it is of another kind, or out of its range.
    """
    if name == "nesterov":
        sound, expected = isinstance(value, bool), "true or false"
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        sound = number and (value > 0 if name == "epsilon" else 0 <= value < 1)
        expected = "a number above 0" if name == "epsilon" else "a number from 0 to below 1"
    if not sound:
        raise UsageError(f"[optimizer.options] {name} = {value!r}: expected {expected}")


def too_many(config: TrainConfig, actions: int) -> str | None:
    """Return that replay memory, copies or minibatch are too large to be held; None where they are not."""
    numbers = config.interaction.steps_per_update * config.interaction.environments * (actions + 7)
    size = 4 * (3 * config.replay.capacity + 4 * (numbers + config.replay.batch_size * actions))
    if size <= LOOP_BYTES and numbers < LARGEST_INDEX:
        return None
    return (
        f"a replay memory of {config.replay.capacity:,}, {config.interaction.environments:,} environments and "
        f"minibatches of {config.replay.batch_size:,} take {size / 2**30:,.1f} GiB, more than "
        f"{LOOP_BYTES / 2**30:,.0f} GiB"
    )


def too_large(states: int, actions: int, outcomes: int) -> str | None:
    """Return that a table has too many entries to be compiled; None where it has not."""
    entries = states * actions * outcomes
    if entries <= LARGEST_INDEX and entries * BYTES <= LARGEST_BYTES:
        return None
    return (
        f"the table has {states:,} states × {actions:,} actions × {outcomes:,} outcomes, "
        f"{entries * BYTES / 2**30:,.1f} GiB when laid out, more than {LARGEST_BYTES / 2**30:,.0f} GiB"
    )
