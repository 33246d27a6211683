"""Networks of the user's own: a Keras model, a function that builds one, or the name of such a function.

A function that can be imported is as good as its name, `module:function`. Anything else exists in this process alone,
and a run with it says so: `in-memory/Name`, and only with the object itself is it trained on.

Code that only a file names is imported if `--trust-env` says so, or if this user has trained with it and nothing of it
has changed since (`mdp.remembered`), as that of an environment is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deeptaxi.api.settings import nested
from deeptaxi.api.status import status
from deeptaxi.arguments import plain
from deeptaxi.backend import keras_backend
from deeptaxi.config import OBJECT, NetworkConfig, TrainConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.named_code import importable_name
from deeptaxi.mdp.remembered import remember_code

NetworkLike = str | Callable[..., Any]  # a Keras model is callable


@dataclass(frozen=True)
class GivenNetwork:
    """The network that a caller gives or allows.

    Attributes:
        value: the Keras model or the function, or None.
        trust: whether what the configuration names may be imported.
    """

    value: Any = None
    trust: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any], value: Any, trust: bool) -> GivenNetwork:
        """Return the network of nested settings that the user typed; who names a module trusts it."""
        return cls(value, trust or settings.get("network", {}).get("builder") is not None)


NOT_GIVEN = GivenNetwork()


def name_network(network: Any) -> tuple[str | None, Any]:
    """Return the name of a network, and the object itself if it is one.

    Raises:
        UsageError: it is neither a model, nor a function, nor a name.
    """
    if network is None or isinstance(network, str):
        return network, None
    if is_model(network):
        return OBJECT + identifier(type(network).__name__), network
    if not callable(network):
        raise UsageError(
            "expected a network as a Keras model, a function build(states, actions) that returns one, or its name "
            f"module:function, received an object of type {type(network).__name__}"
        )
    name = importable_name(network)
    return name or OBJECT + identifier(getattr(network, "__name__", "network")), network


def is_model(value: Any) -> bool:
    """Whether a value is a Keras model; Keras is not imported for it."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, keras.Model)


def identifier(name: Any) -> str:
    """Return a name if it can stand in an id, else a general one."""
    return name if isinstance(name, str) and name.isidentifier() else "network"


def check_network_name(network: NetworkConfig, given: GivenNetwork) -> None:
    """Reject a network that cannot be found, before anything is imported.

    Raises:
        UsageError: it was an object in memory and is not given, its module is not there, or it may not be imported.
    """
    if network.builder is None or given.value is not None:
        return
    if network.in_memory:
        raise UsageError(
            f"the network {network.builder.removeprefix(OBJECT)} was an object in memory, which no file holds: give it "
            "again in Python, network=…, or name a function that builds it, --network module:function"
        )
    from deeptaxi.network.named_builder import check_exists, trusted_folder

    trusted_folder(network.builder, network.kwargs or {}, given.trust)
    if given.trust:
        check_exists(network.builder)


def open_network(config: TrainConfig, environment: Environment, given: GivenNetwork) -> Any:
    """Return the network of the user's own that a configuration names, from states to Q values, with initial weights.

    None if it names none. Keras is started.

    Raises:
        UsageError: it does not exist, may not be imported, is no model for this environment, or its file could not be
            opened again.
    """
    if config.network.builder is None:
        return None
    check_network_name(config.network, given)
    with status("starting Keras …"):
        keras_backend.start()
    keras_backend.check_float32()
    from deeptaxi.learning.initial_network import seeds
    from deeptaxi.network.encodings import parts_of
    from deeptaxi.network.named_builder import build, find_builder, trusted_folder
    from deeptaxi.network.own import own_network
    from deeptaxi.storage.keras_file import check_openable

    sizes, kwargs = (environment.states, environment.actions), config.network.kwargs or {}
    shown = config.network.builder.removeprefix(OBJECT)
    seed, parts = int(seeds(config)[0].generate_state(1)[0]), parts_of(environment)
    with status("building the network …"):
        value = given.value
        if value is None:
            folder = trusted_folder(config.network.builder, kwargs, given.trust)
            value = find_builder(config.network.builder, folder)
        if is_model(value):
            if kwargs:
                raise UsageError(f"{shown} is a model already, and takes no arguments: give a function that builds it")
            model, name = value, f"the model {shown}"
        else:
            model = build(value, shown, sizes, parts.sizes or None, kwargs, seed)
            name = f"the model of {shown}" if is_model(model) else f"what {shown} returns"
        network = own_network(model, sizes, parts, name, seed)
        check_openable(network, name)
    return network


def remember_network(network: NetworkConfig) -> None:
    """Record the imported code of a network that is trained, as `remembered.remember` does of environments."""
    if network.builder is not None and not network.in_memory:
        remember_code(network.builder, network.kwargs or {})


def with_network(settings: Mapping[str, Any], kwargs: Mapping[str, Any] | None) -> tuple[dict[str, Any], Any]:
    """Return named settings nested as in a configuration, and their network if it is an object.

    Args:
        settings: training settings by name; `network` may be an object.
        kwargs: arguments of what builds the network.

    Raises:
        UsageError: a setting does not exist, or `network` is not a network.
    """
    name, value = name_network(settings.get("network"))
    values = nested({**settings, "network": name} if "network" in settings else settings)
    if kwargs:
        values["network"] = {**values.get("network", {}), "kwargs": plain(dict(kwargs))}
    return values, value
