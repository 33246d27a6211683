"""Loading models: a run folder or a `.keras` file, in Keras' safe mode, and nothing that is not a Q-network."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeptaxi import backend
from deeptaxi.config import EnvironmentConfig, OptimizerConfig, TrainConfig, read_run, resolve
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.io.safe_archive import ArchiveError
from deeptaxi.mdp.environment import Environment
from deeptaxi.storage.keras_file import load_model
from deeptaxi.storage.run_folder import CONFIG_FILE, MODEL_FILE, TABLE_FILE
from deeptaxi.storage.unfinished import unfinished
from deeptaxi.storage.versions import check_deeptaxi, newer_keras


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, and what its run folder says of it; a bare `.keras` file says nothing.

    Attributes:
        path: the `.keras` file.
        name: what the user called it.
        config: the configuration it was trained with, or None.
    """

    path: Path
    name: str
    config: TrainConfig | None

    @property
    def environment(self) -> EnvironmentConfig | None:
        """The environment that it was trained on, if that is known."""
        return self.config.environment if self.config else None


def find_model(model: Path) -> ModelSource:
    """Find the files of MODEL without loading anything.

    Raises:
        UsageError: there is no such run folder or file.
        DeepTaxiError: the run folder is not complete, or of a newer deeptaxi.
    """
    if model.is_dir():
        path = model / MODEL_FILE
        if not path.is_file():
            known = unfinished(model)
            raise UsageError(str(known) if known else f"{model} is not a run folder: it holds no {MODEL_FILE}")
        if not (model / CONFIG_FILE).is_file():
            raise DeepTaxiError(f"{model} is not complete: it holds no {CONFIG_FILE}; name {path} and --env instead")
        check_deeptaxi(model / CONFIG_FILE)
        return ModelSource(path, str(model), read_config(model))
    if not model.exists():
        known = unfinished(model.parent if model.name == MODEL_FILE else model)
        raise UsageError(str(known) if known else f"no model at {model}: expected a run folder or a .keras file")
    if model.suffix != ".keras":
        raise UsageError(f"{model} is neither a run folder nor a .keras file")
    return ModelSource(model, str(model), None)


def read_config(folder: Path) -> TrainConfig:
    """Read the configuration of a run; a table that it keeps is found where the folder is now.

    Raises:
        UsageError: the file is not sound.
    """
    values, kept = read_run(folder / CONFIG_FILE)
    config = resolve(values)
    if config.optimizer.options:
        check_options(folder / CONFIG_FILE, config.optimizer)
    if not isinstance(kept, dict) or kept.get("table") != TABLE_FILE:
        return config
    return replace(config, environment=replace(config.environment, id=str(folder / TABLE_FILE)))


def check_options(path: Path, optimizer: OptimizerConfig) -> None:
    """Refuse options that the Keras optimizer of a run does not have; only Keras knows them.

    Raises:
        UsageError: there is one.
    """
    backend.start()
    from deeptaxi.learning.agent import build_optimizer

    try:
        build_optimizer(optimizer, 1.0, 1)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def load_network(path: Path, foreign: bool = False, states: int | None = None) -> Any:
    """Load a Q-network in Keras' safe mode; unknown code is never run.

    Args:
        path: the `.keras` file; of an exported agent, the network within it is loaded.
        foreign: whether a model of Keras' own layers, made elsewhere, will do; what it maps is left to the caller.
        states: S of the environment; a foreign agent that answers for another number is refused.

    Raises:
        DeepTaxiError: the file is damaged, or is a model of another kind.
    """
    backend.start()
    from deeptaxi.network.agent import check_agent, q_network_of
    from deeptaxi.network.build import sizes  # importing it registers the layers

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Skipping nested container")  # its weights would be left to chance
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")  # nothing is trained
            model = load_model(path)
        network = q_network_of(model)
        if not foreign:
            sizes(network)
        if network is not model:
            check_agent(model, network, sizes(network)[0] if states is None else states)
    except ArchiveError as error:
        raise DeepTaxiError(f"{path}: {error}{newer_keras(path)}") from None
    except Exception as error:  # Keras raises many kinds, by the part of the file that is wrong
        reason = " ".join(str(error).split())[:200]
        raise DeepTaxiError(
            f"{path} cannot be loaded as a Q-network of deeptaxi: {reason}{newer_keras(path)}"
        ) from error
    return network


def check_fits(network: Any, environment: Environment, name: str) -> None:
    """Refuse a network that was made for another environment.

    Raises:
        UsageError: its states or actions are not the environment's.
    """
    from deeptaxi.network.build import sizes

    states, actions = sizes(network)
    if (states, actions) != (environment.states, environment.actions):
        raise UsageError(
            f"{name} has {states} states and {actions} actions, "
            f"{environment.config.id} has {environment.states} and {environment.actions}: name its own with --env"
        )
