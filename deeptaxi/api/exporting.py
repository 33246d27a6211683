"""Writing a model in a form that others use: `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeptaxi.api.models import Model
from deeptaxi.api.runs import Run
from deeptaxi.artifacts.models import find_model, load_network
from deeptaxi.artifacts.tables import Labels, labels_of
from deeptaxi.errors import DeepTaxiError, UsageError, nearest
from deeptaxi.mdp.environment import open_environment
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
    network, labels = opened(model)
    from deeptaxi.artifacts.export import export as write

    return write(network, format, Path(out), labels, force)


def opened(model: Model) -> tuple[Any, Labels | None]:
    """Return a network, and the names of its environment; the environment is not needed."""
    if isinstance(model, str | Path):
        source = find_model(Path(model))
        return load_network(source.path), labels(source.environment)
    if isinstance(model, Run):
        return model.network, labels_of(model.environment)
    return model, None


def labels(environment: EnvironmentConfig | None) -> Labels | None:
    """Return the names of a run's own environment; None where it is not known or is code that nobody vouched for."""
    if environment is None:
        return None
    try:
        return labels_of(open_environment(environment, trust_module=False))
    except DeepTaxiError:
        return None
