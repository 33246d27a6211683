"""The network that an explanation is about: as a training starts with it, or a trained one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deeptaxi import backend
from deeptaxi.api.environments import name_of
from deeptaxi.api.explain import NetworkOptions
from deeptaxi.api.load import Model, as_run
from deeptaxi.api.plans import plan
from deeptaxi.api.run import Run
from deeptaxi.api.settings import asked
from deeptaxi.api.status import status
from deeptaxi.config import TrainConfig, merge, resolve, to_mapping
from deeptaxi.errors import UsageError
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.resolve import configure
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import Bools
from deeptaxi.presets import NONE, Preset


@dataclass(frozen=True)
class Subject:
    """What is updated: a network of its own, on an environment, by a configuration."""

    environment: Environment
    config: TrainConfig
    preset: str
    network: Any
    allowed: Bools  # [S, A]
    model: str | None


def initial_network(network_options: NetworkOptions) -> Subject:
    """Return the network and settings that a training would start with."""
    name, opened = name_of(network_options.env)
    values = asked(
        name, network_options.env_args, network_options.config, network_options.q_table, network_options.given
    )
    if network_options.preset is None and not values.get("environment", {}).get("id"):
        raise UsageError("name what the network is for with --env, or a MODEL: a run folder or a .keras file")
    planned = plan(values, network_options.preset, network_options.trust_env or network_options.env is not None, opened)
    with status("starting Keras …"):
        backend.start()
    from deeptaxi.learning.trainer import initial_network

    environment, config = planned.environment, with_batch_size_one(planned.config, network_options)
    network = initial_network(config, environment)
    return Subject(environment, config, planned.configured.preset, network, allowed_in(environment, config), None)


def trained_network(model: Model, network_options: NetworkOptions) -> Subject:
    """Return a trained network, with the settings of its run and what is given over them.

    Raises:
        UsageError: settings are given that only a fresh network has.
    """
    check_kept(model, network_options)
    limit = network_options.given.get("environment", {}).get("time_limit")
    run = as_run(model, network_options.env, network_options.env_args, limit, network_options.trust_env)
    from deeptaxi.network.build import scale_outputs, without_mask
    from deeptaxi.network.inspect import is_ours

    if not is_ours(run.network):
        raise UsageError(f"{run.name} is no network of deeptaxi, whose layers an explanation knows")
    network, mask = without_mask(run.network)
    config, preset = settings_of(run, network, network_options.given)
    if run is model:
        network = copied(network)
    scale_outputs(network, 1 / config.target.reward_scale)  # what is kept is in full
    allowed = allowed_in(run.environment, config) if mask is None else mask
    return Subject(run.environment, with_batch_size_one(config, network_options), preset, network, allowed, run.name)


def check_kept(model: Model, network_options: NetworkOptions) -> None:
    """Refuse settings that only a fresh network has."""
    others = {"config": network_options.config, "preset": network_options.preset, "q-table": network_options.q_table}
    refused = [f"--{name}" for name, value in others.items() if value]
    refused += [f"--{name.replace('_', '-')}" for name in network_options.given.get("network", {})]
    if refused:
        name = model.name if isinstance(model, Run) else model
        raise UsageError(f"{refused[0]} is for a fresh network, and {name} has its own: leave one of the two out")


def copied(network: Any) -> Any:
    """Return a network of its own with the same weights: an explained update changes it."""
    import keras

    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy


def settings_of(run: Run, network: Any, given: Mapping[str, Any]) -> tuple[TrainConfig, str]:
    """Return the configuration of a run, else what a training of such a network would take, and the preset."""
    from deeptaxi.network import build

    place = {"environment": to_mapping(run.environment.config)}
    if run.config is not None:
        check_told(run, build.settings_of(network))
        return resolve(merge(merge(to_mapping(run.config), given), place), preset=Preset(NONE)), NONE
    known = {"network": build.settings_of(network)}
    found = configure(run.environment, merge(merge(given, known), place))
    return found.config, found.preset


def check_told(run: Run, found: Mapping[str, Any]) -> None:
    """Refuse a run whose model is of another kind than its configuration tells: its update would be told wrongly.

    Raises:
        UsageError: it is; it says what differs.
    """
    told = to_mapping(run.config).get("network", {})
    for name, value in found.items():
        if told.get(name, value) != value:
            raise UsageError(
                f"{run.name}: its config.toml tells of a network with {name} = {told[name]}, its model has {value}; "
                "name its model.keras and --env instead"
            )


def with_batch_size_one(config: TrainConfig, network_options: NetworkOptions) -> TrainConfig:
    """Return the configuration with a minibatch of one, unless another size is given."""
    size = network_options.given.get("replay", {}).get("batch_size") or 1
    return replace(config, replay=replace(config.replay, batch_size=size))


def allowed_in(environment: Environment, config: TrainConfig) -> Bools:
    """Return the actions that may be taken in each state, bool `[S, A]`."""
    masks = ActionMaskTable(environment, config.exploration.action_mask)
    return masks.of(np.arange(environment.states)).copy()
