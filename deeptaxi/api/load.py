"""Load models given as a run folder, a `.keras` file, a run, or a Keras model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deeptaxi.api.environments import EnvLike, EnvSpec, describe_object, open_by_name
from deeptaxi.api.report import check_comparable
from deeptaxi.api.run import Run
from deeptaxi.api.status import status
from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import Environment
from deeptaxi.storage.models import ModelSource, check_fits, find_model, load_network
from deeptaxi.storage.runs import read_facts

Model = str | Path | Run | Any  # any: a Keras model


def load(
    model: str | Path,
    env: EnvLike | None = None,
    *,
    env_args: Mapping[str, Any] | None = None,
    time_limit: int | None = None,
    trust_env: bool = False,
) -> Run:
    """Open a trained agent and its environment.

    Args:
        model: a run folder, or a `.keras` file, which needs `env`.
        env: environment to use instead of the model's own, as `train` takes it.
        env_args: arguments for `gymnasium.make`; they override the model's own.
        time_limit: steps after which an episode is truncated, instead of the environment's own limit.
        trust_env: whether to import the environment module that the run names, which executes its code.

    Raises:
        UsageError: the model does not exist, its environment is unknown, or it does not fit.
        DeepTaxiError: the model or the run folder is damaged.
    """
    return load_model(Path(model), EnvSpec(env, env_args or {}, time_limit, trust_env))


def load_model(model: Path, spec: EnvSpec) -> Run:
    """Open a trained agent and its environment, or the one that `spec` names. See `load`."""
    source = find_model(model)
    return load_source(source, spec.open_for(source.environment, source.name))


def load_source(source: ModelSource, environment: Environment) -> Run:
    """Load a model that was found and pair it with an open environment.

    Raises:
        UsageError: the model does not fit the environment.
        DeepTaxiError: the model is damaged.
    """
    with status("loading the model …"):
        network = load_network(source.path)
        check_fits(network, environment, source.name)
        run = Run(source.name, environment, network, source.config, **kept_in(source))
        _ = run.q_values  # computed now, so that failures surface here
    return run


def kept_in(source: ModelSource) -> dict[str, Any]:
    """Return the run folder of a model and the facts in it; empty for a bare file."""
    if source.config is None:
        return {}
    folder = source.path.parent
    return {"folder": folder, "facts": read_facts(folder)}


def load_comparable(folders: Sequence[Path], trust: bool) -> list[Run]:
    """Load runs of the same problem, sharing one environment.

    Raises:
        UsageError: one is not a run folder or is given twice, or their environments or objectives differ.
        DeepTaxiError: a model is damaged.
    """
    sources = [find_model(folder) for folder in folders]
    for folder, source in zip(folders, sources, strict=True):
        if source.config is not None and [other.resolve() for other in folders].count(folder.resolve()) > 1:
            raise UsageError(f"{folder} is given twice")
    first = check_comparable([source.name for source in sources], [source.config for source in sources])
    environment = open_by_name(first.environment, trust)
    return [load_source(source, environment) for source in sources]


def as_run(model: Model, spec: EnvSpec) -> Run:
    """Return a model as a run, on its own environment or the one that `spec` names.

    Raises:
        UsageError: the model does not exist, its environment is unknown, or it does not fit.
        DeepTaxiError: the model is damaged.
    """
    if isinstance(model, str | Path):
        return load_model(Path(model), spec)
    if not isinstance(model, Run):
        return run_of_keras(model, spec)
    environment = spec.open_for(model.environment, model.name)
    if environment is model.environment:
        return model
    check_network(model.network, environment, model.name)
    return dataclasses.replace(model, environment=environment, verdict=None, episodes=None)


def run_of_keras(model: Any, spec: EnvSpec) -> Run:
    """Return a Keras model as a run.

    Raises:
        UsageError: it is not a Keras model, no environment is given, or it does not fit.
    """
    network = network_in(model)
    if spec.env is None:
        raise UsageError("a Keras model does not record what it was trained on: pass its environment as env=…")
    from deeptaxi.network.policy_model import check_agent

    environment = spec.open()
    try:
        if network is not model:
            check_agent(model, network, environment.states)
    except ValueError as error:
        raise UsageError(f"{model.name} does not fit {environment.config.id}: {error}") from None
    check_network(network, environment, str(model.name))
    return Run(str(model.name), environment, network)


def network_in(model: Any) -> Any:
    """Return the Q-network of a Keras model; for an exported agent, the one inside it.

    Raises:
        UsageError: it is not a Keras model.
    """
    if not (hasattr(model, "inputs") and hasattr(model, "outputs") and callable(model)):
        what = "a run folder, a .keras file, a Run or a Keras model"
        raise UsageError(f"expected a model as {what}, received {describe_object(model)}")
    from deeptaxi.network.policy_model import q_network_of

    return q_network_of(model)


def check_network(network: Any, environment: Environment, name: str) -> None:
    """Reject a network, deeptaxi's or of Keras' own layers, that does not fit the environment.

    Raises:
        UsageError: its numbers of states or actions differ from the environment's.
    """
    from deeptaxi.network.inspect import check_foreign, is_ours

    if is_ours(network):
        check_fits(network, environment, name)
        return
    try:
        check_foreign(network, environment.states, environment.actions)
    except ValueError as error:
        raise UsageError(f"cannot inspect {name}: it has {error}") from None
