"""Load models given as a run folder, a model file, a run, a Keras model, or an array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeptaxi.api.environments import EnvLike, EnvSpec, describe_object
from deeptaxi.api.report import check_comparable
from deeptaxi.api.run import Run
from deeptaxi.api.run_data import read_training_log
from deeptaxi.api.status import status
from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.spaces import amount
from deeptaxi.storage.arrays import check_decisions, decisions_of
from deeptaxi.storage.foreign import check_network, read_model
from deeptaxi.storage.models import ModelSource, find_model
from deeptaxi.storage.observations import FACT, renumber, restore_numbering
from deeptaxi.storage.runs import read_facts

Model = str | Path | Run | Any  # any: a Keras model, or an array with Q values [S, A] or a policy [S]


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
        model: a run folder; or a model file, which needs `env`: `.keras`, `.h5`, a Q table or policy (`.npy`, `.npz`,
            `.csv`, `.json`), `.onnx`, a SavedModel folder.
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
    source = find_model(model, spec.trust)
    return load_source(source, spec.open_for(source.environment, source.name))


def load_source(source: ModelSource, environment: Environment) -> Run:
    """Load a model that was found and pair it with an open environment.

    Raises:
        UsageError: the model does not fit the environment.
        DeepTaxiError: the model is damaged.
    """
    environment = number_as_saved(environment, source)
    with status("loading the model …"):
        network, array = read_model(source, environment)
        run = Run(source.name, environment, as_lazy(network), source.config, **kept_in(source), array=array)
        if environment.tabulated:
            _ = run.decisions  # computed now, so that failures surface here
    return run


def number_as_saved(environment: Environment, source: ModelSource) -> Environment:
    """Return an environment whose observations have the numbers that a model knows them by; see `storage.observations`.

    Raises:
        UsageError: nothing says how the model's observations were numbered.
        DeepTaxiError: the numbering is damaged.
    """
    if environment.numbering is None:
        return environment
    facts = {} if source.config is None else read_facts(source.path.parent)
    return restore_numbering(environment, source.path.parent, facts, source.name)


def kept_in(source: ModelSource) -> dict[str, Any]:
    """Return the run folder of a model, or the log that it has without one, and its facts; empty for a bare file."""
    if source.config is None:
        return {}
    folder = source.path.parent
    if source.weights is not None:  # of a compact group: the folder is temporary
        return {"training_log": read_training_log(folder), "facts": read_facts(folder)}
    return {"folder": folder, "facts": read_facts(folder)}


def load_comparable(folders: Sequence[Path], spec: EnvSpec) -> list[Run]:
    """Load runs and model files for the same problem, sharing one environment: the runs' own, else that of `spec`.

    Raises:
        UsageError: one is given twice, their environments or objectives differ, no run says the environment and none
            is given, or one is given although a run says it.
        DeepTaxiError: a model is damaged.
    """
    sources = [find_model(folder, spec.trust) for folder in folders]
    for folder in folders:
        if [other.resolve() for other in folders].count(folder.resolve()) > 1:
            raise UsageError(f"{folder} is given twice")
    first = check_comparable([source.name for source in sources], [source.config for source in sources])
    if first is not None and spec.env is not None:
        raise UsageError(
            f"--env is for model files that do not say it; the runs named here have {first.environment.id}"
        )
    check_numbered_alike([source for source in sources if source.config is not None])
    environment = spec.open_for(first.environment if first else None, sources[0].name)
    return [load_source(source, environment) for source in sources]


def check_numbered_alike(sources: Sequence[ModelSource]) -> None:
    """Reject runs that know the same observations by different numbers.

    Raises:
        UsageError: two do.
    """
    digests = [read_facts(source.path.parent).get(FACT) for source in sources]
    for source, digest in zip(sources, digests, strict=True):
        if digest != digests[0]:
            raise UsageError(
                f"{source.name} and {sources[0].name} have seen other observations, or in another order, so that "
                "states are not the same: write a separate report on each"
            )


def as_run(model: Model, spec: EnvSpec) -> Run:
    """Return a model as a run, on its own environment or the one that `spec` names.

    Raises:
        UsageError: the model does not exist, its environment is unknown, or it does not fit.
        DeepTaxiError: the model is damaged.
    """
    if isinstance(model, str | Path):
        return load_model(Path(model), spec)
    if not isinstance(model, Run):
        return run_of_object(model, spec)
    environment = spec.open_for(model.environment, model.name)
    if environment is model.environment:
        return model if model.not_evaluated is None else replace(model, not_evaluated=None)
    environment = number_alike(environment, model.environment)
    if model.network is not None:
        check_network(model.network, environment, model.name)
    array = None if model.array is None else check_decisions(model.array, environment, model.name)
    return replace(model, environment=environment, verdict=None, episodes=None, array=array, not_evaluated=None)


def number_alike(environment: Environment, own: Environment) -> Environment:
    """Return an environment whose observations have the numbers that they have in a model's own.

    Raises:
        UsageError: its observations are those of another space.
    """
    codec = own.numbering
    if codec is None or environment.numbering is None:
        return environment
    if codec.combinations != environment.numbering.combinations:
        raise UsageError(
            f"{environment.config.id} has {amount(environment.numbering.combinations)} combinations of observations, "
            f"where the model's environment has {amount(codec.combinations)}: name its own with env="
        )
    return renumber(environment, replace(environment.numbering, capacity=codec.capacity, numbering=codec.numbering))


def run_of_object(model: Any, spec: EnvSpec) -> Run:
    """Return a Keras model or an array as a run.

    Raises:
        UsageError: it is neither, no environment is given, or it does not fit.
    """
    is_array = is_array_like(model)
    network = None if is_array else network_in(model)
    if spec.env is None:
        kind = "an array" if is_array else "a Keras model"
        raise UsageError(f"{kind} does not record what it was trained on: pass its environment as env=…")
    environment = spec.open()
    if environment.numbering is not None:
        environment = restore_numbering(environment, Path(), {}, "an array" if is_array else "a Keras model")
    if is_array:
        array = decisions_of(model, environment)
        return Run("Q table" if array.ndim > 1 else "policy", environment, None, array=array)
    from deeptaxi.network.policy_model import check_agent

    try:
        if network is not model and hasattr(model, "inputs"):
            check_agent(model, network, environment.states)
    except ValueError as error:
        raise UsageError(f"{model.name} does not fit {environment.config.id}: {error}") from None
    check_network(network, environment, str(model.name))
    return Run(str(model.name), environment, as_lazy(network))


def as_lazy(network: Any) -> Any:
    """Return a Keras model as a run has it, a `LazyNetwork`; None for None."""
    if network is None:
        return None
    from deeptaxi.network.lazy import LazyNetwork

    return LazyNetwork.of(network)


def is_array_like(model: Any) -> bool:
    """Return whether a model is given as an array, nested lists, or what NumPy takes for one."""
    return isinstance(model, list | tuple) or (hasattr(model, "__array__") and not callable(model))


def functional_of(model: Any) -> Any:
    """Return a functional model of a subclassed Keras model that has been called; None for anything else."""
    configured = model.get_build_config() if callable(model) and hasattr(model, "get_build_config") else None
    shape = (configured or {}).get("input_shape")
    if not shape:
        return None
    import keras

    try:
        taken = keras.Input(tuple(shape[1:]))
        return keras.Model(taken, model(taken), name=model.name)
    except Exception:  # its own code may raise anything for symbolic inputs
        return None


def network_in(model: Any) -> Any:
    """Return the Q-network of a Keras model; for an exported agent, the one inside it.

    Raises:
        UsageError: it is not a Keras model.
    """
    if not (hasattr(model, "inputs") and hasattr(model, "outputs") and callable(model)):
        built = functional_of(model)
        if built is not None:
            return built
        what = "a run folder, a model file, a Run, a Keras model or an array"
        raise UsageError(f"expected a model as {what}, received {describe_object(model)}")
    from deeptaxi.network.policy_model import q_network_of

    return q_network_of(model)
