"""The memory that a training takes, estimated before anything is allocated.

It grows with four settings. Each is estimated as a lower bound, so that no feasible training is rejected: weights three
times (online, target, best), the replay buffer, the environments, and the largest layer over one minibatch. The
compiled loop has limits of its own: its indices have 32 bits.
"""

from __future__ import annotations

from itertools import pairwise

from deeptaxi.config import TrainConfig
from deeptaxi.errors import UsageError
from deeptaxi.machine import memory_exceeded

FLOAT = 4
ENTRY = {True: 4, False: 20}  # bytes per transition, in the compiled loop and in the others
COPY = {True: 12, False: 2_000}  # bytes per environment; outside the compiled loop it is a Python object


def check_size(config: TrainConfig, states: int, actions: int) -> None:
    """Reject a training that needs more than `MEMORY_SHARE` of physical memory.

    Raises:
        UsageError: it does; the message names the setting that needs most.
    """
    parts = memory_parts(config, states, actions)
    size = sum(parts.values())
    if memory := memory_exceeded(size):
        most = max(parts, key=lambda name: parts[name])
        raise UsageError(f"this training takes {size / 2**30:,.1f} GiB or more, most of it for {most}, and {memory}")


def count_weights(config: TrainConfig, states: int, actions: int) -> int:
    """Return the number of weights of the network; a lower bound under the factored encoding."""
    hidden = config.network.hidden
    inputs = 1 if config.network.encoding == "factored" else states
    widths = (inputs, *hidden)
    layers = sum((one + 1) * other for one, other in pairwise(widths))
    head = (widths[-1] + bool(hidden)) * (actions + config.network.dueling)
    return layers + head + (states * actions if config.exploration.action_mask else 0)


def memory_parts(config: TrainConfig, states: int, actions: int) -> dict[str, int]:
    """Return the bytes that each setting requires, keyed by option name."""
    compiled = config.loop == "compiled"
    hidden = config.network.hidden
    inputs = 1 if config.network.encoding == "factored" else states
    widths = (inputs, *hidden, actions)
    weights = sum(one * other for one, other in pairwise(widths))
    return {
        "--hidden": 3 * FLOAT * weights,
        "--replay-capacity": ENTRY[compiled] * config.replay.capacity,
        "--environments": COPY[compiled] * config.interaction.environments,
        "--batch-size": FLOAT * config.replay.batch_size * max(actions, *hidden, 1),
    }


LARGEST_INDEX = 2**31 - 1
LARGEST_BYTES = 8 * 2**30  # of the compiled table
LOOP_BYTES = 8 * 2**30  # of replay buffer and random numbers
BYTES = 25  # per table entry: five arrays of 4 bytes, one of 1, and a temporary as large as the largest of them


def too_many(config: TrainConfig, actions: int) -> str | None:
    """Return why replay buffer, environments or minibatch are too large; None if they are not."""
    numbers = config.interaction.steps_per_update * config.interaction.environments * (actions + 7)
    size = 4 * (3 * config.replay.capacity + 4 * (numbers + config.replay.batch_size * actions))
    if size <= LOOP_BYTES and numbers < LARGEST_INDEX:
        return None
    return (
        f"a replay buffer of {config.replay.capacity:,}, {config.interaction.environments:,} environments and "
        f"minibatches of {config.replay.batch_size:,} take {size / 2**30:,.1f} GiB, more than "
        f"{LOOP_BYTES / 2**30:,.0f} GiB"
    )


def too_large(states: int, actions: int, outcomes: int) -> str | None:
    """Return why the table is too large to compile; None if it is not."""
    entries = states * actions * outcomes
    if entries <= LARGEST_INDEX and entries * BYTES <= LARGEST_BYTES:
        return None
    return (
        f"the table has {states:,} states × {actions:,} actions × {outcomes:,} outcomes, "
        f"{entries * BYTES / 2**30:,.1f} GiB when expanded, more than {LARGEST_BYTES / 2**30:,.0f} GiB"
    )
