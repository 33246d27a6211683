"""Writing a model in a form that others use: `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeptaxi.api.models import Model
from deeptaxi.api.runs import Run
from deeptaxi.artifacts.models import find_model, load_network
from deeptaxi.errors import UsageError, nearest
from deeptaxi.sections import EnvironmentConfig

if TYPE_CHECKING:
    from deeptaxi.artifacts.export import Export

FORMATS = ("keras", "savedmodel", "csv", "npz", "json")


def export(
    model: Model,
    format: str,  # noqa: A002  # the option's name
    out: str | Path,
    force: bool = False,
) -> Export:
    """Write a model in a form that others use; it is read back and compared on all states before it is kept.

    Args:
        model: a run folder, a `.keras` file, a `Run`, or a Keras model of deeptaxi.
        format: `"keras"`, `"savedmodel"`, `"csv"`, `"npz"` or `"json"`.
        out: a file, or for `"savedmodel"` a folder.
        force: whether to replace what is there, if it is of the same kind.

    Returns:
        `format`, `path`, `states` and `max_difference`, the largest difference of a Q value from the model's.

    Raises:
        UsageError: there is no such model or format, or `out` is taken.
        DeepTaxiError: the model gives NaN, the disk refuses, or what is read back differs; nothing is left then.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format '{format}': expected one of {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    network, about = opened(model)
    from deeptaxi.artifacts.export import export as write

    return write(network, format, Path(out), about, force)


def opened(model: Model) -> tuple[Any, dict[str, Any]]:
    """Return a network, and what an export says of its environment; the environment itself is not needed."""
    if isinstance(model, str | Path):
        source = find_model(Path(model))
        return load_network(source.path), about(source.environment)
    if isinstance(model, Run):
        return model.network, about(model.environment.config)
    return model, {}


def about(environment: EnvironmentConfig | None) -> dict[str, Any]:
    """Return what an export says of the environment."""
    if environment is None:
        return {}
    return {"environment": {"id": environment.id, "kwargs": dict(environment.kwargs)}}
