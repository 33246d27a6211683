"""The trackers that there are, and whether their packages are installed. Imports none of them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from deeptaxi.errors import UsageError

TRACKERS = {"mlflow": "MLflow", "wandb": "Weights & Biases"}  # package and extra: title


def check_trackers(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of trackers without repetitions.

    Raises:
        UsageError: one does not exist, or its package is not installed.
    """
    found = tuple(dict.fromkeys([names] if isinstance(names, str) else names or ()))
    for name in found:
        if name not in TRACKERS:
            raise UsageError(f"unknown tracker '{name}': expected {' or '.join(TRACKERS)}")
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name, such as W&B's own of runs, is no package
            raise UsageError(f"--track {name} needs the package {name}: pip install 'deeptaxi[{name}]'")
    return found
