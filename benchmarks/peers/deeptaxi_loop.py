"""deeptaxi itself, on the backend that ``KERAS_BACKEND`` names: one line of JSON for each specification it is given.

``extra["loop"]`` is the loop; ``extra["settings"]`` are further nested settings of the configuration, such as another
environment. With ``extra["preset"]`` the packaged preset decides on everything that is not in `settings`.

The compiled loop runs in pieces of a quarter of a second and reports what a piece did when it is over, so several
reports come at once. The clock is read only at the tick that ends a piece, the *settled* one: all updates up to its
number are made then, and none after it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers import common
from deeptaxi.backend import keras_backend
from deeptaxi.config import TrainConfig, merge, resolve
from deeptaxi.mdp.environment import Environment, open_environment
from deeptaxi.metrics import Evaluated, Started

ENDLESS = 10**8  # updates
PREFILL = 0.7  # seconds before a rate is measured: pieces have found their length by then


def settings(spec: common.Spec) -> dict[str, Any]:
    """Return the nested settings of the configuration."""
    step = "tabular_step" if (spec.optimizer, spec.network) == ("sgd", "q-table") else "learning_rate"
    shared = {
        "environment": {"id": "Taxi-v4"},
        "discount": spec.discount,
        "network": {"hidden": [spec.hidden], "dueling": True}
        if spec.network == "dueling"
        else {"hidden": [], "dueling": False},
        "optimizer": {
            "name": spec.optimizer,
            step: spec.learning_rate,
            "schedule": "cosine" if spec.optimizer == "adam" else "constant",
        },
        "exploration": {"end": spec.epsilon_end},
        "replay": {"capacity": spec.capacity, "batch_size": spec.batch, "start": spec.start},
        "target": {"polyak": spec.polyak},
        "interaction": {"environments": spec.environments},
    }
    kind = {"environment": shared["environment"], "network": shared["network"]}
    if spec.network == "dueling" and spec.extra.get("preset"):
        kind = {"environment": shared["environment"]}
    values = merge(kind if spec.extra.get("preset") else shared, spec.extra.get("settings", {}))
    return {**values, "seed": spec.seed, "loop": spec.extra.get("loop", "compiled")}


@contextmanager
def opened(values: dict[str, Any], sizes: Any = None) -> Iterator[tuple[TrainConfig, Environment]]:
    """Resolve the settings and open their environment, or a random table of these sizes."""
    with tempfile.TemporaryDirectory() as folder:
        if sizes:
            from benchmarks.peers.random_table import write

            values = {**values, "environment": {"id": str(write(Path(folder) / "table.npz", *sizes))}}
        config = resolve(values)
        environment = open_environment(config.environment)
    yield config, environment


def rate(spec: common.Spec) -> dict[str, Any]:
    """Return the rate between two settled ticks."""
    from deeptaxi.learning.action_mask import ActionMaskTable
    from deeptaxi.learning.trainer import build_loop

    never = {"updates": ENDLESS, "evaluation": {"every": ENDLESS, "early_stop": False}}
    clock = common.Clock()
    with opened(merge(settings(spec), never), spec.extra.get("random_table")) as (config, environment):
        opening = clock.cpu
        masks = ActionMaskTable(environment, active=False)
        loop = build_loop(config, environment, masks)
        loop.compile()
        warm_up = clock.cpu - opening
        ticks = loop.run(config.updates)
        found = steady(ticks, spec)
        ticks.close()
    return {**found, "opening_seconds": opening, "warm_up_seconds": warm_up}


def steady(ticks: Iterator[Any], spec: common.Spec) -> dict[str, Any]:
    """Count updates from one settled tick to another."""
    settled = (tick for tick in ticks if tick.settled)
    clock = common.Clock()
    first = next(tick for tick in settled if clock.wall >= PREFILL)
    clock = common.Clock()
    last = next(tick for tick in settled if clock.wall >= spec.seconds)
    updates = last.update - first.update
    return common.rate_result(updates, clock, (last.environment_steps - first.environment_steps) / updates, 0.0)


def optimum(spec: common.Spec) -> dict[str, Any]:
    """Train as the command line does, until three evaluations in a row find the policy optimal."""
    from deeptaxi.learning.trainer import train

    clock, seconds, first = common.Clock(), 0.0, None
    with opened(settings(spec)) as (config, environment):
        for record in train(config, environment):
            if isinstance(record, Started):
                prepared, clock = clock.cpu, common.Clock()
            if isinstance(record, Evaluated):
                seconds, last = clock.cpu, record
                if first is None and record.optimal:
                    first = (seconds, record.update)
    found = common.optimum_result(last.optimal_start_states, last.update, clock)
    at_first = {"first_optimal_seconds": first[0], "first_optimal_update": first[1]} if first else {}
    return {**found, "train_seconds": seconds, "cpu_seconds": prepared + seconds, **at_first}


def main() -> None:
    """Measure and print."""
    keras_backend.start()  # imports: not part of what is measured
    import deeptaxi.learning.trainer  # noqa: F401

    for spec in map(common.read_spec, sys.argv[1:]):
        try:
            found = optimum(spec) if spec.task == "optimum" else rate(spec)
        except Exception as error:  # the next one may do
            found = {"failed": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps({"peer": spec.peer, "seed": spec.seed, **found}), flush=True)


if __name__ == "__main__":
    main()
