"""Whether this machine can hold a training, before anything of it is made.

What a training keeps grows with four settings. Each is counted as low as it can be, so that nothing that would work is
refused: weights three times (online, target, best), the memory of transitions, the copies of the environment, and the
largest layer over one minibatch.
"""

from __future__ import annotations

from itertools import pairwise

from deeptaxi.config import TrainConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.table import MEMORY_SHARE, physical_memory

FLOAT = 4
ENTRY = {True: 4, False: 18}  # bytes of a transition, in the compiled loop and in the others
COPY = {True: 12, False: 2_000}  # bytes of a copy of the environment; outside of the compiled loop it is an object


def check_size(config: TrainConfig, states: int, actions: int) -> None:
    """Refuse a training that takes more than most of the memory.

    Raises:
        UsageError: it does; the setting that takes most of it is named.
    """
    parts = parts_of(config, states, actions)
    size, memory = sum(parts.values()), physical_memory()
    if size > MEMORY_SHARE * memory:
        most = max(parts, key=lambda name: parts[name])
        raise UsageError(
            f"this training takes {size / 2**30:,.1f} GiB or more, most of it for {most}, "
            f"and this machine has {memory / 2**30:,.1f} GiB"
        )


def weights_of(config: TrainConfig, states: int, actions: int) -> int:
    """Return how many weights the network has, counted as low as it can be where a state has several parts."""
    hidden = config.network.hidden
    inputs = 1 if config.network.encoding == "factored" else states
    widths = (inputs, *hidden)
    layers = sum((one + 1) * other for one, other in pairwise(widths))
    head = (widths[-1] + bool(hidden)) * (actions + config.network.dueling)
    return layers + head + (states * actions if config.exploration.action_mask else 0)


def parts_of(config: TrainConfig, states: int, actions: int) -> dict[str, int]:
    """Return the bytes that each setting asks for, by the name of its option."""
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
