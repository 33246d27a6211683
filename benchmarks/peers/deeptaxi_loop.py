"""deeptaxi itself, by its public records, on the backend that ``KERAS_BACKEND`` names.

``extra["loop"]`` is the loop; ``extra["settings"]`` are further nested settings of the configuration, such as another
environment. With ``extra["preset"]`` the packaged preset decides on everything that is not in `settings`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers import common
from deeptaxi import backend
from deeptaxi.config import merge, resolve
from deeptaxi.mdp.environment import open_environment
from deeptaxi.records import Judgement, Progress, Started

ENDLESS = 10**9


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
    return merge(kind if spec.extra.get("preset") else shared, spec.extra.get("settings", {}))


def records(spec: common.Spec, **more: Any) -> Iterator[Any]:
    """Train and yield the records."""
    values = {**settings(spec), "seed": spec.seed, "loop": spec.extra.get("loop", "compiled")}
    values = merge(values, more)
    with tempfile.TemporaryDirectory() as folder:
        if sizes := spec.extra.get("random_table"):
            from benchmarks.peers.random_table import write

            values["environment"] = {"id": str(write(Path(folder) / "table.npz", *sizes))}
        config = resolve(values)
        environment = open_environment(config.environment)
        from deeptaxi.learning.training import train

        yield from train(config, environment)


def rate(spec: common.Spec) -> dict[str, Any]:
    """Return the rate between progress records, once two of them are past."""
    never = {"every": ENDLESS, "early_stop": False}
    progress = (
        record for record in records(spec, updates=500 * spec.block, judgement=never) if isinstance(record, Progress)
    )
    cold = common.Clock()
    next(progress)
    warm_up, first = cold.cpu, next(progress)
    clock, last = common.Clock(), first
    while clock.wall < spec.seconds:
        last = next(progress)
    steps = (last.environment_steps - first.environment_steps) / (last.update - first.update)
    return common.rate_result(last.update - first.update, clock, steps, warm_up)


def optimum(spec: common.Spec) -> dict[str, Any]:
    """Train until a judgement finds the policy optimal."""
    clock, last, update = common.Clock(), 0, 0
    preset = spec.extra.get("preset")
    more: dict[str, Any] = {"judgement": {"every": spec.every, "early_stop": False}}
    for record in records(spec, **({} if preset else {"updates": spec.updates}), **more):
        if isinstance(record, Started):
            continue
        if isinstance(record, Judgement):
            last, update = record.optimal_start_states, record.update
            if record.optimal_start_states == record.start_states:
                break
        if clock.cpu > spec.cap:
            break
    return common.optimum_result(last, update, clock)


def main() -> None:
    """Measure and print one line of JSON."""
    backend.start()  # an import: not part of what is measured
    import deeptaxi.learning.training  # noqa: F401

    spec = common.read_spec(sys.argv[1])
    found = optimum(spec) if spec.task == "optimum" else rate(spec)
    print(json.dumps({"peer": spec.peer, "seed": spec.seed, **found}))


if __name__ == "__main__":
    main()
