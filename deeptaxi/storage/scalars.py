"""The curves of a training as named numbers, and its settings as named values: what TensorBoard and trackers show.

The groups of names are `train` (means since the previous record), `schedule`, `speed`, `exact`, `q`, `policy`,
`coverage`, and `final` at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deeptaxi.config import TrainConfig
from deeptaxi.metrics import Evaluated, Finished, Progress, Record, Snapshot
from deeptaxi.schema import leaf_settings, value_at

TAGS: dict[type[Record], dict[str, str]] = {
    Progress: {
        "train/loss": "loss",
        "train/td_error": "td_error",
        "train/return": "mean_return",
        "schedule/epsilon": "epsilon",
        "schedule/learning_rate": "learning_rate",
    },
    Evaluated: {
        "exact/value": "value",
        "exact/value_gap": "value_gap",
        "exact/gap": "gap",
        "exact/optimal_starts": "optimal_start_states",
        "exact/q_error_max": "q_error_max",
    },
    Snapshot: {
        "q/min": "q_min",
        "q/max": "q_max",
        "q/mean": "q_mean",
        "q/change": "q_change",
        "policy/change": "policy_change",
        "policy/greedy_share": "greedy_share",
        "coverage/states": "states_covered",
        "coverage/pairs": "pairs_covered",
    },
}
FINAL = (
    "optimal", "value", "value_gap", "return", "gap", "optimal_starts", "updates", "environment_steps", "train_seconds",
)  # fmt: skip


class Series:
    """Turns the records of a training, in order, into numbers by name."""

    def __init__(self) -> None:
        self._before = (0, 0, 0.0)

    def scalars(self, record: Record) -> dict[str, float]:
        """Return the numbers of a record by name, with the speed since the previous one."""
        if not isinstance(record, Progress):
            return scalars(record)
        before, self._before = self._before, (record.update, record.environment_steps, record.seconds)
        update, steps, seconds = (now - then for now, then in zip(self._before, before, strict=True))
        speed = {"speed/updates": update / seconds, "speed/environment_steps": steps / seconds} if seconds else {}
        return scalars(record) | speed


def update_of(record: Record) -> int:
    """Return the update of a record."""
    return record.updates if isinstance(record, Finished) else getattr(record, "update", 0)


def scalars(record: Record) -> dict[str, float]:
    """Return the numbers of a record by tag, omitting unknown ones."""
    found = {tag: getattr(record, name) for tag, name in TAGS.get(type(record), {}).items()}
    if isinstance(record, Finished):
        exact = dict(record.exact or {})
        exact["optimal_starts"] = exact.get("optimal_start_states")
        found = {f"final/{name}": getattr(record, name, exact.get(name)) for name in FINAL}
    return {tag: float(value) for tag, value in found.items() if value is not None}


def hyperparameters(config: TrainConfig) -> dict[str, Any]:
    """Return every setting by its TOML key, as a number, boolean or string; None if not set."""
    found = {}
    for path, _, _ in leaf_settings(TrainConfig):
        value = value_at(config, path)
        if isinstance(value, tuple):
            value = ",".join(map(str, value))
        found[".".join(path)] = json.dumps(dict(value), default=str) if isinstance(value, Mapping) else value
    return found
