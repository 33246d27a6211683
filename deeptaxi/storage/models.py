"""Find models, and load Q-networks from run folders, `.keras` or `.h5` files, in Keras' safe mode.

For a run folder without a model, the error says whether training is still running, has failed, or was interrupted. For
a file written by a newer version, the error says to upgrade.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeptaxi.backend import keras_backend
from deeptaxi.config import (
    OBJECT,
    EnvironmentConfig,
    TrainConfig,
    read_run,
    requested_environment,
    resolve,
)
from deeptaxi.errors import DeepTaxiError, UsageError, one_line, printable
from deeptaxi.io.locks import in_use, log_in_use
from deeptaxi.io.safe_archive import ArchiveError, open_archive, read_npz
from deeptaxi.io.safe_load import parse_toml, read_toml
from deeptaxi.mdp.environment import Environment
from deeptaxi.metrics import History, read_history
from deeptaxi.storage import checkpoints, keras_file, keras_h5
from deeptaxi.storage.checkpoints import Checkpoint
from deeptaxi.storage.compact_group import WEIGHTS_FILE, agents_in, find_agent, unpack
from deeptaxi.storage.formats import MODEL_ENDINGS, ModelKind
from deeptaxi.storage.keras_file import CodeError, UnregisteredError, load_model
from deeptaxi.storage.keras_h5 import load_model as load_hdf5
from deeptaxi.storage.logs import FAILED_FILE, LOG_FILE, LOGS, place_of
from deeptaxi.storage.run_folder import CONFIG_FILE, MODEL_FILE, TABLE_FILE

METADATA_BYTES = 2**16
SAVED_MODEL = "saved_model.pb"
PICKLES, TORCH = (".pkl", ".pickle", ".p"), (".pt", ".pth")
ANY_BYTES = 2**62  # no limit: no other member is unpacked


def check_deeptaxi(config: Path) -> None:
    """Reject a run made by a newer deeptaxi.

    Args:
        config: the run's `config.toml`.

    Raises:
        DeepTaxiError: the table ``[run]`` names a newer version.
    """
    try:
        made = read_toml(config).get("run", {}).get("deeptaxi", "")
    except (OSError, ValueError, AttributeError):  # reported later, when the settings are read
        return
    ours = metadata.version("deeptaxi")
    if release(made) > release(ours):
        raise DeepTaxiError(
            f"{config.parent} was made by deeptaxi {made}, and this is {ours}: "
            "update it (pip install --upgrade deeptaxi)"
        )


def newer_keras(model: Path) -> str:
    """Return a remark if a `.keras` file was saved by a newer Keras, else an empty string."""
    import keras

    try:
        with open_archive(model, ANY_BYTES) as archive, archive.open("metadata.json") as file:
            saved = json.loads(file.read(METADATA_BYTES))["keras_version"]
    except ArchiveError:
        return ""
    if release(saved) <= release(keras.__version__):
        return ""
    return f"; it was saved by Keras {saved}, and this is {keras.__version__}: update it (pip install --upgrade keras)"


def release(version: object) -> tuple[int, ...]:
    """Return the leading numbers of a version, such as (1, 20, 0); empty if it is not a version."""
    found = re.match(r"\d{1,9}(\.\d{1,9})*", str(version)[:50])
    return tuple(int(number) for number in found[0].split(".")) if found else ()


@dataclass(frozen=True)
class Unfinished:
    """Why a run folder holds no model; `str` gives one line that also says what to do.

    Attributes:
        folder: the run folder; a run that failed early has removed it.
        holder: process that is training it, or None.
        log: the log file, or None.
        failure: error that ended the run; None if unknown.
        resumable: whether there is a checkpoint to resume from.
        trusted: option that `--resume` needs for an environment module: `` --trust-env`` or empty; None if the
            environment or network was an object in memory, which only Python can give.
        objects: the arguments of Python that stand for these objects.
    """

    folder: Path
    holder: str | None
    log: Path | None
    failure: str | None
    resumable: bool
    trusted: str | None
    objects: str = ""

    def __str__(self) -> str:
        quoted = shlex.quote(str(self.folder))
        show = f"`deeptaxi logs {quoted}`"
        if self.holder is not None:
            watch = f"{show} shows how far it is" if self.log else "it has not made its first updates yet"
            return f"{self.folder} is still being trained, by {self.holder}: {watch}"
        resume = f"`deeptaxi train --resume {quoted}{self.trusted}`"
        if self.trusted is None:
            resume = f"`deeptaxi.train({self.objects}resume={str(self.folder)!r})`"
        if self.failure is not None:
            more = f", and {resume} resumes from its last checkpoint" if self.resumable else ""
            return f"{self.folder} has no model because its training failed: {self.failure}; {show} shows its log{more}"
        if not self.resumable:
            return f"{self.folder} has no model because its training was interrupted: {show} shows its log"
        return f"{self.folder}: its training was interrupted; {resume} resumes it"


def describe_unfinished(folder: Path) -> Unfinished | None:
    """Return why a run folder holds no model; None if it holds one, or shows no trace of a run."""
    if (folder / MODEL_FILE).exists() or folder.is_file():
        return None
    holder, kept = in_use(folder), oldest(folder)
    names = (LOG_FILE,) if holder else (LOG_FILE, FAILED_FILE)
    found = (of_this_run(log / name, folder) for log in log_folders(folder, kept) for name in names)
    history = next((log for log in found if log is not None), None)
    resumable = bool(checkpoints.files_in(folder))
    if holder is None and not resumable and history is None:
        return None
    environment, builder = environment_of(history, kept), builder_of(kept)
    objects = "env, " * environment.startswith(OBJECT) + "network=network, " * builder.startswith(OBJECT)
    return Unfinished(
        folder,
        holder,
        history.path if history else None,
        printable(history.failure) if history and history.failure else None,
        resumable,
        None if objects else " --trust-env" if ":" in environment + builder else "",
        objects,
    )


def oldest(folder: Path) -> Checkpoint | None:
    """Return the oldest checkpoint of a run folder, usually without arrays; None if it cannot be read."""
    files = checkpoints.files_in(folder)
    try:
        return checkpoints.read(files[-1]) if files else None
    except DeepTaxiError:
        return None


def log_folders(folder: Path, kept: Checkpoint | None) -> list[Path]:
    """Return possible log folders of a run folder, likeliest first."""
    absolute = folder.resolve()
    near = [LOGS, absolute.parent / LOGS, absolute.parent.parent / LOGS]
    said = [log_in_use(folder), place_of(folder, str(kept.about.get("log"))) if kept else None]
    return [*(path for path in said if path is not None), *(path / absolute.name for path in near)]


def of_this_run(log: Path, folder: Path) -> History | None:
    """Return a log if it says that it belongs to this run folder, else None."""
    if not log.is_file():
        return None
    try:
        history = read_history(log, earlier=True)
    except DeepTaxiError:
        return None
    begun = history.started
    own = begun is not None and begun.run is not None and (log.parent / begun.run).resolve() == folder.resolve()
    return history if own else None


def environment_of(history: History | None, kept: Checkpoint | None) -> str:
    """Return the id of the training environment; an empty string if unknown."""
    if history is not None and history.started is not None:
        return history.started.environment
    said = kept.about.get("environment") if kept else None
    return str(said.get("id")) if isinstance(said, dict) else ""


def builder_of(kept: Checkpoint | None) -> str:
    """Return what builds the network of a run; an empty string if it is deeptaxi's, or unknown."""
    try:
        network = parse_toml(str(kept.about.get("config"))).get("network") if kept else None
    except ValueError:
        return ""
    return str(network.get("builder") or "") if isinstance(network, dict) else ""


@dataclass(frozen=True)
class ModelSource:
    """The location of a model and its configuration, which a bare file lacks.

    Attributes:
        path: the file, or the folder of a SavedModel.
        name: the name given by the user.
        config: the training configuration, or None.
        kind: ``"keras"`` (`.keras` and `.h5`), ``"array"`` (a Q table or policy) or ``"served"`` (SavedModel, ONNX).
        trust: whether the code of a network of the user's own may be imported.
        weights: `weights.npz` of an agent of a compact group, which replace those in the file.
    """

    path: Path
    name: str
    config: TrainConfig | None
    kind: ModelKind = "keras"
    trust: bool = False
    weights: Path | None = None

    @property
    def code(self) -> NetworkCode | None:
        """The code that registers the classes of its network, if a run names it."""
        network = self.config.network if self.config else None
        if network is None or network.builder is None or network.in_memory:
            return None
        return NetworkCode(network.builder, network.kwargs or {}, self.trust)

    @property
    def environment(self) -> EnvironmentConfig | None:
        """The environment that it was trained on, or None."""
        return requested_environment(self.config) if self.config else None

    def load_network(self, states: int | None) -> Any:
        """Load its network, of whatever layers; see the function of this name."""
        name = None if self.weights is None else self.name
        return load_network(self.path, True, states, self.code, self.weights, name)


class NetworkCode(NamedTuple):
    """The code of a network of the user's own.

    Attributes:
        builder: `module:function` or `file.py:function`.
        kwargs: its arguments.
        trust: whether it may be imported; if not, that of a training of this user may be.
    """

    builder: str
    kwargs: Mapping[str, Any]
    trust: bool

    def register(self) -> None:
        """Import it, which registers the classes of its layers.

        Raises:
            UsageError: it is not trusted or not found, or importing it fails.
        """
        from deeptaxi.network.named_builder import find_builder, trusted_folder

        find_builder(self.builder, trusted_folder(self.builder, self.kwargs, self.trust))


def find_model(model: Path, trust: bool = False) -> ModelSource:
    """Find the files of a model without loading it; `trust` as in `ModelSource`.

    Raises:
        UsageError: the run folder or file does not exist.
        DeepTaxiError: the run folder is incomplete, or was made by a newer deeptaxi.
    """
    if (agent := find_agent(model)) is not None:
        folder = unpack(agent)
        return replace(find_model(folder, trust), name=str(model), weights=folder / WEIGHTS_FILE)
    if model.is_dir():
        path = model / MODEL_FILE
        if not path.is_file() and (model / SAVED_MODEL).is_file():
            return ModelSource(model, str(model), None, "served")
        if not path.is_file():
            known = describe_unfinished(model)
            raise UsageError(str(known) if known else describe_no_run(model))
        if not (model / CONFIG_FILE).is_file():
            raise DeepTaxiError(f"{model} is not complete: it holds no {CONFIG_FILE}; name {path} and --env instead")
        check_deeptaxi(model / CONFIG_FILE)
        return ModelSource(path, str(model), read_config(model), trust=trust)
    if not model.exists():
        if find_agent(model.parent) is not None:
            raise UsageError(f"{model.parent} is an agent of a compact group, without files: name it itself")
        known = describe_unfinished(model.parent if model.name == MODEL_FILE else model)
        raise UsageError(str(known) if known else f"no model at {model}: expected a run folder or a model file")
    return ModelSource(model, str(model), None, kind_of_file(model))


def describe_no_run(folder: Path) -> str:
    """Return why a folder is not that of a run, and which are, if it holds some."""
    members = [folder / name for name in agents_in(folder)]
    below = itertools.chain(members, *(folder.glob(f"{'*/' * depth}{MODEL_FILE}") for depth in (1, 2)))
    if (first := next(below, None)) is not None:
        first = first.parent if first.name == MODEL_FILE else first
        return f"{folder} holds several runs: name one of them, such as {shlex.quote(str(first))}"
    return f"{folder} is not a run folder: it holds no {MODEL_FILE}"


def kind_of_file(path: Path) -> ModelKind:
    """Return the kind of a model file, by its ending.

    Raises:
        UsageError: it is no model file; for a pickle, the message says how to convert it.
    """
    ending = path.suffix.lower()
    if ending in PICKLES:
        name = shlex.quote(str(path))
        code = (
            f"import pickle, numpy; x = pickle.load(open({str(path)!r}, 'rb')); "
            f"numpy.save({path.stem + '.npy'!r}, x['qtable'] if isinstance(x, dict) else x)"
        )
        raise UsageError(
            f"{name} is a pickle, which runs code when it is opened: where you trust whoever made it, convert it, "
            f'python -c "{code}"'
        )
    if ending in TORCH:
        raise UsageError(f"{path} is a PyTorch file: export the model as ONNX, torch.onnx.export(…)")
    for kind, endings in MODEL_ENDINGS.items():
        if ending in endings:
            return kind
    known = ", ".join(ending for endings in MODEL_ENDINGS.values() for ending in endings)
    raise UsageError(f"{path} is neither a run folder nor a model file ({known}, or a SavedModel folder)")


def read_config(folder: Path) -> TrainConfig:
    """Read the configuration of a run; the path of a saved table is updated to the folder's location.

    Raises:
        UsageError: the file is invalid.
    """
    values, kept = read_run(folder / CONFIG_FILE)
    config = resolve(values)
    if not isinstance(kept, dict) or kept.get("table") != TABLE_FILE:
        return config
    return replace(config, environment=replace(config.environment, id=str(folder / TABLE_FILE)))


def load_network(
    path: Path,
    foreign: bool = False,
    states: int | None = None,
    code: NetworkCode | None = None,
    weights: Path | None = None,
    name: str | None = None,
) -> Any:
    """Load a Q-network in Keras' safe mode; unknown code is never executed.

    Args:
        path: the `.keras` or `.h5` file; for an exported agent, the network inside it is loaded.
        foreign: whether to accept a model of Keras' own layers, made elsewhere; the caller checks its inputs and
            outputs.
        states: S of the environment; a foreign agent for another number of states is rejected.
        code: what registers the classes of its layers, imported if the file asks for any that are not registered.
        weights: a file with other weights for it, from `weights_of`.
        name: the name of the model in messages; None for the path.

    Raises:
        UsageError: `code` is not trusted or not found.
        DeepTaxiError: the file is damaged, or holds another kind of model.
    """
    named = name or str(path)
    keras_backend.start()
    from deeptaxi.network.build import sizes  # the import registers the layers
    from deeptaxi.network.policy_model import check_agent, q_network_of

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Skipping nested container")  # its weights would be left random
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")  # the optimizer is not needed
            model = read_keras(path, code)
        network = q_network_of(model)
        if weights is not None:
            load_weights(network, weights)
        if not foreign:
            sizes(network)
        if network is not model:
            check_agent(model, network, sizes(network)[0] if states is None else states)
    except CodeError as error:
        raise DeepTaxiError(f"{named}: {error}. {conversion(path)}") from None
    except UsageError:
        raise
    except UnregisteredError as error:
        raise DeepTaxiError(f"{named}: {error}{newer_keras(path) or f'; {registration(code)}'}") from None
    except ArchiveError as error:
        raise DeepTaxiError(f"{named}: {error}{newer_keras(path)}") from None
    except Exception as error:  # Keras raises many types, depending on what is wrong
        reason = one_line(error)
        raise DeepTaxiError(
            f"{named} cannot be loaded as a Q-network of deeptaxi: {reason}{newer_keras(path)}"
        ) from error
    return network


def read_keras(path: Path, code: NetworkCode | None) -> Any:
    """Read a Keras model; import `code` if that fails because its classes are not registered."""
    read = load_hdf5 if path.suffix.lower() in keras_h5.ENDINGS else load_model
    try:
        return read(path)
    except UnregisteredError:
        if code is None:
            raise
        code.register()
        return read(path)


def weights_of(network: Any) -> bytes:
    """Return the weights of a network as an `.npz` that `load_weights` reads."""
    file = io.BytesIO()
    arrays = {str(number): array for number, array in enumerate(network.get_weights())}
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def load_weights(network: Any, path: Path) -> None:
    """Set the weights of a network to those in a file.

    Raises:
        ArchiveError: the file is damaged.
        ValueError: they are those of another network.
    """
    arrays = read_npz(path, keras_file.MAX_BYTES)
    network.set_weights([arrays[str(number)] for number in range(len(arrays))])


def registration(code: NetworkCode | None) -> str:
    """Say how a model of classes that are not registered is opened."""
    decorator = "@keras.saving.register_keras_serializable()"
    if code is None:
        return f"import the module whose classes have {decorator} first, in Python, and then deeptaxi.load"
    return f"{code.builder} was imported, and does not register it: write {decorator} above the class"


def conversion(path: Path) -> str:
    """Say how a model that runs code is evaluated where it is trusted."""
    return (
        "In the program that made it, deeptaxi.evaluate(model, ENV) evaluates it, and deeptaxi.export(model, 'npz', "
        "'q_table.npz', env=ENV) converts it to its Q table; elsewhere, where you trust it, model is "
        f"keras.saving.load_model({str(path)!r}, safe_mode=False)"
    )


def check_fits(network: Any, environment: Environment, name: str) -> None:
    """Reject a network that does not fit the environment.

    Raises:
        UsageError: its numbers of states or actions differ from the environment's.
    """
    from deeptaxi.network.build import sizes

    states, actions = sizes(network)
    if (states, actions) != (environment.states, environment.actions):
        raise UsageError(
            f"{name} has {states} states and {actions} actions, "
            f"{environment.config.id} has {environment.states} and {environment.actions}: name its own with --env"
        )
