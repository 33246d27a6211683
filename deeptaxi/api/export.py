"""Export a model to other formats: `export`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from deeptaxi.api.environments import EnvLike, EnvSpec
from deeptaxi.api.load import Model, as_run, is_array_like, load_source, network_in, number_as_saved
from deeptaxi.api.run import Run
from deeptaxi.api.status import status
from deeptaxi.backend import keras_backend
from deeptaxi.errors import DeepTaxiError, UsageError, nearest
from deeptaxi.exports.destination import check_place
from deeptaxi.exports.q_tables import labels_of
from deeptaxi.mdp.environment import Environment, check_tabulated
from deeptaxi.storage.formats import FORMATS, check_available
from deeptaxi.storage.model_card import read_card
from deeptaxi.storage.models import ModelSource, check_fits, find_model

if TYPE_CHECKING:
    from deeptaxi.exports.exporter import Export

ALL = "all"
Format = Literal["keras", "plain", "savedmodel", "onnx", "litert", "csv", "npz", "json"]


@overload
def export(
    model: Model,
    format: Literal["all"],
    out: str | Path,
    force: bool = False,
    *,
    env: EnvLike | None = None,
    env_args: Mapping[str, Any] | None = None,
    trust_env: bool = False,
) -> list[Export]: ...


@overload
def export(
    model: Model,
    format: Format,
    out: str | Path,
    force: bool = False,
    *,
    env: EnvLike | None = None,
    env_args: Mapping[str, Any] | None = None,
    trust_env: bool = False,
) -> Export: ...


def export(
    model: Model,
    format: str,  # noqa: A002  # the option's name
    out: str | Path,
    force: bool = False,
    *,
    env: EnvLike | None = None,
    env_args: Mapping[str, Any] | None = None,
    trust_env: bool = False,
) -> Export | list[Export]:
    """Export a model to one format, or to all of them.

    Each export is read back in a separate process, without deeptaxi, and compared with the model on all states before
    it is put in place.

    Args:
        model: a run folder, a model file (as for `load`), a `Run`, a Keras model or an array. A network that is not
            deeptaxi's, or that another runtime computes, is exported as the Q table that it computes; a policy only
            to the tables.
        format: `"keras"`, `"plain"`, `"savedmodel"`, `"onnx"`, `"litert"`, `"csv"`, `"npz"` or `"json"`; `"all"` for
            every format that is available.
        out: a file, or for `"savedmodel"` and `"all"` a folder.
        force: whether to overwrite an existing export of the same kind.
        env: environment that names the states and actions in tables, instead of the model's own; needed for a model
            that is not deeptaxi's.
        env_args: arguments for `gymnasium.make`.
        trust_env: whether to import the environment module that the run names, which executes its code.

    Returns:
        An `Export` with `format`, `path`, `states`, `max_difference` (the largest difference of a Q value from the
        model's) and `outside`, the answer to a state out of range; for `"all"` a list, including why formats were not
        written.

    Raises:
        UsageError: the model or format does not exist, the format is unavailable, or `out` exists.
        DeepTaxiError: the model returns NaN, writing fails, or the export read back differs; no file is left then.
    """
    done = prepare(model, format, Path(out), force, EnvSpec(env, env_args or {}, trust=trust_env)).write()
    return done if format == ALL else done[0]


@dataclass(frozen=True)
class Prepared:
    """An export that is ready to be written.

    Attributes:
        model: source of the model, or the network itself.
        folder: run folder of the model, whose card is written beside all formats, or None.
        name: a key of `FORMATS`; None for all formats.
        path: file or folder to write.
        force: whether to overwrite an existing export.
        environment: environment that names states and actions in tables; None to number them.
        note: why they are numbered although the model has an environment, or None.
    """

    model: ModelSource | Any
    folder: Path | None
    name: str | None
    path: Path
    force: bool
    environment: Environment | None
    note: str | None

    def write(self) -> list[Export]:
        """Load the model, write it, and verify it by reading it back."""
        network, labels = self.model, None
        card = read_card(self.folder) if self.folder and self.name is None else None
        if isinstance(self.model, ModelSource):
            with status("loading the model …"):
                network = exportable(self.model, self.environment)
        if self.environment is not None:
            name = self.model.name if isinstance(self.model, ModelSource) else "the model"
            if not isinstance(network, np.ndarray):
                check_fits(network, self.environment, name)
            labels = labels_of(self.environment)
        from deeptaxi.exports.exporter import export as write
        from deeptaxi.exports.exporter import export_all

        with status("writing, and reading back …"):
            if self.name is None:
                return export_all(network, self.path, labels, self.force, card)
            return [write(network, self.name, self.path, labels, self.force)]


def prepare(
    model: Model,
    form: str,
    path: Path,
    force: bool,
    spec: EnvSpec,
) -> Prepared:
    """Find the model and its environment; reject unavailable formats and unusable paths before importing Keras."""
    name = None if form == ALL else known(form)
    source = find_model(Path(model), spec.trust) if isinstance(model, str | Path) else model
    if isinstance(source, ModelSource) and path.resolve() == source.path.resolve():
        raise UsageError(f"{path} is the model itself; choose another --out")
    if name is not None:
        check_available(name)
    check_place(name, path, force)
    if isinstance(source, ModelSource):
        environment, note = environment_of(source, spec)
        if environment is not None:
            check_tabulated(environment)
        if path.resolve() in source.path.resolve().parents:
            raise UsageError(f"{path} holds the model itself; choose another --out")
        folder = source.path.parent if source.config else None
        return Prepared(source, folder, name, path, force, environment, note)
    if spec.env is None and not isinstance(source, Run) and not is_array_like(source):
        network = network_in(source)
        from deeptaxi.network.inspect import is_ours

        if is_ours(network):
            return Prepared(network, None, name, path, force, None, None)
    run = as_run(source, spec)
    check_tabulated(run.environment)
    return Prepared(of_decisions(run), run.folder, name, path, force, run.environment, None)


def exportable(source: ModelSource, environment: Environment | None) -> Any:
    """Load a model as what can be exported: a network of deeptaxi, or a policy `[S]`.

    Raises:
        UsageError: it is not deeptaxi's, and no environment is given that says how many states there are.
        DeepTaxiError: it is damaged.
    """
    if source.kind == "keras":
        states = environment.states if environment else None
        network = source.load_network(states)
        from deeptaxi.network.inspect import is_ours

        if is_ours(network):
            return network
    if environment is None:
        raise UsageError(f"{source.name} does not record what states it is for: specify its environment with --env")
    return of_decisions(load_source(source, environment))


def of_decisions(run: Run) -> Any:
    """Return a run's network if it is deeptaxi's, else the Q-table network of its Q values, or its policy `[S]`.

    Raises:
        DeepTaxiError: the Q values are NaN or +∞, or float32 changes the greedy policy.
    """
    keras_backend.start()
    from deeptaxi.network.build import q_table_network
    from deeptaxi.network.inspect import is_ours

    if run.network is not None and is_ours(run.network):
        return run.network
    policy = run.policy
    return policy if run.decisions.ndim == 1 else q_table_network(run.q_values)


def known(form: str) -> str:
    """Return the name of a format if it exists.

    Raises:
        UsageError: there is no such format.
    """
    if form not in FORMATS:
        names = (*FORMATS, ALL)
        raise UsageError(f"unknown format '{form}': expected one of {', '.join(names)}{nearest(form, names)}")
    return form


def environment_of(source: ModelSource, spec: EnvSpec) -> tuple[Environment | None, str | None]:
    """Open the given environment, else the run's own; return it, or None and the reason if it cannot be opened.

    Raises:
        UsageError: the given environment cannot be opened.
    """
    if spec.env is not None:
        return number_as_saved(spec.open(), source), None
    if source.environment is None:
        return None, None
    try:
        environment = spec.open_for(source.environment, source.name)
    except DeepTaxiError as error:
        return None, f"States and actions are named by their numbers: {error}"
    return number_as_saved(environment, source), None
