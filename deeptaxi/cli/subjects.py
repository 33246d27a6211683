"""The network that an explanation is about: as a training starts with it, or a trained one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeptaxi.cli import options
from deeptaxi.errors import UsageError


@dataclass(frozen=True)
class Subject:
    """What is updated: a network, on an environment, by a configuration."""

    environment: Any
    config: Any
    preset: str
    network: Any
    allowed: Any  # bool [S, A]
    model: str | None


def fresh(given: dict[str, Any]) -> Subject:
    """Return the network and settings that a training would start with."""
    from deeptaxi.cli.train import prepare, user_values

    settings = dict(given)
    env, trust = settings.pop("env"), settings.pop("trust_env")
    preset, place = settings.pop("preset"), (settings.pop("env_args"), settings.pop("config_file"))
    values = user_values(env, *place, settings.pop("q_table"), settings)
    if preset is None and not values.get("environment", {}).get("id"):
        raise UsageError("name what the network is for with --env, or a MODEL: a run folder or a .keras file")
    environment, configured = prepare(values, preset, trust or env is not None)
    start()
    from deeptaxi.learning.training import initial_network

    config = alone(configured.config, given)
    network = initial_network(config, environment)
    return Subject(environment, config, configured.preset, network, allowed_in(environment, config), None)


def kept(model: Path, given: dict[str, Any]) -> Subject:
    """Return a trained network, with the settings of its run and what is given over them."""
    from deeptaxi.cli.models import open_model

    settings = dict(given)
    others = {name: settings.pop(name) for name in ("config_file", "preset", "q_table")}
    env, env_args, trust = (settings.pop(name) for name in ("env", "env_args", "trust_env"))
    asked = options.given_settings(settings)
    refused = [f"--{name.removesuffix('_file').replace('_', '-')}" for name, value in others.items() if value]
    refused += [f"--{name.replace('_', '-')}" for name in asked.get("network", {})]
    if refused:
        raise UsageError(f"{refused[0]} is for a fresh network, and {model} has its own: leave one of the two out")
    opened = open_model(model, env, env_args, given["environment__time_limit"], trust)
    from deeptaxi.network.build import scale_outputs, without_mask

    environment, (network, mask) = opened.environment, without_mask(opened.network)
    config, preset = settings_of(opened.source, network, environment, asked)
    scale_outputs(network, 1 / config.target.reward_scale)  # what is kept is in full
    return Subject(
        environment,
        alone(config, given),
        preset,
        network,
        allowed_in(environment, config) if mask is None else mask,
        opened.source.name,
    )


def settings_of(source: Any, network: Any, environment: Any, asked: dict[str, Any]) -> tuple[Any, str]:
    """Return the configuration of a model's run, else what a training of such a network would take, and the preset."""
    from deeptaxi.catalogue import NONE, Preset
    from deeptaxi.config import merge, resolve
    from deeptaxi.learning.configure import configure
    from deeptaxi.network import build
    from deeptaxi.settings import to_mapping

    place = {"environment": to_mapping(environment.config)}
    if source.config is not None:
        return resolve(merge(merge(to_mapping(source.config), asked), place), preset=Preset(NONE)), NONE
    known = {"network": build.settings_of(network)}
    found = configure(environment, merge(merge(asked, known), place))
    return found.config, found.preset


def alone(config: Any, given: dict[str, Any]) -> Any:
    """Return the configuration with a minibatch of one, unless another size is given."""
    import dataclasses

    size = given["replay__batch_size"] or 1
    return dataclasses.replace(config, replay=dataclasses.replace(config.replay, batch_size=size))


def start() -> None:
    """Start Keras."""
    from deeptaxi import backend
    from deeptaxi.presentation.console import err

    with err().status("starting Keras …"):
        backend.start()


def allowed_in(environment: Any, config: Any) -> Any:
    """Return the actions that may be taken in each state, bool `[S, A]`."""
    import numpy as np

    from deeptaxi.learning.mask import MaskBook

    masks = MaskBook(environment, config.exploration.action_mask)
    return masks.of(np.arange(environment.states)).copy()
